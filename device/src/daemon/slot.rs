//! Slot for the newest frame, shared by all readers. There is no queue: a frame that was not taken
//! is dropped when the next one arrives.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use image::RgbImage;

/// A frame of the source.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Pixels of the frame.
    pub(crate) picture: Arc<RgbImage>,
    /// Sequence number since the start, from 1.
    pub(crate) number: u64,
    /// Time of arrival.
    pub(crate) at: Instant,
}

/// Counters of the slot.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SlotCounts {
    /// Frames that were put into the slot.
    pub(crate) frames: u64,
    /// Frames of these that were replaced before [`Slot::next`] took them.
    pub(crate) replaced: u64,
    /// Frames that were dropped because they came too soon.
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
    /// True if the thread that waits in [`Slot::next`] has other work.
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

    /// Replaces the frame in the slot.
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

    /// Waits for a frame later than number `after` and takes it; for the thread that answers
    /// frames. The wait ends after `timeout`, or by [`Slot::wake`].
    pub(crate) fn next(&self, after: u64, timeout: Duration) -> Option<Frame> {
        let mut inner = self.wait(after, timeout, true);
        inner.woken = false;
        let frame = inner.newest_after(after);
        inner.taken |= frame.is_some();
        frame
    }

    /// Waits like [`Slot::next`], but does not take the frame and is not woken; for all other
    /// readers.
    pub(crate) fn watch(&self, after: u64, timeout: Duration) -> Option<Frame> {
        self.wait(after, timeout, false).newest_after(after)
    }

    /// Ends the wait in [`Slot::next`].
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

    /// Age of the newest frame; `None` before the first.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.lock().newest.as_ref().map(|frame| frame.at.elapsed())
    }

    /// Counters since the start.
    pub(crate) fn counts(&self) -> SlotCounts {
        self.lock().counts
    }
}
