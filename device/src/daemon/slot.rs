//! The newest frame, for everybody who wants one. No queue: a frame that nobody took is left out when the next one comes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use image::RgbImage;

/// A frame of the source.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Its pixels.
    pub(crate) picture: Arc<RgbImage>,
    /// Its place among all frames since the start, from 1.
    pub(crate) number: u64,
    /// When it came.
    pub(crate) at: Instant,
}

/// Counters of the slot.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SlotCounts {
    /// Frames that were put here.
    pub(crate) frames: u64,
    /// Those of them that nobody looked at before the next one came.
    pub(crate) replaced: u64,
    /// Frames that came too soon to be put here.
    pub(crate) too_soon: u64,
}

/// Holds the newest frame.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    inner: Mutex<Inner>,
    came: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    newest: Option<Frame>,
    taken: bool,
    counts: SlotCounts,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame in the place of the one before.
    pub(crate) fn put(&self, picture: RgbImage) {
        let mut inner = self.lock();
        if inner.newest.is_some() && !inner.taken {
            inner.counts.replaced += 1;
        }
        inner.counts.frames += 1;
        let number = inner.counts.frames;
        inner.newest = Some(Frame { picture: Arc::new(picture), number, at: Instant::now() });
        inner.taken = false;
        self.came.notify_all();
    }

    /// Counts a frame that came too soon.
    pub(crate) fn leave_out(&self) {
        self.lock().counts.too_soon += 1;
    }

    /// A frame later than number `after`; waits for it for at most `timeout`.
    pub(crate) fn next(&self, after: u64, timeout: Duration) -> Option<Frame> {
        let until = Instant::now() + timeout;
        let mut inner = self.lock();
        loop {
            if let Some(frame) = inner.newest.as_ref().filter(|frame| frame.number > after) {
                let frame = frame.clone();
                inner.taken = true;
                return Some(frame);
            }
            let rest = until.checked_duration_since(Instant::now())?;
            let waited = self.came.wait_timeout(inner, rest);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Counters since the start.
    pub(crate) fn counts(&self) -> SlotCounts {
        self.lock().counts
    }
}
