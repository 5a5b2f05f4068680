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
    /// Somebody who waits for a frame has something else to do.
    woken: bool,
    counts: SlotCounts,
}

impl Inner {
    fn newest_after(&self, after: u64) -> Option<Frame> {
        self.newest.as_ref().filter(|frame| frame.number > after).cloned()
    }
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

    /// A frame later than number `after`, for the one who answers frames; waits for it for at most `timeout`, or until
    /// [`Slot::wake`].
    pub(crate) fn next(&self, after: u64, timeout: Duration) -> Option<Frame> {
        let mut inner = self.wait(after, timeout, true);
        inner.woken = false;
        let frame = inner.newest_after(after);
        inner.taken |= frame.is_some();
        frame
    }

    /// The same for everybody else: who only looks on.
    pub(crate) fn watch(&self, after: u64, timeout: Duration) -> Option<Frame> {
        self.wait(after, timeout, false).newest_after(after)
    }

    /// Ends the waiting in [`Slot::next`].
    pub(crate) fn wake(&self) {
        self.lock().woken = true;
        self.came.notify_all();
    }

    fn wait(&self, after: u64, timeout: Duration, heed: bool) -> MutexGuard<'_, Inner> {
        let until = Instant::now() + timeout;
        let mut inner = self.lock();
        while inner.newest_after(after).is_none() && !(heed && inner.woken) {
            let Some(rest) = until.checked_duration_since(Instant::now()) else { break };
            let waited = self.came.wait_timeout(inner, rest);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        inner
    }

    /// How old the newest frame is; `None` before the first.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.lock().newest.as_ref().map(|frame| frame.at.elapsed())
    }

    /// Counters since the start.
    pub(crate) fn counts(&self) -> SlotCounts {
        self.lock().counts
    }
}
