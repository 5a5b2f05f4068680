//! State of one opening of a source, shared by its reader thread and the keeper.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Ends a wait of the reader from another thread, or waits until a device is closed. Takes a moment
/// at most.
pub(super) type Closer = Box<dyn FnOnce() + Send>;

/// Tells the reader that it was given up, and the keeper the likely reason for missing frames.
#[derive(Default)]
pub(super) struct Opening(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    given_up: bool,
    closers: Vec<Closer>,
    note: Option<String>,
}

impl Opening {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if the reader must end.
    pub(super) fn is_given_up(&self) -> bool {
        self.lock().given_up
    }

    /// Registers a closer that ends a wait of the reader. Runs it at once if the reader was given
    /// up already.
    pub(super) fn close_with(&self, closer: Closer) {
        let mut inner = self.lock();
        if inner.given_up {
            drop(inner);
            closer();
        } else {
            inner.closers.push(closer);
        }
    }

    /// Tells the reader to end and runs the closers of its waits.
    pub(super) fn give_up(&self) {
        let closers = {
            let mut inner = self.lock();
            inner.given_up = true;
            std::mem::take(&mut inner.closers)
        };
        for closer in closers {
            closer();
        }
    }

    /// Stores the likely reason in case no more frames arrive.
    pub(super) fn note(&self, why: String) {
        self.lock().note = Some(why);
    }

    /// Clears the note after a frame.
    pub(super) fn forget_note(&self) {
        self.lock().note = None;
    }

    /// Returns the last note.
    pub(super) fn noted(&self) -> Option<String> {
        self.lock().note.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn everything_is_closed_once_before_and_after_the_giving_up() {
        let opening = Opening::default();
        let closed = Arc::new(AtomicU32::new(0));
        let count = || -> Closer {
            let closed = closed.clone();
            Box::new(move || {
                closed.fetch_add(1, Ordering::Relaxed);
            })
        };
        opening.close_with(count());
        assert!(!opening.is_given_up());
        assert_eq!(closed.load(Ordering::Relaxed), 0);
        opening.give_up();
        opening.give_up();
        assert!(opening.is_given_up());
        assert_eq!(closed.load(Ordering::Relaxed), 1);
        opening.close_with(count());
        assert_eq!(closed.load(Ordering::Relaxed), 2);
    }
}
