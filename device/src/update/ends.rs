//! Decides whether an end of the program counts against the adapter on trial.
//!
//! A requested end does not count, nor one by a machine that went down (`Runs`). A service
//! manager's watchdog restarts a daemon that sees nothing for a while. With a camera that is away
//! for the night, it does so all night, and no adapter is to blame. So an end counts before the
//! daemon is ready, and from the moment at which a frame is about to be answered. It does not count
//! while the daemon waits for its source.

use std::sync::{Arc, Mutex, PoisonError};

use super::record::Phase;
use super::{Record, Updates};
use crate::StoreError;
use crate::report::with_causes;

/// Shared by the thread that answers frames and the task that watches over trials.
#[derive(Clone)]
pub(crate) struct Ends {
    updates: Updates,
    /// Locked while the record is written.
    now: Arc<Mutex<Now>>,
}

/// State of the counting of ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Now {
    #[default]
    Counts,
    Excused,
    /// The program was told to end. This is final.
    Ending,
}

impl Ends {
    /// Ends count at first.
    pub(crate) fn new(updates: Updates) -> Self {
        Self { updates, now: Arc::default() }
    }

    /// Counts ends again, at the beginning and at the end of a trial. The state of an earlier trial
    /// is void.
    pub(crate) fn begin(&self) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if *now != Now::Ending {
            *now = Now::Counts;
        }
    }

    /// Counts ends from now on: a frame is about to be answered.
    pub(crate) fn count(&self) {
        self.say(Now::Counts);
    }

    /// Stops counting ends until a frame comes: the daemon is ready, and its source is closed.
    pub(crate) fn excuse(&self) {
        self.say(Now::Excused);
    }

    /// Does not count the coming end: the program was told to end.
    pub(crate) fn told_to_end(&self) {
        self.say(Now::Ending);
    }

    fn say(&self, next: Now) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == next || *now == Now::Ending {
            return;
        }
        // Set before the write, even if that fails: a failing store is not written again with every
        // frame.
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
