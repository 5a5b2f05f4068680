//! One opening of a source: what its reader and its keeper share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Ends a wait from another thread, or waits until a device is closed. Takes a moment at most.
pub(super) type Closer = Box<dyn FnOnce() + Send>;

/// Tells the reader that it was given up, and the keeper why nothing comes.
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

    /// Whether the reader is to end.
    pub(super) fn is_given_up(&self) -> bool {
        self.lock().given_up
    }

    /// Remembers what ends a wait of the reader; does it at once if the reader was given up already.
    pub(super) fn close_with(&self, closer: Closer) {
        let mut inner = self.lock();
        if inner.given_up {
            drop(inner);
            closer();
        } else {
            inner.closers.push(closer);
        }
    }

    /// Tells the reader to end, and ends what it waits for.
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

    /// Notes what may be the reason if no frame comes from now on.
    pub(super) fn note(&self, why: String) {
        self.lock().note = Some(why);
    }

    /// Forgets the note: a frame came.
    pub(super) fn forget_note(&self) {
        self.lock().note = None;
    }

    /// What was noted last.
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
        let (opening, closed) = (Opening::default(), Arc::new(AtomicU32::new(0)));
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
