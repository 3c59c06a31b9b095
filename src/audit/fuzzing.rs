//! A way in for `tests/fuzz`, which no other build has.

use super::line::{Entry, NO_HASH, Notice, Parsed, Pending, What, hash};
use crate::domain::Timestamp;

/// A line as a verification reads it: its number, the hash of the line before, its kind and what it says.
pub fn read(line: &[u8]) -> Option<(u64, String, String, Option<String>)> {
    Parsed::read(line).map(|it| (it.seq, it.prev, it.kind, it.detail))
}

/// The line of a notice.
pub fn notice(seq: u64, time: Timestamp, detail: &str) -> String {
    let notice = Notice { what: What::Resumed, detail: Some(detail.to_owned()) };
    Pending::new(time, &Entry::Notice(notice)).render(seq, NO_HASH)
}

/// The hash that the line after this one names.
pub fn hash_of(line: &[u8]) -> String {
    hash(line)
}
