//! Whether an end of the program speaks against the adapter on trial.
//!
//! An end that the program was told does not count, nor one in which the machine went down (`Runs`).
//! A service manager ends a daemon that sees nothing for a while, and starts it anew: with a camera that is away for the
//! night it does so all night, and no adapter is to blame. So an end counts before the daemon is ready, and from the moment
//! at which a frame is about to be answered; not while it waits for its source.

use std::sync::{Arc, Mutex, PoisonError};

use super::record::Phase;
use super::{Record, Updates};
use crate::StoreError;
use crate::report::with_causes;

/// Shared by the thread that answers frames and the task that watches over trials.
#[derive(Clone)]
pub(crate) struct Ends {
    updates: Updates,
    /// Locked while it is written.
    now: Arc<Mutex<Now>>,
}

/// Whether an end of the program counts now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Now {
    #[default]
    Counts,
    Excused,
    /// The program was told to end: nothing changes that.
    Ending,
}

impl Ends {
    /// They count.
    pub(crate) fn new(updates: Updates) -> Self {
        Self { updates, now: Arc::default() }
    }

    /// A trial begins, or is over: whatever was said of another one is void.
    pub(crate) fn begin(&self) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if *now != Now::Ending {
            *now = Now::Counts;
        }
    }

    /// They count from now on: a frame is about to be answered.
    pub(crate) fn count(&self) {
        self.say(Now::Counts);
    }

    /// They do not count until a frame comes: the daemon is ready, and its source is closed.
    pub(crate) fn excuse(&self) {
        self.say(Now::Excused);
    }

    /// The last one does not count: the program was told to end.
    pub(crate) fn told_to_end(&self) {
        self.say(Now::Ending);
    }

    fn say(&self, next: Now) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == next || *now == Now::Ending {
            return;
        }
        // Said once, whatever comes of it: a store that fails is not asked again with every frame.
        *now = next;
        if let Err(error) = self.updates.counting(next == Now::Counts) {
            tracing::error!("update: {}", with_causes(&error));
        }
    }
}

impl Updates {
    fn counting(&self, now: bool) -> Result<(), StoreError> {
        let change = |record: &mut Record| {
            if let Phase::Trial { counts, .. } = &mut record.phase {
                *counts = now;
            }
        };
        self.change(&[], change)
    }
}
