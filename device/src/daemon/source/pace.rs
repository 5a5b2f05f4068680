//! A steady pace.

use std::time::{Duration, Instant};

/// Lets one frame pass each interval; after a delay it goes on from there and does not catch up.
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

    /// Whether a frame may pass now; one that may not is left out.
    pub(super) fn passes(&mut self) -> bool {
        let now = Instant::now();
        if now < self.next {
            return false;
        }
        // A frame that comes a little late must not make the next one wait for longer.
        self.next = if now < self.next + self.interval { self.next } else { now } + self.interval;
        true
    }
}
