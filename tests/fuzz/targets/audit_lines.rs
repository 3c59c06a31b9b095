//! Lines of the audit log: whatever a line is to say, it is one line, and is read as what was written.

#![no_main]

use okmsd::{audit::fuzzing as audit, domain::Timestamp};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((_, _, kind, _)) = audit::read(bytes) {
        let line: serde_json::Value = serde_json::from_slice(bytes).expect("a line is JSON");
        assert!(line.is_object() || line.is_array());
        assert!(
            ["file", "request", "act", "notice", "checkpoint", "removed"].contains(&kind.as_str())
        );
    }

    let Ok(detail) = std::str::from_utf8(bytes) else { return };
    let mut number = [0; 8];
    for (place, byte) in number.iter_mut().zip(bytes) {
        *place = *byte;
    }
    let seq = u64::from_le_bytes(number);
    let time = Timestamp::from_millis(i64::try_from(seq % FIVE_CENTURIES).expect("small"));
    let written = audit::notice(seq, time, detail);
    assert!(!written.contains('\n'), "a line that is two");
    let (number, prev, kind, read) = audit::read(written.as_bytes()).expect("our own line");
    assert_eq!((number, kind.as_str(), read.as_deref()), (seq, "notice", Some(detail)));
    assert_eq!(prev, "0".repeat(64));
    // Another text is another line, with another hash.
    let other = audit::notice(seq, time, &format!("{detail}."));
    assert_ne!(audit::hash_of(written.as_bytes()), audit::hash_of(other.as_bytes()));
});

/// In milliseconds.
const FIVE_CENTURIES: u64 = 500 * 365 * 86_400_000;
