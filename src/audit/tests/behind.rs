//! A checkpoint on its way to the disk: what goes on meanwhile, and where it fails.

use std::{
    io,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Instant,
};

use tokio::sync::oneshot;

use super::{
    super::{
        behind::{NotDone, Work},
        log::{Message, Reply, State},
        queue,
        writer::{MAX_KEPT, Writer, is_late},
    },
    power::{restarted, set_length, unsynced},
    refusals::until,
    *,
};

type Done = Result<(), NotDone>;

/// A thread that does something else for a checkpoint.
fn by(
    done: impl FnOnce(Work) -> Done + Send + 'static,
) -> impl FnOnce(Work) -> io::Result<JoinHandle<Done>> {
    |work| Ok(thread::spawn(|| done(work)))
}

fn no_disk(_: Work) -> Done {
    Err(NotDone::Synced(io::Error::other("no disk")))
}

fn not_saved(_: Work) -> Done {
    Err(NotDone::Saved(io::Error::other("no room")))
}

fn keys_of(folder: &Path) -> String {
    fs::read_to_string(folder.join(keys::FILE)).unwrap()
}

/// The chain of a server with a record and a checkpoint that is on its way, and what writes it on.
fn server(
    folder: &Path,
    options: &Options,
    done: impl FnOnce(Work) -> Done + Send + 'static,
) -> Writer {
    server_of(folder, options, done, |_| {})
}

fn server_of(
    folder: &Path,
    options: &Options,
    done: impl FnOnce(Work) -> Done + Send + 'static,
    change: impl FnOnce(&mut Chain),
) -> Writer {
    let server = folder.join("server-1");
    fs::create_dir(&server).unwrap();
    make_private(&server);
    let lock = folder::Lock::take(&server).unwrap().expect("the lock");
    let now = SystemClock.now();
    let mut chain =
        Chain::open(&server, Ends::Stopped, Rotation::from(options), SystemClock.now()).unwrap();
    append(&mut chain, now, 1);
    chain.checkpoint_by(now, by(done)).unwrap();
    change(&mut chain);
    Writer::new(chain, lock, options, Arc::new(SystemClock), Arc::new(State::default()))
}

/// The record of a change, and what tells whether it is written.
fn change_of(number: usize) -> (Message, oneshot::Receiver<Result<(), NotRecorded>>) {
    let (sender, answer) = oneshot::channel();
    let entry = Entry::Request(Box::new(record(number)));
    let pending = Pending::new(SystemClock.now(), &entry);
    let reply = Some(Reply { sender, given_up: Arc::default() });
    (Message::Record { pending, since: Instant::now(), change: true, reply }, answer)
}

#[tokio::test]
async fn a_change_is_recorded_whatever_becomes_of_the_checkpoint_before() {
    for done in [no_disk as fn(Work) -> Done, not_saved] {
        let folder = private_folder();
        let options = options(folder.path());
        let chain = folder.path().join("server-1/000001");
        // No keys can be saved.
        let obstacle = chain.join(".new.signing_keys");
        let writer = server_of(folder.path(), &options, done, |chain| {
            fs::create_dir(&obstacle).unwrap();
            let behind = chain.behind.as_ref().expect("one on its way");
            until("it has failed", || behind.is_done());
        });
        let (queue, messages) = queue::queue(8);
        let (change, answer) = change_of(2);
        assert_eq!(queue.send(change), Ok(()));
        assert_eq!(queue.send(Message::Close), Ok(()));
        let thread = writer.spawn(messages).unwrap();
        assert_eq!(answer.await, Ok(Ok(())));
        thread.join().unwrap();
        fs::remove_dir(&obstacle).unwrap();
        // The next start goes on with it.
        write(&options, 3..4).await;
        let report = whole(folder.path());
        assert_eq!(lines_of_files(&chain).matches("\"OKMS.2\"").count(), 1, "{report:?}");
        assert_eq!(lines_of_files(&chain).matches("\"OKMS.3\"").count(), 1, "{report:?}");
        assert!(!lines_of_files(&chain).contains("\"late\""));
        assert_eq!(report.told.lost, 0, "{report:?}");
    }
}

#[tokio::test]
async fn requests_under_way_are_recorded_where_a_file_cannot_end() {
    let folder = private_folder();
    let options = Options { max_file_size: 1, ..options(folder.path()) };
    let obstacle = folder.path().join("server-1/000001/.new.signing_keys");
    let writer = server_of(folder.path(), &options, Work::run, |chain| {
        let behind = chain.behind.as_ref().expect("one on its way");
        until("it is there", || behind.is_done());
        // No more keys can be saved.
        fs::create_dir(&obstacle).unwrap();
    });
    let (queue, messages) = queue::queue(8);
    let (change, answer) = change_of(2);
    assert_eq!(queue.send(change), Ok(()));
    let thread = writer.spawn(messages).unwrap();
    assert_eq!(answer.await, Ok(Ok(())));
    // The file of that was to end then.
    let (change, answer) = change_of(3);
    assert_eq!(queue.send(change), Ok(()));
    assert_eq!(answer.await, Ok(Ok(())));
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(queue.send(Message::Close), Ok(()));
    thread.join().unwrap();
    let report = whole(folder.path());
    assert_eq!(report.unsigned, 0, "{report:?}");
    assert!(report.notes[0].contains("kept 0 records, lost 0"), "{report:?}");
}

#[test]
fn records_wait_for_a_checkpoint_that_is_late_and_for_no_other() {
    let hour = Duration::from_secs(3_600);
    for (checkpoint_interval, unsigned, kept, waits) in [
        (Duration::ZERO, 0, 0, true),
        (hour, 10_000, 0, true),
        (hour, 0, 2 * MAX_KEPT, true),
        (hour, 0, MAX_KEPT, false),
    ] {
        let folder = private_folder();
        // Nothing else is synced.
        let sync = Sync::Interval;
        let options = Options { checkpoint_interval, sync, ..options(folder.path()) };
        let (go, may_go) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let done = move |work: Work| {
            may_go.recv().unwrap();
            let time = Duration::from_millis(if waits { 200 } else { 600_000 });
            let end = Instant::now() + time;
            let is_there = || fs::read_to_string(&work.path).unwrap().contains("\"OKMS.3\"");
            while !is_there() && Instant::now() < end {
                thread::sleep(Duration::from_millis(1));
            }
            tell.send(is_there()).unwrap();
            work.run()
        };
        let writer = server_of(folder.path(), &options, done, |chain| {
            while chain.kept_bytes() < kept {
                let detail = Some("x".repeat(MAX_LINE - 1_000));
                let notice = Entry::Notice(Notice { what: What::Started, detail });
                chain.append(&[Pending::new(SystemClock.now(), &notice)], false).unwrap();
            }
            chain.unsigned += unsigned;
        });
        let (queue, messages) = queue::queue(8);
        let (first, answer) = change_of(2);
        assert_eq!(queue.send(first), Ok(()));
        let thread = writer.spawn(messages).unwrap();
        assert_eq!(answer.blocking_recv(), Ok(Ok(())), "its own record waits for nothing");
        let (second, answer) = change_of(3);
        assert_eq!(queue.send(second), Ok(()));
        go.send(()).unwrap();
        assert_eq!(told.recv(), Ok(!waits), "{checkpoint_interval:?} {unsigned} {kept}");
        assert_eq!(answer.blocking_recv(), Ok(Ok(())));
        assert_eq!(queue.send(Message::Close), Ok(()));
        thread.join().unwrap();
        let report = whole(folder.path());
        assert_eq!((report.unsigned, report.notes.len()), (0, 0), "{report:?}");
    }
    let second = Duration::from_secs(1);
    assert!(is_late(3 * second, second, 0));
    assert!(!is_late(3 * second - Duration::from_nanos(1), second, 9_999));
    assert!(is_late(Duration::ZERO, second, 10_000));
    assert!(is_late(10 * second, hour, 0));
    assert!(!is_late(10 * second - Duration::from_nanos(1), hour, 0));
}

#[tokio::test]
async fn what_is_on_its_way_ends_before_the_lock_on_the_folder() {
    for way in ["dropped", "ended", "failed", "no disk"] {
        let folder = private_folder();
        let options = options(folder.path());
        let place = folder.path().join("server-1");
        let (go, may_go) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let done = move |work: Work| {
            may_go.recv().unwrap();
            let outlives = (0..100).any(|_| {
                thread::sleep(Duration::from_millis(1));
                folder::Lock::take(&place).unwrap().is_some()
            });
            tell.send(outlives).unwrap();
            if way == "no disk" { no_disk(work) } else { work.run() }
        };
        let writer = server(folder.path(), &options, done);
        let (chain, aside) = (folder.path().join("server-1/000001"), folder.path().join("aside"));
        if way == "failed" {
            fs::rename(&chain, &aside).unwrap();
            // No folder, so nothing can be written, nor is anything gone.
            fs::write(&chain, "").unwrap();
        }
        go.send(()).unwrap();
        if way == "dropped" {
            drop(writer);
        } else {
            let (queue, messages) = queue::queue(8);
            assert_eq!(queue.send(Message::Close), Ok(()));
            writer.spawn(messages).unwrap().join().unwrap();
        }
        assert_eq!(told.recv(), Ok(false), "{way}");
        if way == "failed" {
            fs::remove_file(&chain).unwrap();
            fs::rename(&aside, &chain).unwrap();
        }
        let before = whole(folder.path());
        assert_eq!(before.unsigned, 0, "{way}: {before:?}");
        write(&options, 3..4).await;
        let report = whole(folder.path());
        assert!(lines_of_files(&chain).contains("\"OKMS.3\""), "{way}");
        let is_cut = ["dropped", "failed"].contains(&way);
        assert_eq!(report.told.interrupted, u64::from(is_cut), "{way}: {report:?}");
    }
}

#[test]
fn a_file_ends_with_its_checkpoint_on_the_disk() {
    let folder = private_folder();
    let (mut chain, _) = unsynced(folder.path());
    let now = SystemClock.now();
    let slow = |work: Work| {
        thread::sleep(Duration::from_millis(50));
        work.run()
    };
    chain.checkpoint_by(now, by(slow)).unwrap();
    append(&mut chain, now, 6);
    chain.rotation = Rotation::from(&Options { max_file_size: 1, ..options(folder.path()) });
    chain.rotate_if_due(now).unwrap();
    assert!(chain.behind.is_none());
    assert_eq!(chain.number, 2);
    // Those of the checkpoint have not come after these.
    assert_eq!(keys_of(&chain.folder), *chain.keys.text());
    let report = verify_chain(&chain.folder, &[]);
    assert_eq!((&report.broken, report.unsigned), (&None, 0));
}

#[test]
fn keys_are_not_written_into_a_folder_that_somebody_has_put_there() {
    let folder = private_folder();
    let (mut chain, _) = unsynced(folder.path());
    let now = SystemClock.now();
    let (go, may_go) = mpsc::channel();
    let done = move |work: Work| {
        may_go.recv().unwrap();
        work.run()
    };
    chain.checkpoint_by(now, by(done)).unwrap();
    let aside = folder.path().join("aside");
    fs::rename(&chain.folder, &aside).unwrap();
    copy(&aside, &chain.folder);
    fs::write(chain.folder.join(keys::FILE), "theirs").unwrap();
    go.send(()).unwrap();
    chain.settle().unwrap();
    assert!(chain.save_keys().is_err());
    assert_eq!(keys_of(&chain.folder), "theirs");
    assert_ne!(keys_of(&aside), *chain.keys.text());
}

#[test]
fn without_a_thread_a_checkpoint_waits_for_the_disk() {
    let folder = private_folder();
    let (mut chain, _) = unsynced(folder.path());
    let now = SystemClock.now();
    chain.checkpoint_by(now, |_| Err(io::Error::other("no threads"))).unwrap();
    assert!(chain.behind.is_none());
    assert_eq!(keys_of(&chain.folder), *chain.keys.text());
    let report = verify_chain(&chain.folder, &[]);
    assert_eq!((&report.broken, report.unsigned), (&None, 0));
    assert_eq!(report.proved.expect("a line").0, 7, "the disk has it");
    append(&mut chain, now, 6);
    chain.checkpoint_behind(now).unwrap();
    chain.settle().unwrap();
    let report = verify_chain(&chain.folder, &[]);
    assert_eq!((&report.broken, report.proved.expect("a line").0), (&None, 9));
}

#[test]
fn keys_that_were_not_saved_behind_are_saved_before_the_next_signature() {
    let folder = private_folder();
    let (mut chain, _) = unsynced(folder.path());
    let now = SystemClock.now();
    let before = keys_of(&chain.folder);
    chain.checkpoint_by(now, by(not_saved)).unwrap();
    append(&mut chain, now, 6);
    chain.settle().unwrap();
    assert_eq!(keys_of(&chain.folder), before);
    assert_eq!(chain.synced.seq, 7, "the disk has the checkpoint");
    // The thread may have failed after it had replaced them, too.
    let after = chain.keys.text();
    for keys in [&before, &*after] {
        let (next, _, _folder) = restarted(&chain, |path| {
            fs::write(path.with_file_name(keys::FILE), keys).unwrap();
        });
        assert_eq!(next.id, chain.id);
        let report = verify_chain(&next.folder, &[]);
        assert_eq!((&report.broken, report.told.lost), (&None, 0));
    }
    chain.save_keys().unwrap();
    assert_eq!(keys_of(&chain.folder), *after);
    chain.checkpoint_by(now, by(not_saved)).unwrap();
    append(&mut chain, now, 7);
    chain.checkpoint_behind(now).unwrap();
    chain.settle().unwrap();
    let report = verify_chain(&chain.folder, &[]);
    assert_eq!((&report.broken, report.unsigned, chain.number), (&None, 0, 1));
}

#[test]
fn what_no_disk_took_is_written_once_more() {
    let folder = private_folder();
    let (mut chain, ends) = unsynced(folder.path());
    let now = SystemClock.now();
    let before = keys_of(&chain.folder);
    chain.checkpoint_by(now, by(no_disk)).unwrap();
    append(&mut chain, now, 6);
    let (seq, unsigned) = (chain.seq, chain.unsigned);
    assert!(chain.checkpoint_behind(now).is_err());
    assert_eq!((chain.seq, chain.unsigned), (seq, unsigned), "nothing is signed");
    // Whatever the disk has got, a start goes on with the keys of before, which stay so long.
    assert_eq!(keys_of(&chain.folder), before);
    for length in ends.iter().copied().chain([chain.length]) {
        let (next, _, _folder) = restarted(&chain, |path| set_length(path, length));
        assert_eq!(next.id, chain.id, "{length}");
        let report = verify_chain(&next.folder, &[]);
        assert_eq!((&report.broken, report.unsigned), (&None, 0));
        assert_eq!(report.told.lost, u64::from(length < chain.length), "{report:?}");
    }

    // What is read may be what the disk has.
    let first = chain.folder.join("000001.jsonl");
    let whole = fs::read(&first).unwrap();
    set_length(&first, ends[0]);
    set_length(&first, chain.length);
    append(&mut chain, now, 7);
    assert_eq!(fs::read(&first).unwrap()[..whole.len()], whole[..]);
    assert_eq!(chain.synced.seq, seq - 1);
    chain.checkpoint_behind(now).unwrap();
    append(&mut chain, now, 8);
    chain.checkpoint(now).unwrap();
    let after = chain.keys.text();
    assert_eq!((keys_of(&chain.folder), chain.number), (after.to_string(), 1));
    let report = verify_chain(&chain.folder, &[]);
    assert_eq!((&report.broken, report.unsigned, report.told.lost), (&None, 0, 0));
}

#[test]
fn nothing_more_is_written_until_the_disk_takes_what_it_failed_to_take() {
    let folder = private_folder();
    let (mut chain, _) = unsynced(folder.path());
    let now = SystemClock.now();
    let mut lock = folder::Lock::take(&folder.path().join("w")).unwrap().expect("the lock");
    let before = keys_of(&chain.folder);
    chain.checkpoint_by(now, by(no_disk)).unwrap();
    append(&mut chain, now, 6);
    assert!(chain.checkpoint_behind(now).is_err());
    let first = chain.folder.join("000001.jsonl");
    // It takes none of that.
    let file = std::mem::replace(&mut chain.file, fs::File::open(&first).unwrap());
    let (length, entry) = (chain.length, Pending::new(now, &Entry::Request(Box::new(record(7)))));
    for _ in 0..2 {
        assert!(chain.append_or_leave([&entry], true, now, &mut lock).is_err());
        assert!(chain.save_keys().is_err());
        assert_eq!((chain.length, chain.number, chain.unsynced), (length, 1, true));
        assert_eq!(keys_of(&chain.folder), before);
    }
    chain.file = file;
    chain.append_or_leave([&entry], true, now, &mut lock).unwrap();
    chain.checkpoint(now).unwrap();
    assert_eq!(chain.number, 1);
    let report = verify_chain(&chain.folder, &[]);
    assert_eq!((&report.broken, report.unsigned, report.told.lost), (&None, 0, 0));
}

#[test]
fn a_failure_that_is_told_when_all_was_written_again_is_none() {
    let folder = private_folder();
    let (mut chain, _) = unsynced(folder.path());
    let now = SystemClock.now();
    chain.checkpoint_by(now, by(no_disk)).unwrap();
    chain.unsynced = true;
    append(&mut chain, now, 6);
    let after = chain.keys.text();
    chain.save_keys().unwrap();
    assert_eq!((keys_of(&chain.folder), chain.unsynced), (after.to_string(), false));
    chain.checkpoint(now).unwrap();

    // Unless it was about what came after that.
    append(&mut chain, now, 7);
    chain.checkpoint_by(now, by(no_disk)).unwrap();
    chain.append([], true).unwrap();
    // Of which a sync fails.
    let file = std::mem::replace(&mut chain.file, fs::File::open("/dev/null").unwrap());
    chain.settle().unwrap();
    assert!(chain.unsynced);
    chain.file = file;
    chain.checkpoint(now).unwrap();
    let report = verify_chain(&chain.folder, &[]);
    assert_eq!((&report.broken, report.unsigned, chain.number), (&None, 0, 1));
}

#[test]
fn what_the_disk_has_is_not_kept() {
    let folder = private_folder();
    let (mut chain, ends) = unsynced(folder.path());
    let now = SystemClock.now();
    assert_eq!(
        Vec::from(chain.kept.clone()).concat(),
        fs::read(chain.folder.join("000001.jsonl")).unwrap()[ends[0] as usize..]
    );
    chain.checkpoint_behind(now).unwrap();
    let end = chain.length;
    append(&mut chain, now, 6);
    assert_eq!(chain.kept.len(), 5);
    chain.settle().unwrap();
    assert_eq!((chain.kept.len(), chain.kept_bytes()), (1, chain.length - end));
    chain.append([], true).unwrap();
    assert_eq!((chain.kept.len(), chain.kept_bytes()), (0, 0));
    append(&mut chain, now, 7);
    chain.checkpoint(now).unwrap();
    assert_eq!((chain.kept.len(), chain.kept_bytes()), (0, 0));
    append(&mut chain, now, 8);
    chain.rotation = Rotation::from(&Options { max_file_size: 1, ..options(folder.path()) });
    chain.rotate_if_due(now).unwrap();
    assert_eq!((chain.kept.len(), chain.kept_bytes()), (0, 0));
}

#[tokio::test]
async fn lines_that_take_much_memory_are_signed_early() {
    let folder = private_folder();
    let hour = Duration::from_secs(3_600);
    let options =
        Options { checkpoint_interval: hour, sync: Sync::Interval, ..options(folder.path()) };
    let writer = server(folder.path(), &options, Work::run);
    let (queue, messages) = queue::queue(64);
    let thread = writer.spawn(messages).unwrap();
    let chain = folder.path().join("server-1/000001");
    let detail = Some("x".repeat(MAX_LINE - 1_000));
    let send = || {
        let notice = Notice { what: What::Resumed, detail: detail.clone() };
        let pending = Pending::new(SystemClock.now(), &Entry::Notice(notice));
        let since = Instant::now();
        let record = Message::Record { pending, since, change: false, reply: None };
        assert_eq!(queue.send(record), Ok(()));
    };
    let signed_after = |lines| {
        let text = lines_of_files(&chain);
        let are_signed = text.rfind("\"checkpoint\"") > text.find("xxx");
        (text.matches("xxx\"").count() == lines).then_some(are_signed)
    };
    (0..15).for_each(|_| send());
    until("they are there", || signed_after(15) == Some(false));
    (0..2).for_each(|_| send());
    until("they are signed", || signed_after(17) == Some(true));
    assert_eq!(queue.send(Message::Close), Ok(()));
    thread.join().unwrap();
    whole(folder.path());
}

#[test]
fn a_checkpoint_that_no_disk_took_is_told_of_beside_another_reason_to_leave_its_file() {
    let folder = private_folder();
    let (mut chain, ends) = unsynced(folder.path());
    let now = SystemClock.now();
    let mut lock = folder::Lock::take(&folder.path().join("w")).unwrap().expect("the lock");
    let before = keys_of(&chain.folder);
    chain.checkpoint_by(now, by(no_disk)).unwrap();
    let first = chain.folder.join("000001.jsonl");
    fs::copy(&first, folder.path().join("copy")).unwrap();
    fs::rename(folder.path().join("copy"), &first).unwrap();
    let obstacle = chain.folder.join("000002.jsonl");
    fs::create_dir(&obstacle).unwrap();
    assert!(chain.append_or_leave([], true, now, &mut lock).is_err());
    fs::remove_dir(&obstacle).unwrap();
    // The checkpoint may not be on the disk, so its key stays.
    assert_eq!(keys_of(&chain.folder), before);
    for length in ends.into_iter().chain([chain.length]) {
        let (next, _, _folder) = restarted(&chain, |path| set_length(path, length));
        assert_eq!(next.id, chain.id, "{length}");
        assert_eq!(verify_chain(&next.folder, &[]).broken, None);
    }

    chain.append_or_leave([], true, now, &mut lock).unwrap();
    let after = chain.keys.text();
    assert_eq!(keys_of(&chain.folder), *after);
    // Killed before they were saved, or after.
    for keys in [&before, &*after] {
        let (next, _, _folder) = restarted(&chain, |path| {
            fs::write(path.with_file_name(keys::FILE), keys).unwrap();
        });
        assert_eq!(next.id, chain.id);
        assert_eq!(verify_chain(&next.folder, &[]).broken, None);
    }
    chain.checkpoint(now).unwrap();
    assert_eq!(chain.number, 2);
    let report = verify_chain(&chain.folder, &[]);
    assert_eq!((&report.broken, report.told.tampered, report.told.lost), (&None, 1, 1));
    let told = "the disk did not take all of 000001.jsonl after line 3";
    assert!(report.notes.iter().any(|note| note.ends_with(told)), "{report:?}");
}

#[test]
fn a_file_is_left_with_the_keys_of_the_one_before_it_on_the_disk() {
    let folder = private_folder();
    let (mut chain, _) = unsynced(folder.path());
    let now = SystemClock.now();
    let mut lock = folder::Lock::take(&folder.path().join("w")).unwrap().expect("the lock");
    let obstacle = chain.folder.join(".new.signing_keys");
    fs::create_dir(&obstacle).unwrap();
    // The second time, a start would not find the key that the last file names.
    for _ in 0..2 {
        let file = chain.folder.join(folder::file_name(chain.number));
        fs::copy(&file, folder.path().join("copy")).unwrap();
        fs::rename(folder.path().join("copy"), &file).unwrap();
        assert!(chain.append_or_leave([], true, now, &mut lock).is_err());
        assert_eq!(chain.number, 2);
    }
    fs::remove_dir(&obstacle).unwrap();
    let (next, _, _folder) = restarted(&chain, |_| {});
    assert_eq!(next.id, chain.id);
    chain.append_or_leave([], true, now, &mut lock).unwrap();
    chain.checkpoint(now).unwrap();
    assert_eq!(chain.number, 3);
    let report = verify_chain(&chain.folder, &[]);
    assert_eq!((&report.broken, report.unsigned, report.told.tampered), (&None, 0, 2));
}

#[test]
fn the_key_that_a_lost_checkpoint_named_excuses_no_line_that_was_changed() {
    let folder = private_folder();
    let (mut chain, ends) = unsynced(folder.path());
    let now = SystemClock.now();
    let keys = keys_of(&chain.folder);
    chain.checkpoint_behind(now).unwrap();
    append(&mut chain, now, 6);
    let head = fs::read_to_string(chain.folder.join("head")).unwrap();
    chain.settle().unwrap();
    let without_checkpoint = |path: &Path| set_length(path, ends[3]);
    let damages: [&dyn Fn(&Path); 6] = [
        &|path| change(path, "OKMS.2", "OKMS.7"),
        &|path| change(path, "OKMS.5", "OKMS.7"),
        &|path| {
            without_checkpoint(path);
            // The disk had it.
            change(path, "OKMS.2", "OKMS.7");
        },
        &|path| {
            without_checkpoint(path);
            change(path, "OKMS.3", "OKMS.7");
        },
        // It has its length, so it was not lost.
        &|path| change(path, "OKMS.6", "OKMS.7"),
        &|path| {
            without_checkpoint(path);
            // Signed by nobody.
            change(&path.with_file_name("head"), "\"seq\":8", "\"seq\":9");
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let damaged = |damage: &dyn Fn(&Path)| {
            restarted(&chain, |path| {
                fs::write(path.with_file_name(keys::FILE), &keys).unwrap();
                fs::write(path.with_file_name("head"), &head).unwrap();
                damage(path);
            })
        };
        let (next, before, _folder) = damaged(damage);
        assert!(before.broken.is_some(), "{number}");
        assert_ne!(next.id, chain.id, "{number}");
        // A power cut alone is none of that.
        assert_eq!(damaged(&without_checkpoint).0.id, chain.id);
    }
}
