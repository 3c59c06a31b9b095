//! A power cut: lines are gone that the disk had not got yet, and `head` may tell of them all the same.

use super::*;

/// A chain whose last three lines the disk has not got. Gives where they begin and where each ends.
pub(super) fn unsynced(folder: &Path) -> (Chain, Vec<u64>) {
    let writer = folder.join("w");
    fs::create_dir(&writer).unwrap();
    let now = SystemClock.now();
    let mut chain = Chain::open_private(&writer, &options(folder), now);
    append(&mut chain, now, 1);
    chain.checkpoint(now).unwrap();
    let entry = Entry::Request(Box::new(record(2)));
    chain.append(&[Pending::new(now, &entry)], true).unwrap();
    let mut ends = vec![chain.length];
    for number in 3..6 {
        append(&mut chain, now, number);
        ends.push(chain.length);
    }
    (chain, ends)
}

/// The chain that a start goes on with, and a look at that of before.
pub(super) fn restarted(chain: &Chain, damage: impl Fn(&Path)) -> (Chain, ChainReport, TempDir) {
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

pub(super) fn set_length(path: &Path, length: u64) {
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

/// Has zeros in the place of ten bytes.
fn zero(path: &Path, at: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 10], at).unwrap();
}

#[test]
fn whole_lines_after_zeros_that_a_power_cut_left_go_with_those_before() {
    let folder = private_folder();
    let (chain, ends) = unsynced(folder.path());
    for (at, first_lost) in [(ends[0], 4), (ends[0] + 10, 4), (ends[1] - 5, 4), (ends[1], 5)] {
        let (next, before, _folder) = restarted(&chain, |path| zero(path, at));
        assert!(before.broken.is_some());
        assert_eq!(next.id, chain.id, "{at}");
        let report = verify_chain(&next.folder, &[]);
        assert_eq!((&report.broken, &report.unproved), (&None, &None));
        let told = format!("lines {first_lost} to 6, which the disk had not got");
        assert!(report.notes.iter().any(|note| note.contains(&told)), "{told}: {report:?}");
    }
}

#[test]
fn what_no_power_cut_does_begins_a_new_chain() {
    let folder = private_folder();
    let (chain, ends) = unsynced(folder.path());
    let damages: [&dyn Fn(&Path); 7] = [
        // The disk had that.
        &|path| set_length(path, ends[0] - 1),
        &|path| change(path, "OKMS.2", "OKMS.7"),
        &|path| zero(path, ends[0] - 20),
        // No line of this chain came after that.
        &|path| {
            let text = fs::read_to_string(path).unwrap();
            fs::write(path, text + "\0\n").unwrap();
        },
        &|path| {
            zero(path, ends[2]);
            change(path, "OKMS.3", "OKMS.7");
        },
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
        assert_ne!(next.id, chain.id, "{number}");
    }
    // A `head` of somebody else's making explains nothing.
    for damage in [set_length, zero] {
        let (next, _, _folder) = restarted(&chain, |path| {
            damage(path, ends[1]);
            let head = path.with_file_name("head");
            change(&head, "\"synced\":{\"length\":", "\"synced\": {\"length\":");
            let text = fs::read_to_string(&head).unwrap();
            // The block keeps its length.
            fs::write(&head, text.replacen(" \n", "\n", 1)).unwrap();
        });
        assert_ne!(next.id, chain.id);
    }
}

#[test]
fn a_start_that_is_killed_or_finds_no_room_leaves_what_it_found_to_be_told() {
    let folder = private_folder();
    let (chain, ends) = unsynced(folder.path());
    let told = "records were lost: lines 5 to 6, which the disk had not got";
    let rotation = || Rotation::from(&options(folder.path()));
    let now = SystemClock.now();
    for killed in [true, false] {
        let started = folder.path().join(format!("started-{killed}"));
        let place = started.join("000001");
        copy(&chain.folder, &place);
        set_length(&place.join("000001.jsonl"), ends[1]);
        let head = fs::read(place.join("head")).unwrap();
        let Ok(mut next) = recovery::recover(&place, Ends::Signed, rotation(), now) else {
            panic!("it goes on")
        };
        assert_eq!(fs::read(place.join("head")).unwrap(), head, "nothing is told yet");
        if killed {
            drop(next);
            next = Chain::open_private(&started, &options(folder.path()), now);
        } else {
            // As if the disk refused.
            let (file, aside) = (place.join("000001.jsonl"), place.join("aside"));
            fs::rename(&file, &aside).unwrap();
            assert!(next.append(&[], true).is_err());
            assert_eq!(fs::read(place.join("head")).unwrap(), head);
            fs::rename(&aside, &file).unwrap();
            // As if it took what had been there, and then nothing more.
            next.unsynced = true;
            let what = Notice { what: What::Resumed, detail: Some("x".repeat(MAX_LINE)) };
            assert!(next.append(&[Pending::new(now, &Entry::Notice(what))], true).is_err());
            assert!(!next.unsynced);
            assert_eq!(fs::read(place.join("head")).unwrap(), head);
            append(&mut next, now, 9);
            next.checkpoint(now).unwrap();
        }
        assert_eq!(next.id, chain.id);
        let report = verify_chain(&place, &[]);
        assert_eq!((&report.broken, report.unsigned, report.told.lost), (&None, 0, 1));
        assert!(report.notes.iter().any(|note| note.contains(told)), "{report:?}");
    }
}

#[test]
fn a_power_cut_may_take_a_checkpoint_that_was_on_its_way() {
    let folder = private_folder();
    let (mut chain, mut ends) = unsynced(folder.path());
    let now = SystemClock.now();
    let keys = fs::read(chain.folder.join("signing_keys")).unwrap();
    chain.checkpoint_behind(now).unwrap();
    ends.push(chain.length);
    append(&mut chain, now, 6);
    ends.push(chain.length);
    // It is signed by the key that the checkpoint names, and does not vouch for that.
    let head = fs::read(chain.folder.join("head")).unwrap();
    chain.settle().unwrap();
    assert_ne!(fs::read(chain.folder.join("signing_keys")).unwrap(), keys, "they go on");
    assert_ne!(fs::read(chain.folder.join("head")).unwrap(), head, "it vouches for more");
    // Head, record, checkpoint and the record that the disk has are lines 0 to 3; the one on its way is line 7.
    for (at, length) in ends.iter().enumerate() {
        let (next, before, _folder) = restarted(&chain, |path| {
            set_length(path, *length);
            let place = path.parent().unwrap();
            fs::write(place.join("signing_keys"), &keys).unwrap();
            fs::write(place.join("head"), &head).unwrap();
        });
        assert_eq!(next.id, chain.id, "{length}");
        let is_whole = at == ends.len() - 1;
        match &before.broken {
            Some(broken) => assert!(broken.what.contains("its power may have been cut"), "{at}"),
            None => assert!(is_whole, "{at}"),
        }
        let report = verify_chain(&next.folder, &[]);
        assert_eq!((&report.broken, report.unsigned), (&None, 0));
        assert_eq!(report.told.lost, u64::from(!is_whole), "{at}: {report:?}");
    }
    // Nor is it the end of a chain whose lines the disk had.
    let (other, _, _folder) = restarted(&chain, |path| {
        set_length(path, ends[0] - 1);
        let place = path.parent().unwrap();
        fs::write(place.join("signing_keys"), &keys).unwrap();
        fs::write(place.join("head"), &head).unwrap();
    });
    assert_ne!(other.id, chain.id);
}

#[test]
fn no_power_cut_takes_the_line_that_an_auditor_is_to_note_down() {
    let folder = private_folder();
    let (chain, ends) = unsynced(folder.path());
    let report = verify_chain(&chain.folder, &[]);
    let seen = |line: &Option<(u64, String)>| {
        let (seq, hash) = line.clone().expect("a line");
        Seen { chain: chain.id.clone(), seq, hash }
    };
    let (proved, last) = (seen(&report.proved), seen(&report.last));
    assert_eq!((proved.seq, last.seq), (2, 6));
    let (next, _, _folder) = restarted(&chain, |path| set_length(path, ends[0]));
    let after = verify_chain(&next.folder, std::slice::from_ref(&proved));
    assert_eq!(after.broken, None);
    // The last one of all is gone, and its number is that of another.
    assert!(verify_chain(&next.folder, &[last]).broken.is_some());

    // A checkpoint is not proved before the disk has it, of which `head` tells.
    let place = folder.path().join("signed");
    copy(&chain.folder, &place);
    let mut chain = chain;
    chain.checkpoint(SystemClock.now()).unwrap();
    fs::copy(chain.folder.join("000001.jsonl"), place.join("000001.jsonl")).unwrap();
    assert_eq!(verify_chain(&chain.folder, &[]).proved.unwrap().0, 7);
    let before = verify_chain(&place, &[]);
    assert_eq!((before.broken, before.last.unwrap().0), (None, 7));
    assert_eq!(before.proved.unwrap().0, 2);
}

#[test]
fn where_a_disk_fails_to_take_a_change_the_records_before_are_written_once_more() {
    let folder = private_folder();
    let (mut chain, ends) = unsynced(folder.path());
    let now = SystemClock.now();
    let path = chain.folder.join("000001.jsonl");
    let aside = chain.folder.join("aside");
    let mut lock = folder::Lock::take(&folder.path().join("w")).unwrap().expect("the lock");
    let (length, head) = (chain.length, fs::read(chain.folder.join("head")).unwrap());
    // A place that takes lines, and of which no disk takes any.
    fs::rename(&path, &aside).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    let file = std::mem::replace(&mut chain.file, folder::open(&path).unwrap());
    chain.length = 0;
    let entry = || Pending::new(now, &Entry::Request(Box::new(record(6))));
    assert!(chain.append_or_leave(&[entry()], true, now, &mut lock).is_err());
    assert_eq!(fs::read(chain.folder.join("head")).unwrap(), head, "nothing is vouched for");

    // It takes them again, and has not those of before, as far as is known.
    fs::rename(&aside, &path).unwrap();
    set_length(&path, ends[0]);
    set_length(&path, length);
    (chain.file, chain.length) = (file, length);
    chain.append_or_leave(&[entry()], true, now, &mut lock).unwrap();
    assert!(!chain.unsynced);
    chain.checkpoint(now).unwrap();
    append(&mut chain, now, 7);
    chain.checkpoint(now).unwrap();
    assert_eq!(chain.number, 1);
    let report = verify_chain(&chain.folder, &[]);
    assert_eq!((&report.broken, report.told.lost, report.lines), (&None, 0, 11));
}
