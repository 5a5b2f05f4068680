//! Whether an end of the program speaks against the adapter on trial.
//!
//! A service manager ends a daemon that sees nothing for a while, and starts it anew: with a camera that is away for the
//! night it does so all night, and no adapter is to blame. So an end counts before the daemon is ready, and from the moment
//! at which a frame is about to be answered; not while it waits for its source.

use std::sync::{Arc, Mutex, PoisonError};

use super::record::Phase;
use super::{Record, Updates};
use crate::StoreError;
use crate::report::with_causes;

/// Shared by who answers frames and who watches over trials.
#[derive(Clone)]
pub(crate) struct Ends {
    updates: Updates,
    /// Whether ends do not count now; locked while that is written.
    excused: Arc<Mutex<bool>>,
}

impl Ends {
    /// They count.
    pub(crate) fn new(updates: Updates) -> Self {
        Self { updates, excused: Arc::default() }
    }

    /// A trial begins, or is over: whatever was said of another one is void.
    pub(crate) fn begin(&self) {
        *self.excused.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// They count from now on: a frame is about to be answered.
    pub(crate) fn count(&self) {
        self.say(false);
    }

    /// They do not count until a frame comes: the daemon is ready, and its source is closed.
    pub(crate) fn excuse(&self) {
        self.say(true);
    }

    fn say(&self, excused: bool) {
        let mut now = self.excused.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == excused {
            return;
        }
        // Said once, whatever comes of it: a store that fails is not asked again with every frame.
        *now = excused;
        if let Err(error) = self.updates.counting(!excused) {
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
