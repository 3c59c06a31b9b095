//! Lines of the audit log: whatever a line is to say, it is one line, and is read as what was written.

#![no_main]

use okmsd::{audit::fuzzing as audit, domain::Timestamp};

libfuzzer_sys::fuzz_target!(|input: (u64, u32, &str, &[u8])| {
    let (seq, seconds, detail, line) = input;
    let time = Timestamp::from_millis(i64::from(seconds) * 1_000);
    let written = audit::notice(seq, time, detail);
    assert!(!written.contains('\n'), "a line that is two");
    let (number, prev, kind, read) = audit::read(written.as_bytes()).expect("our own line");
    assert_eq!((number, kind.as_str(), read.as_deref()), (seq, "notice", Some(detail)));
    assert_eq!(prev, "0".repeat(64));
    // Another text is another line, with another hash.
    let other = audit::notice(seq, time, &format!("{detail}."));
    assert_ne!(audit::hash_of(written.as_bytes()), audit::hash_of(other.as_bytes()));

    if let Some((_, _, kind, _)) = audit::read(line) {
        let object: serde_json::Value = serde_json::from_slice(line).expect("a line is JSON");
        assert!(object.is_object() || object.is_array());
        assert!(
            ["file", "request", "act", "notice", "checkpoint", "removed"].contains(&kind.as_str())
        );
    }
});
