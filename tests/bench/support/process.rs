//! What a process takes of the machine, as Linux tells it.

use std::{fs, path::Path, time::Duration};

/// What a process has taken since its beginning.
#[derive(Debug, Clone)]
pub struct Usage {
    /// Of processors, all its threads together.
    pub processor: Duration,
    /// Bytes that it has had written to the disk.
    pub written: u64,
}

impl Usage {
    pub fn of(process: u32) -> Self {
        let stat = read(process, "stat");
        // The second field is a name in brackets, with anything in it. User and system time are the 14th and
        // the 15th.
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(number).sum();
        let written = field(&read(process, "io"), "write_bytes:");
        Self { processor: Duration::from_millis(ticks * MILLIS_PER_TICK), written }
    }

    pub fn since(&self, before: &Self) -> Self {
        Self {
            processor: self.processor - before.processor,
            written: self.written - before.written,
        }
    }
}

/// Bytes of memory that a process has now.
pub fn memory(process: u32) -> u64 {
    field(&read(process, "status"), "VmRSS:") * 1024
}

/// Bytes of a file and of those that SQLite keeps beside it.
pub fn database_size(file: &Path) -> u64 {
    let beside = ["", "-wal", "-shm"].map(|end| format!("{}{end}", file.display()));
    beside.iter().filter_map(|file| fs::metadata(file).ok()).map(|file| file.len()).sum()
}

fn read(process: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{process}/{file}")).expect("a process that runs")
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
    number(line.split_whitespace().next().expect("a number"))
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

/// Linux shows time to programs in hundredths of a second.
const MILLIS_PER_TICK: u64 = 10;
