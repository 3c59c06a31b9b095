//! The time of the system.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::{Clock, Timestamp};

/// The clock of the machine. Nothing else in this crate asks the system for the time.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    fn now(&self) -> Timestamp {
        // A clock before 1970 reads as 1970: nothing is valid yet then, so certificates fail safe.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_moves_on_and_is_later_than_this_test_was_written() {
        let first = SystemClock.now();
        assert!(first.as_millis() > 1_760_000_000_000);
        assert!(SystemClock.now() >= first);
    }
}
