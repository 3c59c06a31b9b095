//! What signatures keep from being rewritten, and what they are over.

use super::*;

/// Writes a chain anew from a line on, as whoever holds all that is on the disk could.
fn forge(folder: &Path, from: u64, change: impl Fn(&str) -> String) {
    let keys = keys::Keys::load(folder).unwrap();
    let path = folder.join("000001.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let (mut forged, mut prev) = (String::new(), String::new());
    let mut last = 0;
    for line in text.lines() {
        let parsed = Parsed::read(line.as_bytes()).unwrap();
        let mut line = line.to_owned();
        if parsed.seq == from {
            line = change(&line);
        }
        if parsed.seq > from {
            line = line.replace(&parsed.prev, &prev);
            if let Some((open, _)) = line.clone().split_once(",\"signature\"") {
                let chain = head::Head::read(folder).unwrap().0.chain;
                line = sign(&format!("{open}}}"), LINE_DOMAIN, &chain, &keys.line.current);
            }
        }
        prev = hash(line.as_bytes());
        last = parsed.seq;
        forged.push_str(&line);
        forged.push('\n');
    }
    fs::write(&path, &forged).unwrap();
    let (mut head, _) = head::Head::read(folder).unwrap();
    (head.seq, head.hash, head.length) = (last, prev, forged.len() as u64);
    let file = folder::open(&head::Head::path(folder)).and_then(head::HeadFile::new).unwrap();
    head.write(&file, &keys.line.current).unwrap();
}

#[test]
fn whoever_takes_all_keys_later_cannot_rewrite_what_was_signed_before() {
    let folder = private_folder();
    let writer = folder.path().join("w");
    fs::create_dir(&writer).unwrap();
    let now = SystemClock.now();
    let mut chain = Chain::open_private(&writer, &options(folder.path()), now);
    for number in 0..3 {
        append(&mut chain, now, number);
        chain.checkpoint(now).unwrap();
    }
    append(&mut chain, now, 3);
    let lines = lines(&chain.folder);
    let kinds: Vec<_> = lines.iter().map(|line| line.kind.as_str()).collect();
    assert_eq!(
        kinds[1..],
        [&["request", "checkpoint"][..]; 3].concat()[..]
            .iter()
            .copied()
            .chain(["request"])
            .collect::<Vec<_>>()
    );

    for seq in [1, 3, 5, 7] {
        let copied = folder.path().join(format!("copy-{seq}"));
        copy(&chain.folder, &copied);
        forge(&copied, seq, |line| line.replace("\"PUT\"", "\"GET\""));
        let report = verify_chain(&copied, &[]);
        // Only what came after the last checkpoint is in the hands of who holds the machine.
        let expected = (seq < 7).then_some(seq + 1);
        assert_eq!(report.broken.and_then(|broken| broken.seq), expected);
    }
    // To end the chain at an earlier checkpoint takes a key that is gone.
    for kept in [3, 5, 7] {
        let copied = folder.path().join(format!("cut-{kept}"));
        copy(&chain.folder, &copied);
        let path = copied.join("000001.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        let text: String = text.split_inclusive('\n').take(kept).collect();
        fs::write(&path, text).unwrap();
        forge(&copied, u64::MAX, str::to_owned);
        let report = verify_chain(&copied, &[]);
        assert_eq!(report.broken.is_some(), kept < 7, "{kept}: {report:?}");
        let seen = Seen { chain: chain.id.clone(), seq: 7, hash: chain.prev.clone() };
        // What an auditor has seen is missed all the same.
        assert!(verify_chain(&copied, &[seen]).broken.is_some());
    }
    // Another chain, begun anew with keys of its own, has another first key.
    let mut other =
        Chain::begin(&writer, 7, None, Rotation::from(&options(folder.path())), now).unwrap();
    append(&mut other, now, 1);
    let keys = [&chain, &other].map(|chain| verify_chain(&chain.folder, &[]).first_key);
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn a_signature_is_over_the_whole_line_its_chain_and_its_use() {
    let keys = keys::Keys::generate().unwrap();
    let key = keys.line.current.public();
    let line = sign(r#"{"a":1}"#, LINE_DOMAIN, "c", &keys.line.current);
    assert!(is_signed(line.as_bytes(), LINE_DOMAIN, "c", &key));
    assert!(!is_signed(line.as_bytes(), LINE_DOMAIN, "d", &key));
    assert!(!is_signed(line.as_bytes(), "other", "c", &key));
    assert!(!is_signed(line.replace('1', "2").as_bytes(), LINE_DOMAIN, "c", &key));
    let other = keys.line.next.public();
    assert!(!is_signed(line.as_bytes(), LINE_DOMAIN, "c", &other));
}
