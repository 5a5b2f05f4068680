//! Takes adapters that their publisher has withdrawn out of use, in one transaction.
//!
//! As in a rollback, what was taught on this device stays, and a class that was not taught since
//! then is restored, to the bit. Adapters on top of a withdrawn one are put on what is left.
//! Adapters that continue features which are gone are taken out too.

use fail::fail_point;
use fmlora_learner::Learner;

use super::offer::{Withdrawn, withdrawn};
use super::record::{Phase, Record};
use super::staging::with_layer;
use super::{Classes, Offered, UpdateError, Updates};
use crate::Session;

/// Result of taking withdrawn adapters out.
#[derive(Debug, Default)]
pub(crate) struct TakenOut {
    /// Adapters that are out of use now, including those that continued their features.
    pub(crate) targets: Vec<Offered>,
    /// The reason, for messages.
    pub(crate) why: String,
}

impl Record {
    /// Returns the positions of the adapters in use that are withdrawn.
    pub(super) fn withdrawn(&self, orders: &[Withdrawn]) -> Vec<usize> {
        let ordered = |offered: &Offered| {
            let same = |order: &Withdrawn| {
                order.target == offered.target && order.sha256 == offered.sha256
            };
            orders.iter().any(same)
        };
        (0..self.in_use.len()).filter(|&i| ordered(&self.in_use[i].offered)).collect()
    }
}

impl Updates {
    /// Takes withdrawn adapters out of use. `orders` are the withdrawals that the repository lists.
    /// Does nothing if none of these adapters is in use.
    ///
    /// # Errors
    ///
    /// [`UpdateError::OnTrial`] while another adapter is on trial; [`UpdateError::ForGood`] for an
    /// adapter that can no longer be taken out; [`UpdateError::Overgrown`] if a task learned since
    /// then has changed the network; [`UpdateError::Loses`] unless classes may be lost. After any
    /// error, all adapters stay in use.
    pub(crate) fn withdraw(
        &self,
        session: &mut Session,
        orders: &[Withdrawn],
        classes: Classes,
    ) -> Result<TakenOut, UpdateError> {
        let mut record = self.record()?;
        let stack = self.stack()?;
        let all = record.withdrawn(orders);
        let places: Vec<usize> =
            all.iter().copied().filter(|&i| record.in_use[i].removable).collect();
        let Some(&lowest) = places.first() else {
            return match all.first() {
                Some(&i) => Err(UpdateError::ForGood(record.in_use[i].offered.target.clone())),
                None => Ok(TakenOut::default()),
            };
        };
        let first = record.in_use[lowest].offered.clone();
        let trial = matches!(record.phase, Phase::Trial { .. });
        if trial && !places.iter().any(|&i| stack.newest() == Some(&record.in_use[i].offered)) {
            return Err(UpdateError::OnTrial);
        }
        let top = record.in_use.last().map(|used| used.offered.offer.feature_space_after);
        if top != Some(session.store().feature_space_id()) {
            return Err(UpdateError::Overgrown { target: first.target });
        }
        let ground = stack.without(lowest, session.learner())?;
        if !ground.lost.is_empty() && classes == Classes::Keep {
            return Err(UpdateError::Loses { target: first.target, classes: ground.lost });
        }
        // The other adapters above go on the ground, if they find their features there.
        let mut features = first.offer.feature_space_before;
        let mut steps = vec![ground.learner];
        let mut out = Vec::new();
        let mut kept = Vec::new();
        for i in lowest..record.in_use.len() {
            let offered = &record.in_use[i].offered;
            let fits = offered.offer.feature_space_before == features;
            let layer = stack.layer(i).filter(|_| fits && !places.contains(&i));
            let Some(layer) = layer else {
                out.push(offered.clone());
                continue;
            };
            let now = &steps[steps.len() - 1];
            let next = with_layer(session, now, layer)
                .map_err(|why| UpdateError::Kept { target: offered.target.clone(), why })?;
            steps.push(next);
            kept.push(i);
            features = offered.offer.feature_space_after;
        }
        let stack = stack.without_withdrawn(lowest, &kept, &steps, &out);
        let reason = orders.iter().find(|order| order.target == first.target);
        let why = withdrawn(reason.map_or("", |order| &order.reason));
        record.phase = Phase::RolledBack { why: why.clone() };
        fail_point!("update-withdrawing", |_| std::process::abort());
        let next: &Learner = &steps[steps.len() - 1];
        self.write(session, next, record, &stack, Vec::new())?;
        fail_point!("update-withdrawn", |_| std::process::abort());
        Ok(TakenOut { targets: out, why })
    }
}
