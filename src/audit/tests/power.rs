//! A power cut: lines are gone that the disk had not got yet, and `head` may tell of them all the same.

use super::*;

/// A chain whose last three lines the disk has not got. Gives where they begin and where each ends.
fn unsynced(folder: &Path) -> (Chain, Vec<u64>) {
    let writer = folder.join("w");
    fs::create_dir(&writer).unwrap();
    let now = SystemClock.now();
    let mut chain = Chain::open_private(&writer, &options(folder), now);
    append(&mut chain, now, 1);
    chain.checkpoint(now).unwrap();
    let entry = Entry::Request(Box::new(record(2)));
    chain.append(&[Pending::new(now, entry)], true).unwrap();
    let mut ends = vec![chain.length];
    for number in 3..6 {
        append(&mut chain, now, number);
        ends.push(chain.length);
    }
    (chain, ends)
}

/// The chain that a start goes on with, and a look at that of before.
fn restarted(chain: &Chain, damage: impl Fn(&Path)) -> (Chain, ChainReport, TempDir) {
    let folder = private_folder();
    copy(&chain.folder, &folder.path().join("000001"));
    damage(&folder.path().join("000001/000001.jsonl"));
    let before = verify_chain(&folder.path().join("000001"), &[]);
    let now = SystemClock.now();
    let mut next = Chain::open_private(folder.path(), &options(folder.path()), now);
    append(&mut next, now, 9);
    next.checkpoint(now).unwrap();
    (next, before, folder)
}

fn set_length(path: &Path, length: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

#[test]
fn what_a_power_cut_takes_is_told_of_and_the_chain_goes_on() {
    let folder = private_folder();
    let (chain, ends) = unsynced(folder.path());
    // Head, record, checkpoint and the record that the disk has are lines 0 to 3.
    for (length, padded, first_lost) in [
        (ends[0], false, 4),
        (ends[0] + 10, false, 4),
        (ends[1], false, 5),
        (ends[1], true, 5),
        (ends[2] - 1, true, 5),
        (ends[3] - 1, false, 6),
    ] {
        let (next, before, _folder) = restarted(&chain, |path| {
            set_length(path, length);
            // The length is there, what was written is not.
            if padded {
                set_length(path, ends[3]);
            }
        });
        assert_eq!(next.id, chain.id, "{length} {padded}");
        // Until then, it is a cut; whether it was the power, nobody has said.
        let cut = before.broken.expect("broken");
        assert!(padded || cut.what.contains("which the disk had not got yet"), "{cut:?}");
        let report = verify_chain(&next.folder, &[]);
        assert_eq!((&report.broken, &report.unproved), (&None, &None));
        let told =
            format!("records were lost: lines {first_lost} to 6, which the disk had not got");
        assert!(report.notes.iter().any(|note| note.contains(&told)), "{told}: {report:?}");
    }
}

#[test]
fn what_no_power_cut_does_begins_a_new_chain() {
    let folder = private_folder();
    let (chain, ends) = unsynced(folder.path());
    let damages: [&dyn Fn(&Path); 4] = [
        // The disk had that.
        &|path| set_length(path, ends[0] - 1),
        &|path| change(path, "OKMS.2", "OKMS.7"),
        // A line that was changed and not lost.
        &|path| change(path, "OKMS.5", "OKMS.7"),
        &|path| {
            set_length(path, ends[2]);
            change(path, "OKMS.3", "OKMS.7");
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let (next, before, _folder) = restarted(&chain, damage);
        assert!(before.broken.is_some(), "{number}");
        // Not at the end: that is for `verify`, which goes on to find it.
        if number == 1 {
            assert_eq!(next.id, chain.id);
            assert!(verify_chain(&next.folder, &[]).broken.is_some());
        } else {
            assert_ne!(next.id, chain.id, "{number}");
        }
    }
    // A `head` of somebody else's making explains nothing.
    let (next, _, _folder) = restarted(&chain, |path| {
        set_length(path, ends[1]);
        let head = path.with_file_name("head");
        change(&head, "\"synced\":{\"length\":", "\"synced\": {\"length\":");
        let text = fs::read_to_string(&head).unwrap();
        // The block keeps its length.
        fs::write(&head, text.replacen(" \n", "\n", 1)).unwrap();
    });
    assert_ne!(next.id, chain.id);
}
