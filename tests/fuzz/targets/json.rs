//! Our JSON beside serde_json's, and its compact form.

#![no_main]

use okmsd::domain::json::{Json, MAX_DEPTH, Refusal};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let theirs = serde_json::from_slice::<serde_json::Value>(bytes);
    match Json::parse(bytes) {
        Ok(ours) => {
            assert!(ours.depth() <= MAX_DEPTH);
            let compact = ours.to_compact();
            let again = Json::parse(compact.as_bytes()).expect("what we write, we read");
            assert_eq!(*again.to_compact(), *compact, "the compact form is not canonical");
            // What is out of the range of their numbers is refused by them alone.
            if let Ok(theirs) = theirs {
                let written: serde_json::Value = serde_json::from_str(&compact).expect("JSON");
                assert_eq!(written, theirs, "another value is written than was read");
            }
            let mut merged = Json::parse(compact.as_bytes()).expect("read before");
            if matches!(merged, Json::Object(_)) {
                merged.merge(&Json::Object(Vec::new()));
                assert_eq!(*merged.to_compact(), *compact, "an empty patch changes something");
            }
            // Of keys no value is left.
            let keys = ours.keys(usize::MAX).to_compact();
            let keys: serde_json::Value = serde_json::from_str(&keys).expect("JSON");
            assert!(is_bare(&keys));
        }
        Err(refusal) => {
            let is_syntax = matches!(refusal, Refusal::Syntax { .. } | Refusal::NotUtf8);
            assert!(!is_syntax || theirs.is_err(), "JSON is refused: {refusal}");
        }
    }
});

fn is_bare(keys: &serde_json::Value) -> bool {
    match keys {
        serde_json::Value::Null => true,
        serde_json::Value::Object(members) => members.values().all(is_bare),
        _ => false,
    }
}
