//! Durations after which versions close.

use super::{Argument, Error};

/// How long a version stays open after it was written (`deactivateVersionAfter`).
///
/// The grammar is the union of what the service's web console and KV2 clients send: a bare integer
/// (seconds), or numbers with the units `ns us µs ms s m h d`, such as `30s`, `1.5h` or
/// `7d1h30m10s`; no blanks, no sign. Parts below a second are cut off. The text is kept as it was
/// given, since the v2 API gives it back letter by letter. Zero means "not set".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionLifetime {
    text: String,
    seconds: u64,
}

impl VersionLifetime {
    /// The longest duration: 100 years of 365.25 days. It is far beyond any rotation period, and
    /// keeps every sum with a point in time inside its range.
    pub const MAX_SECONDS: u64 = 36_525 * 86_400;
    /// The longest text, since it is stored as given. `36500d23h59m59s999ms` has 20 letters.
    pub const MAX_LEN: usize = 64;

    /// Reads a duration; the empty text is the duration that is not set.
    ///
    /// # Errors
    ///
    /// [`Argument::DeactivateVersionAfter`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let refuse = |rule: &str| {
            let text = format!("deactivateVersionAfter {rule}");
            Err(Error::argument(Argument::DeactivateVersionAfter, text))
        };
        if text.len() > Self::MAX_LEN {
            return refuse("must have at most 64 characters");
        }
        let Some(normal) = normalize(text) else {
            return refuse("must be a duration such as 30s, 5m, 2h, 7d or 7d1h30m10s");
        };
        let duration = match humantime::parse_duration(&normal) {
            Ok(duration) => duration,
            Err(_) => return refuse("must be a duration of at most 36525d"),
        };
        let seconds = duration.as_secs();
        if seconds > Self::MAX_SECONDS {
            return refuse("must be a duration of at most 36525d");
        }
        if seconds == 0 && !duration.is_zero() {
            return refuse("must be 0 or a duration of at least 1s");
        }
        Ok(Self { text: text.to_owned(), seconds })
    }

    /// Whether it is zero.
    pub const fn is_unset(&self) -> bool {
        self.seconds == 0
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The duration as the KV2 API writes it, in the form of Go's `time.Duration`: hours, minutes and
    /// seconds from the largest that is not zero on, such as `24h0m0s`, `1m30s` and `0s`.
    pub fn to_go(&self) -> String {
        let (hours, minutes, seconds) =
            (self.seconds / 3_600, self.seconds / 60 % 60, self.seconds % 60);
        match (hours, minutes) {
            (0, 0) => format!("{seconds}s"),
            (0, _) => format!("{minutes}m{seconds}s"),
            _ => format!("{hours}h{minutes}m{seconds}s"),
        }
    }

    /// Whole seconds.
    pub const fn seconds(&self) -> u64 {
        self.seconds
    }
}

impl Default for VersionLifetime {
    /// Not set, written `0s`.
    fn default() -> Self {
        Self { text: "0s".to_owned(), seconds: 0 }
    }
}

/// Checks the grammar and writes the duration the way humantime reads it. humantime by itself takes
/// more than the API does (months, years, blanks) and less (bare seconds, `.5h`).
fn normalize(text: &str) -> Option<String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(format!("{text}s"));
    }
    let mut normal = String::with_capacity(text.len() + 2);
    let mut rest = text;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (unit, after) = UNITS.iter().find_map(|(unit, normal_unit)| {
            after.strip_prefix(unit).map(|after| (normal_unit, after))
        })?;
        normal.push_str(if whole.is_empty() { "0" } else { whole });
        if !fraction.is_empty() {
            normal.push('.');
            normal.push_str(fraction);
        }
        normal.push_str(unit);
        rest = after;
    }
    Some(normal)
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// Units as they are written and as humantime reads them; `ms` before `m`, so that it is found.
/// The micro sign exists twice in Unicode.
const UNITS: [(&str, &str); 9] = [
    ("ns", "ns"),
    ("us", "us"),
    ("µs", "us"),
    ("μs", "us"),
    ("ms", "ms"),
    ("s", "s"),
    ("m", "m"),
    ("h", "h"),
    ("d", "d"),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        VersionLifetime::parse(text).ok().map(|lifetime| lifetime.seconds())
    }

    #[test]
    fn every_form_that_clients_send_is_read() {
        for (text, expected) in [
            ("", 0),
            ("0", 0),
            ("0s", 0),
            ("0h0m", 0),
            ("100", 100),
            ("30s", 30),
            ("5m", 300),
            ("2h", 7_200),
            ("7d", 604_800),
            ("10h30m10s", 37_810),
            ("7d1h30m10s", 610_210),
            ("1.5h", 5_400),
            (".5h", 1_800),
            ("1.h", 3_600),
            ("1500ms", 1),
            ("1h1h", 7_200),
            ("2000000us", 2),
            ("2000000µs", 2),
            ("2000000μs", 2),
            ("3000000000ns", 3),
            ("1.5d", 129_600),
            ("36525d", 36_525 * 86_400),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "-1s",
            "+1h",
            "1 h",
            " 1h",
            "1h ",
            "1h 30m",
            "1M",
            "1month",
            "1w",
            "1y",
            "1day",
            "1min",
            "1H",
            "10D",
            "h",
            "x",
            ".",
            ".s",
            "1..5h",
            "1h30",
            "1e3s",
            "٣s",
            "500ms",
            "999999us",
            "36525d1s",
            "99999999999999999999s",
            "99999999999999999999d",
            "1sec",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
        assert_eq!(seconds(&"1s".repeat(33)), None);
    }

    #[test]
    fn the_text_comes_back_as_it_was() {
        for text in ["1d", "24h", "86400", "0h"] {
            assert_eq!(VersionLifetime::parse(text).unwrap().as_str(), text);
        }
        assert_eq!(VersionLifetime::parse("").unwrap().as_str(), "0s");
    }

    #[test]
    fn go_reads_what_is_written_for_it() {
        for (text, expected) in [
            ("0", "0s"),
            ("59", "59s"),
            ("60", "1m0s"),
            ("90s", "1m30s"),
            ("1h", "1h0m0s"),
            ("1d", "24h0m0s"),
            ("10h30m10s", "10h30m10s"),
            ("36525d", "876600h0m0s"),
        ] {
            assert_eq!(VersionLifetime::parse(text).unwrap().to_go(), expected, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn whole_units_add_up(d in 0_u64..300, h in 0_u64..99, m in 0_u64..99, s in 0_u64..99) {
            let expected = d * 86_400 + h * 3_600 + m * 60 + s;
            prop_assert_eq!(seconds(&format!("{d}d{h}h{m}m{s}s")), Some(expected));
        }

        #[test]
        fn what_is_written_for_go_reads_back_the_same(
            wanted in prop_oneof![0_u64..100_000, 0..=VersionLifetime::MAX_SECONDS],
        ) {
            let text = VersionLifetime::parse(&wanted.to_string()).unwrap().to_go();
            prop_assert_eq!(seconds(&text), Some(wanted));
            // Go has no days, and takes the larger unit first.
            let units: String = text.chars().filter(|letter| !letter.is_ascii_digit()).collect();
            prop_assert!(["s", "ms", "hms"].contains(&&units[..]), "{}", text);
        }

        #[test]
        fn nothing_panics_and_what_is_read_is_bounded(text in "[0-9.nuµmshd -]{0,12}") {
            if let Ok(lifetime) = VersionLifetime::parse(&text) {
                prop_assert!(lifetime.seconds() <= VersionLifetime::MAX_SECONDS);
            }
        }
    }
}
