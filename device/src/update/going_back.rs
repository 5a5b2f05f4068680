//! Taking the adapter that came last out of use, in one transaction.

use fail::fail_point;

use super::record::Phase;
use super::stack::Stack;
use super::{Classes, Offered, UpdateError, Updates, kept_wrong};
use crate::Session;

/// Ends of the program during a trial after which an adapter goes: the first could be a power cut.
const ENDS: u32 = 2;

impl Updates {
    /// Takes the adapter that came last out of use, in one transaction, and does not try it again by itself, nor an older
    /// release in its place. What it took the place of is in use again.
    ///
    /// # Errors
    ///
    /// [`UpdateError::NothingInUse`]; [`UpdateError::Overgrown`] if a task was learnt since that changed the network;
    /// [`UpdateError::Loses`] unless classes may be lost; others too leave it in use.
    pub(crate) fn roll_back(
        &self,
        session: &mut Session,
        why: &str,
        classes: Classes,
    ) -> Result<Offered, UpdateError> {
        let mut record = self.record()?;
        let stack: Stack = self.stack.load()?.unwrap_or_default();
        let (Some(top), Some(offered)) = (record.in_use.last(), stack.newest().cloned()) else {
            return Err(UpdateError::NothingInUse);
        };
        if top.offered.offer.feature_space_after != session.store().feature_space_id() {
            return Err(UpdateError::Overgrown { target: offered.target });
        }
        let before = stack.before(session.learner());
        let before = before.map_err(|error| kept_wrong(&offered, &error))?;
        let Some((back, stack)) = before else { return Err(UpdateError::NothingInUse) };
        if !back.lost.is_empty() && classes == Classes::Keep {
            return Err(UpdateError::Loses { target: offered.target, classes: back.lost });
        }
        record.take_back(&offered, why);
        fail_point!("update-rolling-back", |_| std::process::abort());
        self.write(session, &back.learner, record, &stack)?;
        fail_point!("update-rolled-back", |_| std::process::abort());
        Ok(offered)
    }

    /// Counts a start of the program, and so the end before it if that counts. An adapter that is on trial at the second is
    /// rolled back. Gives what was rolled back.
    ///
    /// # Errors
    ///
    /// Those of [`Updates::roll_back`].
    pub(crate) fn started(&self, session: &mut Session) -> Result<Option<Offered>, UpdateError> {
        let ended = self.change(&[], |record| match &mut record.phase {
            Phase::Trial { ends, counts } => {
                *ends += u32::from(*counts);
                // Whatever happens before the program is ready counts.
                *counts = true;
                *ends
            }
            _ => 0,
        })?;
        if ended < ENDS {
            return Ok(None);
        }
        let why = "the program was started twice while it was on trial";
        match self.roll_back(session, why, Classes::MayBeLost) {
            // Somebody has built on it: it cannot be so bad.
            Err(UpdateError::Overgrown { .. }) => self.commit().map(|()| None),
            rolled_back => rolled_back.map(Some),
        }
    }
}
