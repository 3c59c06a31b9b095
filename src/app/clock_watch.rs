//! Whether the clock of the machine goes on as time does.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::domain::{Clock, Timestamp};

/// Logs whenever the clock is set. Versions close, and credentials, tokens and certificates end, by this clock alone:
/// one that jumps closes many of them at a time, and opens them again when it is set back. Nothing is written
/// because of that.
pub(super) async fn watch_clock(clock: Arc<dyn Clock>) {
    let mut last = Look { wall: clock.now(), steady: Instant::now() };
    let mut looks = interval(INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let look = Look { wall: clock.now(), steady: Instant::now() };
        if let Some(millis) = look.jump_since(&last) {
            tracing::warn!(
                clock.jump_seconds = millis / 1_000,
                clock.now = look.wall.to_rfc3339_seconds(),
                "the clock of this machine was set, or stood still: what closes or ends at a time does so by it"
            );
        }
        last = look;
    }
}

/// The clock of the machine, and one that nobody sets, at a moment.
#[derive(Clone, Copy)]
struct Look {
    wall: Timestamp,
    steady: Instant,
}

impl Look {
    /// By how many milliseconds the clock was set since an earlier look; `None` where it went on as it should.
    fn jump_since(&self, last: &Self) -> Option<i64> {
        let passed = self.steady.duration_since(last.steady).as_millis();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        let shown = self.wall.as_millis().saturating_sub(last.wall.as_millis());
        let jump = shown.saturating_sub(passed);
        (jump.unsigned_abs() >= JUMP_MILLIS).then_some(jump)
    }
}

/// So soon that the log tells of it next to what comes of it.
const INTERVAL: Duration = Duration::from_secs(1);

/// Far more than the two clocks can be apart because they are not read at the very same time, and than what time
/// services correct little by little; far less than any lifetime that matters.
const JUMP_MILLIS: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_noticed_and_one_that_goes_on_is_not() {
        let year = 365 * 86_400_000;
        let (wall, steady) = (Timestamp::from_millis(1_800_000_000_000), Instant::now());
        let last = Look { wall, steady };
        for (shown, passed, jump) in [
            (1_000, 1_000, None),
            // A process that was not run for an hour.
            (3_600_000, 3_600_000, None),
            (5_900, 1_000, None),
            (6_000, 1_000, Some(5_000)),
            (-3_900, 1_000, None),
            (-4_000, 1_000, Some(-5_000)),
            (year + 1_000, 1_000, Some(year)),
            (1_000 - year, 1_000, Some(-year)),
            (i64::MAX, 1_000, Some(i64::MAX - 1_800_000_000_000 - 1_000)),
        ] {
            let wall = Timestamp::from_millis(wall.as_millis().saturating_add(shown));
            let look = Look { wall, steady: steady + Duration::from_millis(passed) };
            assert_eq!(look.jump_since(&last), jump, "{shown} in {passed}");
        }
    }
}
