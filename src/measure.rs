//! What happens often, counted for monitoring: by single atomic numbers, so that nothing waits for a measurement.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How long things took, by bounds.
#[derive(Debug, Default)]
pub struct Times {
    /// For each bound, those within it that are not within the one before; then those beyond all.
    counts: [AtomicU64; TIME_BOUNDS.len() + 1],
    sum: AtomicU64,
}

/// [`Times`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimesMeasured {
    /// For each of [`TIME_BOUNDS`] those within it that are not within the one before; then those beyond all.
    pub counts: [u64; TIME_BOUNDS.len() + 1],
    /// All times together.
    pub sum: Duration,
}

impl Times {
    /// Counts one.
    pub fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let place = TIME_BOUNDS.iter().position(|bound| micros <= *bound);
        if let Some(count) = self.counts.get(place.unwrap_or(TIME_BOUNDS.len())) {
            add(count);
        }
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn measured(&self) -> TimesMeasured {
        let mut counts = [0; TIME_BOUNDS.len() + 1];
        for (sum, count) in counts.iter_mut().zip(&self.counts) {
            *sum = read(count);
        }
        TimesMeasured { counts, sum: Duration::from_micros(read(&self.sum)) }
    }
}

/// What was found in a cache, and what was not. Apart from its neighbours in memory: cores that count one thing do
/// not wait for those that count another.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Finds {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// [`Finds`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FindsMeasured {
    /// What was found.
    pub hits: u64,
    /// What was not there, or did not count any more.
    pub misses: u64,
}

impl Finds {
    /// Counts a look.
    pub fn add(&self, found: bool) {
        add(if found { &self.hits } else { &self.misses });
    }

    /// What was counted so far.
    pub fn measured(&self) -> FindsMeasured {
        FindsMeasured { hits: read(&self.hits), misses: read(&self.misses) }
    }
}

/// Counts one more.
pub fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// What was counted so far.
pub fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

/// Bounds in microseconds: from a read that is in memory to a request that is about to be given up.
pub const TIME_BOUNDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_counted_at_its_bound() {
        let times = Times::default();
        for micros in [0, 100, 101, 10_000_000, 10_000_001] {
            times.add(Duration::from_micros(micros));
        }
        times.add(Duration::MAX / 2);
        let TimesMeasured { counts, .. } = times.measured();
        let counted: Vec<_> = counts.iter().enumerate().filter(|(_, count)| **count > 0).collect();
        assert_eq!(counted, [(0, &2), (1, &1), (15, &1), (16, &2)]);
    }
}
