//! Logs that are really written, and what can befall them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;

use super::{
    chain::{Chain, Rotation},
    line::{Entry, LINE_DOMAIN, MAX_LINE, Notice, Parsed, Pending, What, hash, is_signed, sign},
    recovery::Ends,
    verify::verify_chain,
    *,
};
use crate::{
    clock::SystemClock,
    domain::{Clock, Timestamp},
};

mod behind;
mod damage;
mod files;
mod power;
mod refusals;
mod signatures;
mod starts;

fn record(number: usize) -> RequestRecord {
    let id = format!("OKMS.{number}").into();
    let mut record = RequestRecord::new(id, None, "PUT", Some("/x".into()), Some("X".into()));
    record.answered(200, None);
    record
}

fn private_folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let private = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir().unwrap()
}

fn options(folder: &Path) -> Options {
    Options::new(folder.to_owned())
}

async fn write(options: &Options, numbers: std::ops::Range<usize>) {
    let log = AuditLog::start(options, Arc::new(SystemClock)).unwrap();
    for number in numbers {
        log.record(record(number)).await.unwrap();
    }
    log.close().await;
}

/// The only chain of a folder, whole or not.
fn report(folder: &Path) -> ChainReport {
    verify_chain(&folder.join("server-1/000001"), &[])
}

#[track_caller]
fn whole(folder: &Path) -> ChainReport {
    let report = report(folder);
    assert_eq!(report.broken, None, "{report:?}");
    report
}

fn lines(folder: &Path) -> Vec<Parsed> {
    lines_of_files(folder).lines().map(|line| Parsed::read(line.as_bytes()).unwrap()).collect()
}

#[tokio::test]
async fn a_chain_goes_on_after_a_restart_and_is_whole_and_signed_to_its_end() {
    let folder = private_folder();
    let options = options(folder.path());
    write(&options, 0..10).await;
    let first = whole(folder.path());
    // Head, started, ten records, stopped, checkpoint.
    assert_eq!((first.lines, first.unsigned, first.notes.len()), (14, 0, 0), "{first:?}");
    write(&options, 10..20).await;
    let second = whole(folder.path());
    assert_eq!((second.lines, second.unsigned), (27, 0), "{second:?}");
    assert_eq!((first.chain, first.first_key), (second.chain, second.first_key));
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        let metadata = fs::metadata(folder.path().join("server-1").join(name)).unwrap();
        metadata.permissions().mode() & 0o7777
    };
    assert_eq!(mode(""), 0o700);
    for name in ["lock", "000001/head", "000001/signing_keys", "000001/000001.jsonl"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
}

/// Where only root could show it, nothing is shown.
#[test]
fn root_makes_nothing_in_the_folder_of_another_user() {
    use std::os::unix::fs::chown;
    let folder = private_folder();
    let audit = folder.path().join("audit");
    let options = options(&audit);
    let act = || begin_act(&options, &SystemClock, ActRecord::begun("domain list", Vec::new(), 0));
    act().unwrap();
    if chown(&audit, Some(12_345), Some(23_456)).is_err() {
        return;
    }
    let entries = || fs::read_dir(audit.join("cli")).unwrap().count();
    let before = entries();
    let refused = act().err().unwrap().to_string();
    assert!(refused.contains("belongs to the user 12345: run it as that user"), "{refused}");
    let refused = check_folder(&audit).unwrap_err().to_string();
    assert!(refused.contains("belongs to the user 12345: run it as that user"), "{refused}");
    assert_eq!(entries(), before);
    // The chain alone, as where root made the folder above it.
    chown(&audit, Some(0), Some(0)).unwrap();
    chown(audit.join("cli"), Some(12_345), Some(23_456)).unwrap();
    assert!(act().err().unwrap().to_string().contains("cli belongs to the user 12345"));

    let keys = audit.join("cli/000001/signing_keys");
    chown(&keys, Some(12_345), Some(23_456)).unwrap();
    let refused = Error::io(keys)(io::ErrorKind::PermissionDenied.into()).to_string();
    let told = "signing_keys belongs to the user 12345 and this is run by the user 0; run it as";
    assert!(refused.contains(told), "{refused}");
    let own = Error::io("/")(io::ErrorKind::PermissionDenied.into()).to_string();
    assert_eq!(own, "the audit log cannot use /");
}

#[tokio::test]
async fn what_is_open_to_others_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = private_folder();
    let options = options(folder.path());
    write(&options, 0..1).await;
    for name in ["", "server-1", "server-1/000001", "server-1/000001/000001.jsonl"] {
        let path = folder.path().join(name);
        let mode = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o722)).unwrap();
        let refused = AuditLog::start(&options, Arc::new(SystemClock)).err().expect("refused");
        assert!(refused.to_string().contains("chmod go="), "{refused}");
        fs::set_permissions(&path, mode).unwrap();
    }
    // A group may collect records, and no keys.
    let mode = |name: &str, mode| {
        let path = folder.path().join("server-1/000001").join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("000001.jsonl", 0o640);
    mode("signing_keys", 0o640);
    assert!(AuditLog::start(&options, Arc::new(SystemClock)).is_err());
    mode("signing_keys", 0o600);
    write(&options, 1..2).await;
    whole(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_leave_no_gap_and_each_its_record() {
    let folder = private_folder();
    let log = AuditLog::start(&options(folder.path()), Arc::new(SystemClock)).unwrap();
    let tasks = (0..32).map(|task| {
        let log = log.clone();
        tokio::spawn(async move {
            for number in 0..50 {
                log.record(record(task * 50 + number)).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    // Works while the server writes, too.
    let during = whole(folder.path());
    log.close().await;
    let after = whole(folder.path());
    assert!(during.lines <= after.lines);
    let lines = lines(&folder.path().join("server-1/000001"));
    assert_eq!(lines.iter().filter(|line| line.kind == "request").count(), 1_600);
}

#[tokio::test]
async fn two_servers_in_one_folder_write_two_chains() {
    let folder = private_folder();
    let options = options(folder.path());
    let first = AuditLog::start(&options, Arc::new(SystemClock)).unwrap();
    write(&options, 0..3).await;
    first.record(record(3)).await.unwrap();
    first.close().await;
    let reports = verify(folder.path(), &[]).unwrap();
    let writers: Vec<_> = reports.iter().map(|report| report.writer.as_str()).collect();
    assert_eq!(writers, ["server-1", "server-2"]);
    assert!(reports.iter().all(|report| report.broken.is_none()), "{reports:?}");
}

#[test]
fn acts_share_a_chain() {
    let folder = private_folder();
    let options = options(folder.path());
    let act = || ActRecord::begun("domain create", vec![("name", About::One("a".to_owned()))], 7);
    let threads = (0..8).map(|_| {
        let options = options.clone();
        std::thread::spawn(move || {
            let act = act();
            begin_act(&options, &SystemClock, act.clone()).unwrap();
            end_act(&options, &SystemClock, act.ended(true, Vec::new())).unwrap();
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
    let reports = verify(folder.path(), &[]).unwrap();
    assert_eq!(reports.len(), 1);
    assert_eq!((&reports[0].broken, reports[0].unsigned), (&None, 0));
    let lines = lines(&folder.path().join("cli/000001"));
    assert_eq!(lines.iter().filter(|line| line.kind == "act").count(), 16);
}

#[test]
fn a_line_that_nobody_could_read_is_refused_and_the_chain_goes_on() {
    let folder = private_folder();
    let writer = folder.path().join("w");
    fs::create_dir(&writer).unwrap();
    let now = SystemClock.now();
    let mut chain = Chain::open_private(&writer, &options(folder.path()), now);
    let notice = |length| {
        let detail = Some("x".repeat(length));
        [Pending::new(now, &Entry::Notice(Notice { what: What::Cut, detail }))]
    };
    assert!(chain.append(&notice(MAX_LINE), true).is_err());
    chain.append(&notice(MAX_LINE - 1_000), true).unwrap();
    append(&mut chain, now, 1);
    let report = verify_chain(&chain.folder, &[]);
    assert_eq!((report.broken, report.lines), (None, 3));
}

#[test]
fn the_lines_for_sinks_are_those_of_the_files() {
    let folder = private_folder();
    let writer = folder.path().join("w");
    fs::create_dir(&writer).unwrap();
    make_private(&writer);
    let options = Options { max_file_size: 1_500, ..options(folder.path()) };
    let now = SystemClock.now();
    let open = || Chain::open(&writer, Ends::Stopped, Rotation::from(&options), now).unwrap();
    let mut lock = folder::Lock::take(&writer).unwrap().expect("the lock");
    let mut sent = Vec::new();
    let mut chain = open();
    append(&mut chain, now, 1);
    sent.append(&mut chain.outbox);
    // A process that was killed: the next one tells of it, and signs that.
    let mut chain = open();
    let act = || ActRecord::begun("domain create", vec![], 7);
    for _ in 0..4 {
        act::write(&mut chain, &mut lock, now, act(), true).unwrap();
    }
    let file = chain.folder.join(folder::file_name(chain.number));
    let text = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    fs::write(&file, text).unwrap();
    act::write(&mut chain, &mut lock, now, act(), false).unwrap();
    sent.append(&mut chain.outbox);
    let text = String::from_utf8(sent).unwrap();
    assert_eq!(text, lines_of_files(&chain.folder));
    for what in ["interrupted", "tampered"] {
        assert_eq!(text.matches(&format!(r#""what":"{what}""#)).count(), 1, "{what}: {text}");
    }
    assert!(chain.number > 3, "files were ended: {text}");

    fs::remove_dir_all(&chain.folder).unwrap();
    act::write(&mut chain, &mut lock, now, act(), false).unwrap();
    assert_eq!(String::from_utf8(chain.outbox).unwrap(), lines_of_files(&chain.folder));
}

/// All that is in the files of a chain.
fn lines_of_files(folder: &Path) -> String {
    let files = folder::files(folder).unwrap();
    files.iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect()
}

impl Chain {
    /// Opens a chain in a folder of a test.
    fn open_private(writer: &Path, options: &Options, now: Timestamp) -> Self {
        make_private(writer);
        Self::open(writer, Ends::Signed, Rotation::from(options), now).unwrap()
    }
}

fn append(chain: &mut Chain, now: Timestamp, number: usize) {
    let entry = Entry::Request(Box::new(record(number)));
    chain.append(&[Pending::new(now, &entry)], false).unwrap();
}

#[tokio::test]
async fn a_file_that_somebody_changes_while_it_is_written_is_noticed_and_left_as_it_is() {
    for (damage, word) in [
        ((|path| fs::remove_file(path).unwrap()) as fn(&Path), "was removed"),
        (
            |path| {
                let copy = fs::read(path).unwrap();
                fs::remove_file(path).unwrap();
                fs::write(path, copy).unwrap();
            },
            "was replaced",
        ),
        (|path| fs::File::options().write(true).open(path).unwrap().set_len(100).unwrap(), "bytes"),
    ] {
        let folder = private_folder();
        let log = AuditLog::start(&options(folder.path()), Arc::new(SystemClock)).unwrap();
        log.record(record(1)).await.unwrap();
        let chain = folder.path().join("server-1/000001");
        damage(&chain.join("000001.jsonl"));
        log.record(record(2)).await.unwrap();
        log.close().await;
        let text = fs::read_to_string(chain.join("000002.jsonl")).unwrap();
        assert!(text.contains(r#""what":"tampered""#) && text.contains(word), "{text}");
        assert!(text.contains("OKMS.2"), "the record is there: {text}");
        let report = report(folder.path());
        if word != "was replaced" {
            assert_eq!(report.broken.expect("broken").file, "000001.jsonl");
        } else {
            assert!(report.notes.iter().any(|note| note.contains("tampered")), "{report:?}");
        }
    }
}

#[tokio::test]
async fn a_folder_that_is_gone_while_it_is_written_is_followed_by_another_chain() {
    let folder = private_folder();
    let log = AuditLog::start(&options(folder.path()), Arc::new(SystemClock)).unwrap();
    log.record(record(1)).await.unwrap();
    fs::remove_dir_all(folder.path().join("server-1")).unwrap();
    log.record(record(2)).await.unwrap();
    log.close().await;
    let reports = verify(folder.path(), &[]).unwrap();
    let broken: Vec<_> = reports.iter().map(|report| report.broken.is_some()).collect();
    assert_eq!(broken, [true, false], "{reports:?}");
    assert!(reports[1].notes[0].contains("was removed"), "{reports:?}");
}

#[tokio::test]
async fn a_folder_that_another_process_writes_meanwhile_is_left_to_it() {
    let folder = private_folder();
    let options = options(folder.path());
    let first = AuditLog::start(&options, Arc::new(SystemClock)).unwrap();
    first.record(record(1)).await.unwrap();
    fs::remove_dir_all(folder.path().join("server-1")).unwrap();
    let second = AuditLog::start(&options, Arc::new(SystemClock)).unwrap();
    second.record(record(2)).await.unwrap();
    assert_eq!(first.record(record(3)).await, Err(NotRecorded));
    second.record(record(4)).await.unwrap();
    second.close().await;
    let report = whole(folder.path());
    assert_eq!(
        (report.told, report.unsigned, report.notes.len()),
        (Told::default(), 0, 0),
        "{report:?}"
    );

    // Then it is its turn, in a chain of its own beside those that are there.
    refusals::until_ready(&first);
    first.record(record(5)).await.unwrap();
    first.close().await;
    let reports = verify(folder.path(), &[]).unwrap();
    let whole = reports.iter().all(|report| report.broken.is_none());
    assert!(whole && reports.len() == 2, "{reports:?}");
    let text = lines_of_files(&folder.path().join("server-1/000002"));
    for (number, count) in [(1, 0), (2, 0), (3, 1), (4, 0), (5, 1)] {
        assert_eq!(text.matches(&format!("\"OKMS.{number}\"")).count(), count, "{text}");
    }
}

fn make_private(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
}

/// Copies a folder of files.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    make_private(to);
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_process_killed_between_any_two_steps_leaves_a_chain_that_goes_on() {
    let folder = private_folder();
    let options = options(folder.path());
    let writer = folder.path().join("w");
    fs::create_dir(&writer).unwrap();
    let now = SystemClock.now();
    let mut chain = Chain::open_private(&writer, &options, now);
    append(&mut chain, now, 1);
    let steps: [fn(&mut Chain, Timestamp); 3] = [
        |chain, now| append(chain, now, 2),
        |chain, now| chain.checkpoint(now).unwrap(),
        |chain, now| {
            chain.rotation =
                Rotation::from(&Options { max_file_size: 1, ..Options::new(PathBuf::new()) });
            append(chain, now, 3);
            chain.rotate_if_due(now).unwrap();
        },
    ];
    let mut cases = 0;
    for step in steps {
        let before = folder.path().join("before");
        let _ = fs::remove_dir_all(&before);
        copy(&chain.folder, &before);
        step(&mut chain, now);
        // Each step writes files, then keys, then head. The log may also end inside of a line.
        for (keys, head, cut) in [(0, 0, 0), (0, 0, 1), (0, 0, 40), (1, 0, 0), (1, 1, 0), (0, 1, 0)]
        {
            let crashed = folder.path().join(format!("crash-{cases}"));
            let place = crashed.join("000001");
            copy(&chain.folder, &place);
            for (name, is_new) in [("signing_keys", keys), ("head", head)] {
                if is_new == 0 {
                    fs::copy(before.join(name), place.join(name)).unwrap();
                }
            }
            let (_, last) = folder::files(&place).unwrap().pop().unwrap();
            let length = fs::metadata(&last).unwrap().len();
            if cut > 0 {
                let file = fs::File::options().write(true).open(&last).unwrap();
                file.set_len(length - cut).unwrap();
            }
            // Keys are put forward by checkpoints and new files, and never after `head`.
            let same = fs::read(before.join("signing_keys")).unwrap()
                == fs::read(chain.folder.join("signing_keys")).unwrap();
            if !same && keys < head {
                continue;
            }
            let mut went_on = Chain::open_private(&crashed, &options, now);
            assert_eq!(went_on.id, chain.id, "{cases}: keys {keys}, head {head}, cut {cut}");
            append(&mut went_on, now, 9);
            went_on.checkpoint(now).unwrap();
            let report = verify_chain(&went_on.folder, &[]);
            assert_eq!(report.broken, None, "{report:?}");
            cases += 1;
        }
    }
    assert!(cases >= 14, "{cases}");
}

#[tokio::test]
async fn what_a_crash_cannot_explain_begins_a_new_chain_that_says_so() {
    for (name, damage, word) in [
        ("cut", (|path| cut(&path.join("000001.jsonl"), 600)) as fn(&Path), "000001.jsonl"),
        ("line", |path| change(&path.join("000001.jsonl"), "OKMS.9", "OKMS.8"), "OKMS"),
        ("keys", |path| fs::remove_file(path.join("signing_keys")).unwrap(), "signing_keys"),
        ("head", |path| fs::remove_file(path.join("head")).unwrap(), "head"),
        ("log", |path| fs::remove_file(path.join("000001.jsonl")).unwrap(), "000001.jsonl"),
    ] {
        let folder = private_folder();
        let options = options(folder.path());
        write(&options, 0..10).await;
        let first = folder.path().join("server-1/000001");
        damage(&first);
        write(&options, 10..12).await;
        if name == "line" {
            // Not at the end: that is for `verify`.
            assert_eq!(report(folder.path()).broken.expect("broken").line, Some(12));
            continue;
        }
        let second = verify_chain(&folder.path().join("server-1/000002"), &[]);
        assert_eq!(second.broken, None);
        assert!(second.notes[0].contains(word), "{name}: {second:?}");
        assert!(second.notes[0].contains("goes on for chain 000001"), "{second:?}");
        let old = verify_chain(&first, &[]);
        // The keys are not needed to see that the rest is whole.
        assert_eq!(old.broken.is_some(), name != "keys", "{name}: {old:?}");
    }
}

fn cut(path: &Path, bytes: u64) {
    let length = fs::metadata(path).unwrap().len();
    fs::File::options().write(true).open(path).unwrap().set_len(length - bytes).unwrap();
}

fn change(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replace(from, to)).unwrap();
}
