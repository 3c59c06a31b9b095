//! Points in time, and where "now" comes from.

use std::fmt::Debug;

use ::time::{OffsetDateTime, format_description::well_known::Rfc3339};

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
        // The clamp makes the conversion and the formatting infallible: RFC 3339 ends at year 9999.
        let seconds = self.0.div_euclid(1_000).clamp(0, LAST_RFC3339_SECOND);
        OffsetDateTime::from_unix_timestamp(seconds)
            .ok()
            .and_then(|time| time.format(&Rfc3339).ok())
            .unwrap_or_default()
    }

    /// RFC 3339 in UTC with milliseconds, the form of records: `2026-11-23T09:30:00.123Z`.
    pub fn to_rfc3339_millis(self) -> String {
        let seconds = self.to_rfc3339_seconds();
        format!("{}.{:03}Z", seconds.trim_end_matches('Z'), self.0.rem_euclid(1_000))
    }

    /// RFC 3339 in UTC with nine digits behind the point, the form of the KV2 API:
    /// `2026-11-23T09:30:00.123000000Z`. The last six are zero.
    pub fn to_rfc3339_nanos(self) -> String {
        format!("{}000000Z", self.to_rfc3339_millis().trim_end_matches('Z'))
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
        let millis = Timestamp::from_millis(1_795_425_000_009).to_rfc3339_millis();
        assert_eq!(millis, "2026-11-23T09:10:00.009Z");
    }

    #[test]
    fn adding_saturates() {
        let late = Timestamp::from_millis(i64::MAX - 1);
        assert_eq!(late.plus_seconds(u64::MAX).as_millis(), i64::MAX);
        assert_eq!(Timestamp::from_millis(5).plus_seconds(2).as_millis(), 2_005);
        assert_eq!(Timestamp::from_millis(5).minus_seconds(2).as_millis(), -1_995);
    }
}
