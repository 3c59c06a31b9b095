//! Damage of every kind, and that it is found.

use std::sync::OnceLock;

use proptest::prelude::*;

use super::{
    super::{
        chain::KEPT_HEADS,
        verify::{AGAIN, MAX_WAIT, verify_chain_again},
    },
    *,
};

/// Names and contents of files.
type Files = Vec<(String, Vec<u8>)>;

/// The files of a chain of three files of which the first was removed by age, with checkpoints in both that
/// are left, as names and contents.
fn sample() -> &'static [(String, Vec<u8>)] {
    static SAMPLE: OnceLock<Files> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let folder = private_folder();
        let writer = folder.path().join("w");
        fs::create_dir(&writer).unwrap();
        let now = SystemClock.now();
        let mut chain = Chain::open_private(&writer, &options(folder.path()), now);
        for file in 0..3 {
            for number in 0..6 {
                append(&mut chain, now, number);
                if number == 3 {
                    chain.checkpoint(now).unwrap();
                }
            }
            if file < 2 {
                chain.rotation = Rotation::from(&Options {
                    max_file_size: 1,
                    keep_files: NonZeroU32::new(2),
                    ..Options::new(PathBuf::new())
                });
                chain.rotate_if_due(now).unwrap();
            }
        }
        let notice = Notice { what: What::Stopped, detail: None };
        chain.append(&[Pending::new(now, &Entry::Notice(notice))], false).unwrap();
        let mut files: Vec<_> = folder::files(&chain.folder).unwrap();
        files.push((0, head::Head::path(&chain.folder)));
        files.push((0, chain.folder.join(KEPT_HEADS)));
        files.push((0, chain.folder.join(keys::FILE)));
        let content = |(_, path): (u32, PathBuf)| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        };
        let files: Vec<_> = files.into_iter().map(content).collect();
        assert_eq!(verify_files(&files).1.broken, None);
        files
    })
}

fn verify_files(files: &[(String, Vec<u8>)]) -> (TempDir, ChainReport) {
    let folder = private_folder();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let report = verify_chain(folder.path(), &[]);
    (folder, report)
}

/// A `head` that nobody signed, of any line that there was or is, with the end cut off before or after it.
fn forged_head(mut files: Files, at: usize, by: u8) -> (Files, String, Option<u64>) {
    files.retain(|(name, _)| name != keys::FILE);
    let last = &mut files[1].1;
    let lines: Vec<_> = last.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let kept = lines[..=at % lines.len()].concat();
    let end = Parsed::read(kept.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap());
    *last = kept;
    let head = files.iter_mut().find(|(name, _)| name == "head").unwrap();
    let text = std::str::from_utf8(&head.1).unwrap().lines().next().unwrap();
    let mut forged: serde_json::Value = serde_json::from_str(text).unwrap();
    forged["seq"] = (u64::from(by) % (end.unwrap().seq + 1)).into();
    forged["signature"] = "00".into();
    head.1 = head::block(&forged.to_string(), head::BLOCK).into_bytes();
    (files, "head".to_owned(), None)
}

/// What is done to the sample, and the place where that must be found.
fn damaged(kind: u8, at: usize, by: u8) -> (Files, String, Option<u64>) {
    let mut files = sample().to_vec();
    if kind == 0 {
        // Any byte of any file but the keys, of which those to come are nobody's yet.
        let lengths = files.iter().filter(|(name, _)| name != keys::FILE);
        let mut at = at % lengths.map(|(_, content)| content.len()).sum::<usize>();
        let file = files.iter().position(|(_, content)| {
            let here = at < content.len();
            at -= if here { 0 } else { content.len() };
            here
        });
        let (name, content) = &mut files[file.unwrap()];
        let newlines = content[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
        content[at] ^= by;
        let line = (name != "head").then_some(newlines + 1);
        let name = name.clone();
        return (files, name, line);
    }
    let file = at % 2;
    let (name, content) = &mut files[file];
    let name = name.clone();
    let mut lines: Vec<Vec<u8>> =
        content.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let line = (at / 2) % lines.len();
    let place = Some(line as u64 + 1);
    match kind {
        1 => drop(lines.remove(line)),
        2 => {
            let line = line.min(lines.len() - 2);
            lines.swap(line, line + 1);
            let bytes = lines.concat();
            files[file].1 = bytes;
            return (files, name, Some(line as u64 + 1));
        }
        3 => lines.truncate(line),
        4 => {
            let length: usize = lines[..line].iter().map(Vec::len).sum();
            content.truncate(length + usize::from(by) % lines[line].len());
            return (files, name, place);
        }
        5 => {
            let again = lines[line].clone();
            lines.insert(line, again);
            *content = lines.concat();
            return (files, name, place.map(|line| line + 1));
        }
        6 => {
            files.remove(file);
            return (files, name, None);
        }
        _ => return forged_head(files, at, by),
    }
    *content = lines.concat();
    (files, name, place)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_change_is_found_and_its_place_is_named(
        kind in prop_oneof![4 => Just(0_u8), 3 => 1..6_u8, 1 => Just(6_u8), 2 => Just(7_u8)],
        at in any::<usize>(),
        by in 1..=255_u8,
    ) {
        let (files, name, line) = damaged(kind, at, by);
        let (_folder, report) = verify_files(&files);
        let broken = report.broken;
        prop_assert!(broken.is_some(), "{kind} {name} {line:?}");
        let broken = broken.unwrap();
        prop_assert_eq!((&broken.file, broken.line), (&name, line), "{} {:?}", kind, broken);
    }
}

#[test]
fn an_end_that_was_cut_off_after_files_were_removed_is_missed() {
    // As it was found: no keys, and a head of a line that is in none of the files any more.
    let (mut files, _, _) = forged_head(sample().to_vec(), 3, 0);
    let (_folder, report) = verify_files(&files);
    let broken = report.broken.expect("broken");
    assert_eq!(broken.file, "head");
    assert!(broken.what.contains("line 0, which is in none of the files"), "{broken:?}");
    // Without the files that are left, too.
    files.retain(|(name, _)| !name.ends_with(".jsonl"));
    assert!(verify_files(&files).1.broken.is_some());
}

#[tokio::test]
async fn a_line_after_the_end_of_a_chain_is_proved_by_nothing_and_said_to_be() {
    for stopped in [true, false] {
        let folder = private_folder();
        if stopped {
            write(&options(folder.path()), 0..3).await;
        } else {
            let writer = folder.path().join("server-1");
            fs::create_dir(&writer).unwrap();
            let now = SystemClock.now();
            let mut chain = Chain::open_private(&writer, &options(folder.path()), now);
            append(&mut chain, now, 1);
            chain.checkpoint(now).unwrap();
        }
        let chain = folder.path().join("server-1/000001");
        fs::remove_file(chain.join(keys::FILE)).unwrap();
        let before = whole(folder.path());
        assert_eq!(before.unproved, None);
        let (seq, prev) = before.last.unwrap();
        let entry = Entry::Request(Box::new(record(9)));
        let line = Pending::new(SystemClock.now(), &entry).render(seq + 1, &prev);
        let path = chain.join("000001.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{line}\n")).unwrap();
        let after = report(folder.path());
        if stopped {
            assert_eq!(after.broken.expect("broken").seq, Some(seq + 1));
        } else {
            assert_eq!(after.broken, None);
            let unproved = after.unproved.expect("unproved");
            assert_eq!((&*unproved.file, unproved.seq), ("000001.jsonl", Some(seq + 1)));
            // Whoever waits for `head` to follow waits in vain, and not for long.
            let reports = verify(folder.path(), &[]).unwrap();
            assert_eq!(reports[0].unproved, Some(unproved));
        }
    }
}

/// A chain whose last line is there and `head` does not tell of it yet, and that `head` as it will be.
fn unfinished(folder: &Path) -> (Chain, Vec<u8>) {
    let writer = folder.join("server-1");
    fs::create_dir(&writer).unwrap();
    let now = SystemClock.now();
    let mut chain = Chain::open_private(&writer, &options(folder), now);
    let head = head::Head::path(&chain.folder);
    let before = fs::read(&head).unwrap();
    append(&mut chain, now, 1);
    let after = fs::read(&head).unwrap();
    fs::write(&head, before).unwrap();
    (chain, after)
}

#[test]
fn a_server_at_work_is_given_time_to_prove_its_lines_and_nobody_else() {
    let folder = private_folder();
    let (chain, head) = unfinished(folder.path());
    let mut waited = Duration::ZERO;
    // Nobody is at work: once more, should one have just ended.
    let report = verify_chain_again(&chain.folder, &[], &mut |time| waited += time);
    assert!(report.unproved.is_some());
    assert_eq!(waited, AGAIN);

    let lock = folder::Lock::take(&folder.path().join("server-1")).unwrap().expect("the lock");
    waited = Duration::ZERO;
    let report = verify_chain_again(&chain.folder, &[], &mut |time| waited += time);
    assert!(report.unproved.is_some());
    assert_eq!(waited, MAX_WAIT);

    // A disk that takes almost as long.
    waited = Duration::ZERO;
    let report = verify_chain_again(&chain.folder, &[], &mut |time| {
        waited += time;
        if waited + AGAIN >= MAX_WAIT {
            fs::write(head::Head::path(&chain.folder), &head).unwrap();
        }
    });
    assert_eq!((report.broken, report.unproved), (None, None));
    drop(lock);
}

#[test]
fn lines_of_a_server_at_work_are_not_taken_for_unproved_ones() {
    let folder = private_folder();
    let (mut chain, mut head) = unfinished(folder.path());
    let path = head::Head::path(&chain.folder);
    let _lock = folder::Lock::take(&folder.path().join("server-1")).unwrap().expect("the lock");
    // At each look there is a line of which `head` does not tell, and never the same.
    let mut looks = 0;
    let place = chain.folder.clone();
    let report = verify_chain_again(&place, &[], &mut |_| {
        assert!(verify_chain(&place, &[]).unproved.is_some());
        append(&mut chain, SystemClock.now(), 2);
        let next = fs::read(&path).unwrap();
        fs::write(&path, std::mem::replace(&mut head, next)).unwrap();
        looks += 1;
    });
    assert_eq!((report.broken, report.unproved, looks), (None, None, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_at_work_is_found_whole() {
    let folder = private_folder();
    let log = AuditLog::start(&options(folder.path()), Arc::new(SystemClock)).unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let load = tokio::spawn({
        let (log, stop) = (log.clone(), Arc::clone(&stop));
        async move {
            let mut written = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                log.record(record(written)).await.unwrap();
                written += 1;
            }
        }
    });
    for _ in 0..5 {
        let report = verify(folder.path(), &[]).unwrap().remove(0);
        assert_eq!((&report.broken, &report.unproved), (&None, &None));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    load.await.unwrap();
    log.close().await;
    assert_eq!(whole(folder.path()).unproved, None);
}

#[test]
fn notes_beyond_those_that_are_listed_are_counted_each_by_its_kind() {
    let folder = private_folder();
    let writer = folder.path().join("w");
    fs::create_dir(&writer).unwrap();
    let now = SystemClock.now();
    let mut chain = Chain::open_private(&writer, &options(folder.path()), now);
    for (what, count) in [(What::Lost, 70), (What::Tampered, 40), (What::Resumed, 5)] {
        let notice = Entry::Notice(Notice { what, detail: None });
        chain.append(&vec![Pending::new(now, &notice); count], false).unwrap();
    }
    let report = verify_chain(&chain.folder, &[]);
    assert_eq!((report.notes.len(), report.more_notes), (100, 15));
    let told = Told { lost: 70, tampered: 40, ..Told::default() };
    assert_eq!(report.told, told);
}

#[tokio::test]
async fn files_of_a_chain_in_the_folder_of_chains_hide_none_of_them() {
    let folder = private_folder();
    write(&options(folder.path()), 0..3).await;
    let chain = folder.path().join("server-1/000001");
    let count = |folder: &Path| {
        let reports = verify(folder, &[]).unwrap();
        (reports.len(), reports.iter().filter(|report| report.broken.is_some()).count())
    };
    for place in [folder.path(), &folder.path().join("server-1"), &chain] {
        assert_eq!(count(place), (1, 0), "{place:?}");
    }
    for name in ["head", "000001.jsonl"] {
        for place in [folder.path(), &folder.path().join("server-1")] {
            let decoy = place.join(name);
            fs::copy(chain.join(name), &decoy).unwrap();
            assert_eq!(count(folder.path()), (2, 1), "{decoy:?}");
            fs::remove_file(&decoy).unwrap();
        }
    }
    // A copy of a chain beside the writers is one more chain.
    copy(&chain, &folder.path().join("copied"));
    assert_eq!(count(folder.path()), (2, 0));
}

#[tokio::test]
async fn any_number_of_missing_chains_is_one_report() {
    let folder = private_folder();
    write(&options(folder.path()), 0..3).await;
    let decoy = folder.path().join("server-1/4294967295");
    fs::create_dir(&decoy).unwrap();
    make_private(&decoy);
    let reports = verify(folder.path(), &[]).unwrap();
    assert_eq!(reports.len(), 3, "{reports:?}");
    assert_eq!(reports[0].broken, None);
    assert_eq!(reports[1].broken.as_ref().unwrap().what, "the chains up to 4294967294 are missing");
    // There is no number after the last one; a start must not fail over it.
    write(&options(folder.path()), 3..4).await;
}
