//! What a start finds at the end of a chain, and that it is told for good.

use super::*;

/// The chain of a server that does not run, with a record.
fn server(folder: &Path, stopped: bool) -> Chain {
    let writer = folder.join("server-1");
    fs::create_dir_all(&writer).unwrap();
    make_private(&writer);
    let mut chain = open(&writer);
    append(&mut chain, SystemClock.now(), 1);
    if stopped {
        stop(&mut chain);
    } else {
        chain.checkpoint(SystemClock.now()).unwrap();
    }
    chain
}

fn open(writer: &Path) -> Chain {
    let rotation = Rotation::from(&options(writer));
    Chain::open(writer, Ends::Stopped, rotation, SystemClock.now()).unwrap()
}

fn stop(chain: &mut Chain) {
    let now = SystemClock.now();
    let notice = Entry::Notice(Notice { what: What::Stopped, detail: None });
    chain.append(&[Pending::new(now, &notice)], true).unwrap();
    chain.checkpoint(now).unwrap();
}

/// Adds lines to the file of a chain, as whoever has no key could.
fn add(chain: &Chain, entry: impl Fn(usize) -> Entry, count: usize) {
    let (mut seq, mut prev) = (chain.seq, chain.prev.clone());
    let path = chain.folder.join("000001.jsonl");
    let mut text = fs::read_to_string(&path).unwrap();
    for number in 0..count {
        let line = Pending::new(SystemClock.now(), &entry(number)).render(seq, &prev);
        (seq, prev) = (seq + 1, hash(line.as_bytes()));
        text.push_str(&line);
        text.push('\n');
    }
    fs::write(&path, text).unwrap();
}

fn request(number: usize) -> Entry {
    Entry::Request(Box::new(record(70 + number)))
}

#[test]
fn every_end_that_was_not_as_it_should_be_is_told_of_and_signed() {
    let folder = private_folder();
    let chain = server(folder.path(), false);
    let told = |seq: u64, found: u64| {
        format!(
            "a process did not end as it should: line {seq} was the last signed one, line {found} the \
             last found"
        )
    };
    // Killed while it had nothing to do: all is signed, and yet it did not end.
    let mut next = open(&folder.path().join("server-1"));
    assert_eq!(next.id, chain.id);
    let report = whole(folder.path());
    assert_eq!((report.unsigned, report.told.interrupted, report.notes.len()), (0, 1, 1));
    assert!(report.notes[0].ends_with(&told(2, 2)), "{report:?}");

    // A power cut, and `head` is one of long before: nothing says how many lines there were.
    let head = fs::read(next.folder.join("head")).unwrap();
    append(&mut next, SystemClock.now(), 2);
    next.checkpoint(SystemClock.now()).unwrap();
    append(&mut next, SystemClock.now(), 3);
    fs::write(next.folder.join("head"), head).unwrap();
    let mut next = open(&folder.path().join("server-1"));
    let report = whole(folder.path());
    assert_eq!((report.unsigned, report.told.interrupted), (0, 2));
    assert!(report.notes.iter().any(|note| note.ends_with(&told(6, 7))), "{report:?}");

    // One that ended as it should is none of those.
    stop(&mut next);
    let notes = whole(folder.path()).notes.len();
    stop(&mut open(&folder.path().join("server-1")));
    assert_eq!(whole(folder.path()).notes.len(), notes);
}

#[tokio::test]
async fn lines_that_a_start_finds_and_nothing_proves_are_told_of_for_good() {
    for stopped in [true, false] {
        let folder = private_folder();
        let chain = server(folder.path(), stopped);
        let first = chain.seq;
        add(&chain, request, 2);
        let before = report(folder.path());
        assert_eq!((before.broken.is_some(), before.unproved.is_some()), (stopped, !stopped));
        // A start, and another one after it.
        for number in 0..2 {
            write(&options(folder.path()), number..number + 1).await;
            let report = whole(folder.path());
            assert_eq!(report.chain, chain.id);
            assert_eq!((report.told.unproved, report.told.interrupted), (1, 1), "{report:?}");
            let after = if stopped { ", after the chain had ended" } else { "" };
            let lines = format!("lines {first} to {}{after}", first + 1);
            assert!(report.notes.iter().any(|note| note.ends_with(&lines)), "{lines}: {report:?}");
        }
    }
}

#[test]
fn a_checkpoint_of_somebody_without_the_key_proves_nothing() {
    let folder = private_folder();
    let chain = server(folder.path(), false);
    // The key that the last checkpoint names, as if it were the next one.
    let next_key = chain.keys.line.current.public();
    add(
        &chain,
        |number| match number {
            0 => request(0),
            _ => Entry::Checkpoint { next_key: next_key.clone() },
        },
        2,
    );
    let next = open(&folder.path().join("server-1"));
    assert_ne!(next.id, chain.id);
    assert!(report(folder.path()).broken.is_some());
}

#[test]
fn an_end_is_found_however_many_lines_are_not_signed_yet() {
    let folder = private_folder();
    let mut chain = server(folder.path(), false);
    let seq = chain.seq;
    for number in 0..3_000 {
        append(&mut chain, SystemClock.now(), number);
    }
    assert!(chain.length > 500_000, "{}", chain.length);
    let next = open(&folder.path().join("server-1"));
    assert_eq!(next.id, chain.id);
    let report = whole(folder.path());
    let told =
        format!("line {} was the last signed one, line {} the last found", seq - 1, seq + 2_999);
    assert!(report.notes[0].ends_with(&told), "{report:?}");
    assert_eq!(report.told.unproved, 0, "`head` tells of them");
}

#[test]
fn a_head_of_the_first_form_is_read_and_written_on() {
    let folder = private_folder();
    let mut chain = server(folder.path(), true);
    let path = head::Head::path(&chain.folder);
    let (read, _) = head::Head::read(&chain.folder).unwrap();
    let old = serde_json::json!({
        "chain": read.chain,
        "file": read.file,
        "begun": read.begun,
        "next_file_key": chain.keys.file.current.public(),
        "length": read.length,
        "seq": read.seq,
        "hash": read.hash,
        "synced": { "length": read.length, "seq": read.seq, "hash": read.hash },
    });
    let old = line::sign(&old.to_string(), head::DOMAIN, &chain.id, &chain.keys.line.current);
    fs::write(&path, head::block(&old, head::OLD_BLOCK)).unwrap();
    make_private_file(&path);
    assert_eq!(whole(folder.path()).unproved, None);
    let mut next = open(&folder.path().join("server-1"));
    assert_eq!((&next.id, next.seq), (&chain.id, chain.seq));
    append(&mut next, SystemClock.now(), 2);
    stop(&mut next);
    chain = open(&folder.path().join("server-1"));
    assert_eq!((&next.id, next.seq), (&chain.id, chain.seq));
    assert_eq!((whole(folder.path()).notes.len(), fs::metadata(&path).unwrap().len()), (0, 1_024));
}

fn make_private_file(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_chain_that_a_start_finds_broken_stays_as_it_is() {
    for unfinished in [false, true] {
        let folder = private_folder();
        let chain = server(folder.path(), true);
        let other = chain.folder.with_file_name("other");
        fs::create_dir(&other).unwrap();
        keys::Keys::generate().unwrap().save(&other).unwrap();
        fs::rename(other.join(keys::FILE), chain.folder.join(keys::FILE)).unwrap();
        fs::remove_dir(&other).unwrap();
        if unfinished {
            fs::write(chain.folder.join("000002.jsonl"), "{\"seq\":").unwrap();
            make_private(&chain.folder.join("000002.jsonl"));
        } else {
            let path = chain.folder.join("000001.jsonl");
            fs::write(&path, format!("{}{{\"seq\":", fs::read_to_string(&path).unwrap())).unwrap();
        }
        let files = || {
            let files = folder::files(&chain.folder).unwrap();
            files.into_iter().map(|(_, path)| fs::read(path).unwrap()).collect::<Vec<_>>()
        };
        let before = files();
        let next = open(&folder.path().join("server-1"));
        assert_ne!(next.id, chain.id, "{unfinished}");
        assert!(before == files(), "{unfinished}");
    }
}
