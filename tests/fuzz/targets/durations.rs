//! Durations, beside a sum of exact numbers.

#![no_main]

use okmsd::domain::VersionLifetime;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let parsed = VersionLifetime::parse(text);
    if let Ok(lifetime) = &parsed {
        assert!(lifetime.seconds() <= VersionLifetime::MAX_SECONDS);
        assert!(text.is_empty() || lifetime.as_str() == text, "not kept as it was given");
        let go = VersionLifetime::parse(&lifetime.to_go()).expect("our own form");
        assert_eq!(go.seconds(), lifetime.seconds());
        let fit = |char: char| char.is_ascii_digit() || ".nuµμsmhd".contains(char);
        assert!(text.chars().all(fit), "a letter that is no unit");
    }
    // Whole numbers have one meaning; fractions are cut somewhere below a second.
    match exact_nanoseconds(text) {
        Some(sum) if text.len() <= VersionLifetime::MAX_LEN => {
            let seconds = sum / SECOND;
            let fits =
                seconds <= u128::from(VersionLifetime::MAX_SECONDS) && (sum == 0 || seconds > 0);
            match parsed {
                Ok(lifetime) => {
                    assert!(fits, "{text}: out of bounds, and taken");
                    assert_eq!(u128::from(lifetime.seconds()), seconds, "{text}");
                }
                Err(_) => assert!(!fits, "{text}: within bounds, and refused"),
            }
        }
        _ if text.contains('.') || text.is_empty() => {}
        _ => assert!(parsed.is_err(), "{text}: no duration, and taken"),
    }
});

/// The duration of a text without fractions; `None` where it is none, or a number of it has no end.
fn exact_nanoseconds(text: &str) -> Option<u128> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<u64>().ok().map(|seconds| u128::from(seconds) * SECOND);
    }
    let (mut sum, mut rest) = (0_u128, text);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, scale) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        sum = sum.checked_add(u128::from(number) * scale)?;
        rest = &rest[unit.len()..];
    }
    (!text.is_empty()).then_some(sum)
}

const SECOND: u128 = 1_000_000_000;
const UNITS: [(&str, u128); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3_600 * SECOND),
    ("d", 86_400 * SECOND),
];
