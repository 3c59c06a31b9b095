//! Points in time, and where "now" comes from.

use std::fmt::Debug;

use ::time::OffsetDateTime;

/// A point in time: whole milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The point `millis` milliseconds after 1970-01-01T00:00:00Z.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The point `seconds` seconds later; the end of time where that does not fit.
    #[must_use]
    pub const fn plus_seconds(self, seconds: u64) -> Self {
        let millis = seconds.saturating_mul(1_000);
        if millis > i64::MAX as u64 {
            return Self(i64::MAX);
        }
        Self(self.0.saturating_add(millis as i64))
    }

    /// The point `seconds` seconds earlier; the beginning of time where that does not fit.
    #[must_use]
    pub const fn minus_seconds(self, seconds: u32) -> Self {
        Self(self.0.saturating_sub(seconds as i64 * 1_000))
    }

    /// Whether RFC 3339 can write it: from 1970 to the end of the year 9999.
    pub const fn fits_rfc3339(self) -> bool {
        let seconds = self.0.div_euclid(1_000);
        0 <= seconds && seconds <= LAST_RFC3339_SECOND
    }

    /// Whole seconds from this point to a later one; 0 to an earlier one.
    pub fn seconds_until(self, end: Self) -> u64 {
        u64::try_from(end.0.saturating_sub(self.0)).unwrap_or_default() / 1_000
    }

    /// RFC 3339 in UTC with whole seconds, the form of the v2 API: `2026-11-23T09:30:00Z`.
    pub fn to_rfc3339_seconds(self) -> String {
        let mut text = self.date_and_time();
        text.push('Z');
        text
    }

    /// RFC 3339 in UTC with milliseconds, the form of records: `2026-11-23T09:30:00.123Z`.
    pub fn to_rfc3339_millis(self) -> String {
        let mut text = self.date_and_time();
        text.push('.');
        push_digits(&mut text, 3, self.0.rem_euclid(1_000));
        text.push('Z');
        text
    }

    /// RFC 3339 in UTC with nine digits behind the point, the form of the KV2 API:
    /// `2026-11-23T09:30:00.123000000Z`. The last six are zero.
    pub fn to_rfc3339_nanos(self) -> String {
        let mut text = self.to_rfc3339_millis();
        text.pop();
        text.push_str("000000Z");
        text
    }
}

impl Timestamp {
    /// Without a zone. Made by hand: an answer has up to five of them.
    fn date_and_time(self) -> String {
        // The clamp makes the conversion infallible: RFC 3339 ends at year 9999.
        let seconds = self.0.div_euclid(1_000).clamp(0, LAST_RFC3339_SECOND);
        let time =
            OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let mut text = String::with_capacity("2026-11-23T09:30:00.123000000Z".len());
        push_digits(&mut text, 4, time.year().into());
        for (before, number) in [
            ('-', u8::from(time.month())),
            ('-', time.day()),
            ('T', time.hour()),
            (':', time.minute()),
            (':', time.second()),
        ] {
            text.push(before);
            push_digits(&mut text, 2, number.into());
        }
        text
    }
}

/// Adds the last `count` decimal digits of a number that is not negative.
fn push_digits(text: &mut String, count: u32, number: i64) {
    for place in (0..count).rev() {
        let digit = (number / 10_i64.pow(place)).rem_euclid(10);
        text.extend(char::from_digit(u32::try_from(digit).unwrap_or_default(), 10));
    }
}

/// Where "now" comes from: the system in production, a test's own hand in tests.
pub trait Clock: Send + Sync + Debug {
    /// The present point in time.
    fn now(&self) -> Timestamp;
}

/// 9999-12-31T23:59:59Z, the last second that RFC 3339 can write.
const LAST_RFC3339_SECOND: i64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_cut_not_rounded_and_carry_a_z() {
        assert_eq!(Timestamp::from_millis(0).to_rfc3339_seconds(), "1970-01-01T00:00:00Z");
        assert_eq!(
            Timestamp::from_millis(1_795_425_000_999).to_rfc3339_seconds(),
            "2026-11-23T09:10:00Z"
        );
        assert_eq!(Timestamp::from_millis(i64::MAX).to_rfc3339_seconds(), "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp::from_millis(i64::MIN).to_rfc3339_seconds(), "1970-01-01T00:00:00Z");
        let millis = Timestamp::from_millis(1_795_425_000_009).to_rfc3339_millis();
        assert_eq!(millis, "2026-11-23T09:10:00.009Z");
    }

    #[test]
    fn every_day_is_written_as_the_library_does() {
        use ::time::format_description::well_known::Rfc3339;
        // A number of seconds that meets each second, minute, hour and day of a month in turn.
        for seconds in (0..=LAST_RFC3339_SECOND).step_by(987_653) {
            let expected = OffsetDateTime::from_unix_timestamp(seconds).unwrap().format(&Rfc3339);
            let written = Timestamp::from_millis(seconds * 1_000 + 999).to_rfc3339_seconds();
            assert_eq!(written, expected.unwrap());
        }
    }

    #[test]
    fn adding_saturates() {
        let late = Timestamp::from_millis(i64::MAX - 1);
        assert_eq!(late.plus_seconds(u64::MAX).as_millis(), i64::MAX);
        assert_eq!(Timestamp::from_millis(5).plus_seconds(2).as_millis(), 2_005);
        assert_eq!(Timestamp::from_millis(5).minus_seconds(2).as_millis(), -1_995);
    }
}
