//! Further places for the same lines.
//!
//! The file is the authority: a sink that is slow or fails is logged, with how much it has missed so far, and
//! neither holds back nor stops anything. Each has a thread of its own behind a queue of bounded length; what
//! does not fit is dropped.
//!
//! The system log takes datagrams of RFC 5424, which is one line to format. The libraries for it block
//! where the log is slow, or bring a clock and a host name of their own.

use std::{
    io::{self, ErrorKind, Write},
    os::unix::net::UnixDatagram,
    process,
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::warn;

use super::Options;

/// The further places that an audit log has.
pub(super) struct Sinks(Vec<Sink>);

struct Sink {
    name: &'static str,
    queue: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
    dropped: u64,
    told_at: Option<Instant>,
}

impl Sinks {
    /// Starts those that are wanted.
    pub(super) fn start(options: &Options) -> Self {
        let mut sinks = Vec::new();
        if options.stdout {
            sinks.extend(Sink::start("stdout", to_stdout));
        }
        if options.syslog {
            let mut log = Syslog::new(SYSLOG);
            sinks.extend(Sink::start("syslog", move |line| log.send(line)));
        }
        Self(sinks)
    }

    /// Hands lines over.
    pub(super) fn send(&mut self, lines: Vec<u8>) {
        let Some((last, others)) = self.0.split_last_mut() else { return };
        if lines.is_empty() {
            return;
        }
        for sink in others {
            sink.send(lines.clone());
        }
        last.send(lines);
    }

    /// Lets them write what they have, for a moment.
    pub(super) fn end(&mut self) {
        let deadline = Instant::now() + END_TIME;
        for sink in &mut self.0 {
            sink.queue = None;
            while sink.thread.as_ref().is_some_and(|thread| !thread.is_finished())
                && Instant::now() < deadline
            {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Sink {
    fn start(
        name: &'static str,
        mut write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> Option<Self> {
        let (queue, batches) = sync_channel::<Vec<u8>>(QUEUE);
        let work = move || {
            let mut failures = Failures { name, count: 0, told_at: None };
            for lines in batches {
                for line in lines.split_inclusive(|byte| *byte == b'\n') {
                    if let Err(error) = write(line) {
                        failures.tell(&error);
                    }
                }
            }
        };
        match thread::Builder::new().name(format!("audit-{name}")).spawn(work) {
            Ok(thread) => Some(Self {
                name,
                queue: Some(queue),
                thread: Some(thread),
                dropped: 0,
                told_at: None,
            }),
            Err(error) => {
                warn!(sink = name, %error, "a further sink of the audit log cannot start");
                None
            }
        }
    }

    fn send(&mut self, lines: Vec<u8>) {
        let Some(queue) = &self.queue else { return };
        match queue.try_send(lines) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped += 1;
                if is_time(&mut self.told_at) {
                    let (sink, batches) = (self.name, self.dropped);
                    warn!(
                        sink,
                        batches, "a further sink of the audit log is too slow: it misses lines"
                    );
                }
            }
        }
    }
}

struct Failures {
    name: &'static str,
    count: u64,
    told_at: Option<Instant>,
}

impl Failures {
    fn tell(&mut self, error: &io::Error) {
        self.count += 1;
        if is_time(&mut self.told_at) {
            let (sink, lines) = (self.name, self.count);
            warn!(sink, lines, %error, "a further sink of the audit log fails: it misses lines");
        }
    }
}

/// Whether it was said long enough ago to be said again.
fn is_time(told_at: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let due = told_at.is_none_or(|at| now.duration_since(at) >= TELL_AGAIN);
    if due {
        *told_at = Some(now);
    }
    due
}

fn to_stdout(line: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(line)?;
    stdout.flush()
}

/// The system log, by datagrams.
pub(super) struct Syslog {
    path: &'static str,
    socket: Option<UnixDatagram>,
}

impl Syslog {
    pub(super) const fn new(path: &'static str) -> Self {
        Self { path, socket: None }
    }

    pub(super) fn send(&mut self, line: &[u8]) -> io::Result<()> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        // Authorization messages (facility 10), informational; time and host are the log's own to add,
        // the line has its time.
        let mut datagram = format!("<86>1 - - okmsd {} audit - ", process::id()).into_bytes();
        datagram.extend_from_slice(line);
        for _ in 0..2 {
            let socket = match self.socket.take() {
                Some(socket) => socket,
                None => self.connect()?,
            };
            match socket.send(&datagram) {
                Ok(_) => {
                    self.socket = Some(socket);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.socket = Some(socket);
                    return Err(error);
                }
                // The log was started again: its socket is another one now.
                Err(_) => {}
            }
        }
        Err(ErrorKind::NotConnected.into())
    }

    fn connect(&self) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SYSLOG_WAIT))?;
        socket.connect(self.path)?;
        Ok(socket)
    }
}

/// Where Linux systems take messages.
pub(super) const SYSLOG: &str = "/dev/log";

/// Batches that wait for a sink.
const QUEUE: usize = 1_024;

/// How long the system log may take for a line; what it cannot take then is dropped.
const SYSLOG_WAIT: Duration = Duration::from_secs(1);

/// How long sinks may take at the end.
const END_TIME: Duration = Duration::from_secs(1);

/// How often the same failure is logged.
const TELL_AGAIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_log_gets_each_line_as_a_datagram_and_a_restart_of_it_is_survived() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let name: &'static str = Box::leak(path.display().to_string().into_boxed_str());
        let mut log = Syslog::new(name);
        assert!(log.send(b"{}\n").is_err(), "nobody listens");
        for _ in 0..2 {
            let socket = UnixDatagram::bind(&path).unwrap();
            log.send(b"{\"seq\":1}\n").unwrap();
            let mut buffer = [0; 200];
            let length = socket.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            assert!(text.starts_with("<86>1 - - okmsd "), "{text}");
            assert!(text.ends_with(" audit - {\"seq\":1}"), "{text}");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_sink_that_hangs_holds_nothing_back() {
        let (release, wait) = sync_channel::<()>(0);
        let write = move |_: &[u8]| {
            let _released = wait.recv();
            Ok(())
        };
        let mut sinks = Sinks(vec![Sink::start("test", write).unwrap()]);
        let started = Instant::now();
        for _ in 0..QUEUE + 10 {
            sinks.send(b"x\n".to_vec());
        }
        assert!(started.elapsed() < Duration::from_secs(5));
        assert!(sinks.0[0].dropped >= 9);
        drop(release);
        sinks.end();
    }
}
