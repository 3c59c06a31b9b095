//! From [`Timestamp`] to the times in a certificate.

use time::OffsetDateTime;

use crate::domain::Timestamp;

use super::Error;

/// The time for which a certificate counts, in whole seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
}

impl Validity {
    /// From `not_before` to `not_after`.
    ///
    /// # Errors
    ///
    /// If the end is not after the beginning, or X.509 can't write one of them.
    pub(super) fn new(not_before: Timestamp, not_after: Timestamp) -> Result<Self, Error> {
        let validity = Self { not_before: date(not_before)?, not_after: date(not_after)? };
        if validity.not_after <= validity.not_before {
            return Err(Error::new(format!(
                "a certificate can't end ({}) before it begins ({})",
                not_after.to_rfc3339_seconds(),
                not_before.to_rfc3339_seconds()
            )));
        }
        Ok(validity)
    }

    /// `days` days that began a little before `now`.
    ///
    /// # Errors
    ///
    /// If `days` is 0 or reaches past the year 9999.
    pub(super) fn days(now: Timestamp, days: u32) -> Result<Self, Error> {
        let not_before = Timestamp::from_millis(now.as_millis().saturating_sub(BACKDATE_MILLIS));
        Self::new(not_before, not_before.plus_seconds(u64::from(days) * SECONDS_PER_DAY))
    }
}

fn date(time: Timestamp) -> Result<OffsetDateTime, Error> {
    let seconds = time.as_millis().div_euclid(1_000);
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .filter(|date| (1970..=9999).contains(&date.year()))
        .ok_or_else(|| Error::new("a certificate can't hold times outside the years 1970 to 9999"))
}

/// One hour: a client whose clock is behind ours by less accepts a certificate made just now. It is
/// taken from the front, so that the whole validity never exceeds the days asked for.
const BACKDATE_MILLIS: i64 = 3_600_000;

const SECONDS_PER_DAY: u64 = 86_400;
