//! Taking the adapter that came last out of use, in one transaction.

use fail::fail_point;

use super::layers::{Layer, Replaced, Way};
use super::record::Phase;
use super::{Classes, Offered, UpdateError, Updates, kept_wrong};
use crate::Session;

impl Updates {
    /// Takes the adapter that came last out of use, in one transaction, and does not try it again by itself. What it took
    /// the place of is in use again.
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
        let mut layers: Vec<Layer> = self.layers.load()?.unwrap_or_default();
        let replaced: Option<Replaced> = self.replaced.load()?.flatten();
        let (Some(top), Some(uppermost)) = (record.in_use.last(), layers.last()) else {
            return Err(UpdateError::NothingInUse);
        };
        let offered = replaced.as_ref().map_or(&top.offered, |replaced| &replaced.by).clone();
        if top.offered.offer.feature_space_after != session.store().feature_space_id() {
            return Err(UpdateError::Overgrown { target: offered.target });
        }
        let now = session.learner();
        let back = match &replaced {
            None => uppermost.off(now),
            Some(replaced) => {
                let since = layers.iter().skip(replaced.beneath).rev();
                Way::new(since, &replaced.layers).and_then(|way| replaced.undo.apply(now, &way))
            }
        };
        let back = back.map_err(|error| kept_wrong(&offered, &error))?;
        if !back.lost.is_empty() && classes == Classes::Keep {
            return Err(UpdateError::Loses { target: offered.target, classes: back.lost });
        }
        match replaced {
            None => {
                layers.pop();
                record.in_use.pop();
            }
            Some(replaced) => {
                layers.truncate(replaced.beneath);
                layers.extend(replaced.layers);
                record.in_use = replaced.in_use;
            }
        }
        record.kept = layers.len();
        record.refuse(&offered, why);
        fail_point!("update-rolling-back", |_| std::process::abort());
        self.write(session, &back.learner, &record, &layers, None)?;
        fail_point!("update-rolled-back", |_| std::process::abort());
        Ok(offered)
    }

    /// Counts a start of the program. An adapter that is on trial at the second start is rolled back: the first could be
    /// a power cut. Gives what was rolled back.
    ///
    /// # Errors
    ///
    /// Those of [`Updates::roll_back`].
    pub(crate) fn started(&self, session: &mut Session) -> Result<Option<Offered>, UpdateError> {
        let Phase::Trial { starts } = self.record()?.phase else { return Ok(None) };
        if starts == 0 {
            self.enter(Phase::Trial { starts: 1 })?;
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
