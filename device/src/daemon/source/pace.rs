//! Rate limit of frames.

use std::time::{Duration, Instant};

/// Lets one frame pass per interval. After a delay it continues from there and does not catch up.
pub(super) struct Pace {
    interval: Duration,
    next: Instant,
}

impl Pace {
    pub(super) fn new(per_second: f64) -> Self {
        Self { interval: Duration::from_secs_f64(1.0 / per_second), next: Instant::now() }
    }

    pub(super) fn wait(&mut self) {
        let now = Instant::now();
        if let Some(rest) = self.next.checked_duration_since(now) {
            std::thread::sleep(rest);
        }
        self.next = self.next.max(now) + self.interval;
    }

    /// Returns true if a frame that arrives now may pass; other frames are dropped. A frame may be
    /// a quarter of the interval early, so that a source with the same rate loses no frame to its
    /// own jitter.
    pub(super) fn passes(&mut self, now: Instant) -> bool {
        let slack = self.interval / 4;
        if now + slack < self.next {
            return false;
        }
        let behind = now.checked_sub(slack).unwrap_or(now);
        self.next = self.next.max(behind) + self.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of frames that pass, of frames at these times in milliseconds.
    fn passed(per_second: f64, times: impl Iterator<Item = u64>) -> usize {
        let mut pace = Pace::new(per_second);
        let start = pace.next;
        times.filter(|&at| pace.passes(start + Duration::from_millis(at))).count()
    }

    #[test]
    fn a_source_of_the_same_pace_loses_nothing_to_its_jitter() {
        let jitter = [7, 0, 12, 3, 9];
        assert_eq!(passed(10.0, (0..50).map(|n| 100 * n + jitter[n as usize % 5])), 50);
    }

    #[test]
    fn a_faster_source_is_held_to_the_pace() {
        for every in [10, 33, 40] {
            let n = passed(10.0, (0..10_000 / every).map(|n| n * every));
            assert!((80..=101).contains(&n), "{n} in 10 s of one every {every} ms");
        }
    }

    #[test]
    fn after_a_silence_nothing_is_made_up_for() {
        let burst = (0..10).map(|n| 5000 + 10 * n);
        // The frame before the silence, the first frame after it, and one that is early by twice
        // the slack.
        assert_eq!(passed(10.0, std::iter::once(0).chain(burst)), 3);
    }
}
