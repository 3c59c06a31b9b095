//! Files end by size and age, and the oldest are removed.

use super::*;

#[tokio::test]
async fn files_end_by_size_and_the_oldest_go_without_breaking_the_way_from_the_first_key() {
    let folder = private_folder();
    let mut options = options(folder.path());
    options.max_file_size = 1_500;
    write(&options, 0..30).await;
    let chain = folder.path().join("server-1/000001");
    let before = whole(folder.path());
    assert!(folder::files(&chain).unwrap().len() > 3);
    options.keep_files = NonZeroU32::new(2);
    write(&options, 30..40).await;
    let after = whole(folder.path());
    assert_eq!(folder::files(&chain).unwrap().len(), 2);
    assert_eq!(after.first_key, before.first_key, "the first key still vouches for the rest");
    assert!(after.notes.iter().any(|note| note.contains("removed by age")), "{after:?}");

    // Files that are gone are counted, and what was seen in them is not said to be there.
    let first = lines(&chain)[0].seq;
    assert_eq!(u64::from(folder::files(&chain).unwrap()[0].0), after.told.removed + 1);
    let seen = |seq| Seen { chain: after.chain.clone(), seq, hash: "0".repeat(64) };
    let report_of_seen = verify_chain(&chain, &[seen(first - 1)]);
    assert_eq!((report_of_seen.broken, report_of_seen.seen_removed), (None, vec![first - 1]));
    let report_of_seen = verify_chain(&chain, &[seen(first)]);
    assert!(report_of_seen.broken.is_some() && report_of_seen.seen_removed.is_empty());

    // Whoever removes one more, with or without its first line kept, is found out.
    let (number, oldest) = folder::files(&chain).unwrap().remove(0);
    let text = fs::read_to_string(&oldest).unwrap();
    fs::remove_file(&oldest).unwrap();
    let broken = report(folder.path()).broken.expect("broken");
    assert_eq!(broken.file, folder::file_name(number));
    let kept = chain.join(chain::KEPT_HEADS);
    let heads = fs::read_to_string(&kept).unwrap();
    let forged = format!("{heads}{}\n", text.lines().next().unwrap());
    fs::write(&kept, forged).unwrap();
    let broken = report(folder.path()).broken.expect("broken");
    assert_eq!(broken.file, folder::file_name(number), "{broken:?}");
}

#[test]
fn numbers_rise_over_files_that_were_removed() {
    let folder = private_folder();
    let writer = folder.path().join("w");
    fs::create_dir(&writer).unwrap();
    let keep_files = NonZeroU32::new(1);
    let options = Options { max_file_size: 1, keep_files, ..options(folder.path()) };
    let now = SystemClock.now();
    let mut chain = Chain::open_private(&writer, &options, now);
    let mut rotated = |seq: Option<u64>| {
        append(&mut chain, now, 1);
        chain.checkpoint(now).unwrap();
        chain.seq = seq.unwrap_or(chain.seq);
        chain.rotate_if_due(now).unwrap();
        verify_chain(&chain.folder, &[])
    };
    assert_eq!((rotated(None).broken, rotated(None).broken), (None, None));
    // As whoever holds the keys could: with fewer lines than there were.
    let broken = rotated(Some(1)).broken.expect("broken");
    assert_eq!((broken.file.as_str(), broken.line), ("000004.jsonl", Some(1)), "{broken:?}");
    assert!(broken.what.starts_with("line 1 cannot come after line "), "{broken:?}");
    let broken = rotated(None).broken.expect("broken");
    assert_eq!((broken.file.as_str(), broken.line), (chain::KEPT_HEADS, Some(4)), "{broken:?}");
}

#[tokio::test]
async fn a_file_that_is_old_enough_ends_with_the_next_record() {
    let folder = private_folder();
    let options = options(folder.path());
    let writer = folder.path().join("w");
    fs::create_dir(&writer).unwrap();
    let now = SystemClock.now();
    let mut chain = Chain::open_private(&writer, &options, now);
    append(&mut chain, now, 1);
    let day = now.plus_seconds(24 * 3600);
    chain.rotate_if_due(Timestamp::from_millis(day.as_millis() - 1)).unwrap();
    assert_eq!(chain.number, 1);
    chain.rotate_if_due(day).unwrap();
    assert_eq!(chain.number, 2);
    // Nothing to write, no file.
    chain.rotate_if_due(day.plus_seconds(24 * 3600)).unwrap();
    assert_eq!(chain.number, 2);
    let report = verify_chain(&chain.folder, &[]);
    assert_eq!(report.broken, None);
}
