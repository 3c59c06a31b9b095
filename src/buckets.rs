//! Rates of many callers in memory of a fixed size.
//!
//! Each caller has a bucket that holds as many requests, or handshakes, as the rate allows in a second and fills again
//! at that rate (GCRA: a bucket is one number, the time at which it is full again). The buckets of all callers share the
//! cells of a table, four cells each, and a request is refused only when none of its four lets it through. So
//!
//! - nothing is ever evicted: no flood of other callers gives anybody a fresh bucket,
//! - memory does not grow, whoever calls from however many addresses,
//! - there are no locks,
//! - and a caller suffers from others only where all four of its cells are used up by them. Where they are is
//!   secret, and callers who all use up their rates, a tenth as many as a row has cells, have taken a ten-thousandth of
//!   such places.
//!
//! `governor`, the usual library for this, keeps one entry for each key in a sharded map until somebody looks through all
//! of them; a flood of addresses would make it grow without end.

use std::{
    array,
    hash::{BuildHasher, Hash, RandomState},
    num::NonZeroUsize,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::domain::Timestamp;

/// One rate for many callers.
pub struct Buckets {
    /// When a cell is full again, in nanoseconds of the caller's clock.
    rows: [Box<[AtomicU64]>; ROWS],
    /// For how long a request takes from a bucket.
    step: u64,
    /// With a key of its own, so that nobody can aim at the cells of another.
    hasher: RandomState,
}

impl Buckets {
    /// Buckets for `rate` requests in a second, in four rows of so many cells of 8 bytes; none where the rate is 0, which
    /// is no limit.
    pub fn new(rate: u32, row_len: NonZeroUsize) -> Option<Self> {
        let step = SECOND.checked_div(u64::from(rate))?.max(1);
        let row = |_| (0..row_len.get()).map(|_| AtomicU64::new(0)).collect();
        Some(Self { rows: array::from_fn(row), step, hasher: RandomState::new() })
    }

    /// Takes a request from the bucket of a caller; `false` where there is none in it.
    ///
    /// Of a caller's requests at one moment on many threads, each thread may get one too many.
    pub fn take(&self, caller: impl Hash, now: Timestamp) -> bool {
        self.take_within(caller, now, Duration::ZERO).is_some()
    }

    /// Takes a request from the bucket of a caller, or one that will be in it later, each in its turn: says how long to
    /// wait for it. `None` where that is longer than `longest`.
    pub fn take_within(
        &self,
        caller: impl Hash,
        now: Timestamp,
        longest: Duration,
    ) -> Option<Duration> {
        let now = u64::try_from(now.as_millis()).unwrap_or(0).saturating_mul(SECOND / 1_000);
        let now = now.min(u64::MAX / 4);
        // All cells fill at the same moments. Otherwise those of a caller, which others have used at times between,
        // would let a request through one after another: up to four times the rate.
        let now = now - now % self.step;
        let longest = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX / 4);
        // A bucket that lacks more than a second's requests is empty until then.
        let latest = now + SECOND + longest;
        let hash = self.hasher.hash_one(caller);
        let after = |full_at: u64| {
            // Later than that no cell is ever full: the clock was set back. Whoever calls does not wait for it.
            let full_at = if full_at > latest + CLOCK_SLACK { now } else { full_at.max(now) };
            Some(full_at + self.step).filter(|next| *next <= latest)
        };
        let mut wait = None;
        for (row, cells) in self.rows.iter().enumerate() {
            let place = (hash >> (row * 16)) as usize % cells.len();
            let (order, Some(cell)) = (Ordering::Relaxed, cells.get(place)) else { continue };
            if let Ok(full_at) = cell.fetch_update(order, order, after) {
                let of_row = after(full_at)?.saturating_sub(now + SECOND);
                wait = Some(wait.map_or(of_row, |least: u64| least.min(of_row)));
            }
        }
        wait.map(Duration::from_nanos)
    }
}

const SECOND: u64 = 1_000_000_000;
/// What a clock may be set back by, or differ between two threads, without being taken for another time.
const CLOCK_SLACK: u64 = SECOND;
/// Cells of each caller.
const ROWS: usize = 4;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    const NOW: i64 = 1_772_600_767_000;

    fn with_rate(rate: u32) -> Buckets {
        Buckets::new(rate, NonZeroUsize::new(1 << 14).unwrap()).unwrap()
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(NOW + millis)
    }

    /// How many of a caller's next requests pass at one moment.
    fn passing(buckets: &Buckets, caller: u32, millis: i64) -> usize {
        (0..5_000).take_while(|_| buckets.take(caller, at(millis))).count()
    }

    #[test]
    fn a_bucket_holds_a_second_and_fills_at_the_rate() {
        let buckets = with_rate(10);
        assert_eq!(passing(&buckets, 1, 0), 10);
        assert_eq!(passing(&buckets, 1, 99), 0);
        assert_eq!(passing(&buckets, 1, 100), 1);
        assert_eq!(passing(&buckets, 1, 450), 3);
        assert_eq!(passing(&buckets, 1, 60_000), 10);
        assert_eq!(passing(&buckets, 2, 60_000), 10, "another caller has another bucket");
        assert!(Buckets::new(0, NonZeroUsize::MIN).is_none());
        assert_eq!(passing(&with_rate(1), 1, 0), 1);
        assert_eq!(passing(&with_rate(u32::MAX), 1, 0), 5_000);
    }

    #[test]
    fn who_may_wait_has_what_will_be_there_each_in_its_turn() {
        let buckets = with_rate(10);
        let wait = |millis, longest| {
            let wait = buckets.take_within(1, at(millis), Duration::from_millis(longest));
            wait.map(|wait| wait.as_millis())
        };
        assert_eq!(passing(&buckets, 1, 0), 10);
        assert_eq!([wait(0, 250), wait(0, 250), wait(0, 250)], [Some(100), Some(200), None]);
        assert_eq!(wait(100, 250), Some(200));
        assert!(!buckets.take(1, at(300)), "what is there is somebody's");
        assert_eq!([wait(400, 0), wait(400, 0)], [Some(0), None]);
        assert_eq!(wait(60_000, 250), Some(0));
        assert_eq!(buckets.take_within(2, at(0), Duration::MAX), Some(Duration::ZERO));
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let buckets = with_rate(10);
        let year = 365 * 86_400_000;
        assert_eq!(passing(&buckets, 1, year), 10);
        assert_eq!(passing(&buckets, 1, 0), 10);
        assert_eq!(passing(&buckets, 1, -100), 0, "a little back is no other time");
        assert_eq!(passing(&buckets, 1, year), 10);
        assert!(buckets.take(1, Timestamp::from_millis(i64::MIN)));
        assert!(buckets.take(1, Timestamp::from_millis(i64::MAX)));
    }

    #[test]
    fn a_flood_of_others_gives_nobody_a_fresh_bucket_and_takes_nearly_nobody_s() {
        let buckets = with_rate(2);
        assert_eq!(passing(&buckets, 0, 0), 2);
        for flood in 1..1_000_000 {
            // More cells than there are; each caller comes once.
            buckets.take(flood, at(0));
        }
        assert!(!buckets.take(0, at(0)));
        let buckets = with_rate(2);
        for flood in 0..1_600 {
            assert!(passing(&buckets, flood, 0) <= 2);
        }
        let hit = (1_000_000..1_010_000).filter(|other| !buckets.take(*other, at(0))).count();
        // Two expected, of those who come to a second's rate of 1,600 and of each other.
        assert!(hit < 1_000, "{hit}");
    }

    #[test]
    fn cells_that_others_used_at_other_times_let_no_more_through_than_the_rate() {
        let buckets = with_rate(2);
        // Some for each cell, at each time of a second.
        for flood in 1_000..101_000 {
            buckets.take(flood, at(i64::from(flood % 1_000)));
        }
        for caller in 0..100 {
            let times = (1_000..11_000).step_by(20);
            let passed = times.filter(|time| buckets.take(caller, at(*time))).count();
            assert!(passed <= 22, "{passed} in ten seconds");
        }
    }

    #[test]
    fn many_threads_get_no_more_than_the_rate() {
        const THREADS: u32 = 8;
        let (buckets, passed) = (with_rate(1_000), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let taken = buckets.take(1, at(0));
                        passed.fetch_add(taken.into(), Ordering::Relaxed);
                    }
                });
            }
        });
        let passed = passed.into_inner();
        assert!((1_000..=1_000 + 3 * THREADS).contains(&passed), "{passed}");
    }
}
