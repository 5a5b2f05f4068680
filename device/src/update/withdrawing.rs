//! Taking adapters out of use that their publisher has withdrawn, in one transaction.
//!
//! As when an adapter is taken back, what was taught here stays, and a class that was not taught since is what it was, to
//! the bit. Adapters that lie on one that goes are put on what is left; those that continue features which are gone go too.

use fail::fail_point;
use fmlora_learner::Learner;

use super::offer::{Withdrawn, withdrawn};
use super::record::{Phase, Record};
use super::staging::with_layer;
use super::{Classes, Offered, UpdateError, Updates};
use crate::Session;

/// What an order to take adapters out came to.
#[derive(Debug, Default)]
pub(crate) struct TakenOut {
    /// Those that are out of use now, the ones that continued their features among them.
    pub(crate) targets: Vec<Offered>,
    /// What is told of it.
    pub(crate) why: String,
}

impl Record {
    /// Places of the adapters in use that are withdrawn.
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
    /// Takes withdrawn adapters out of use; `orders` are those that the repository lists. Nothing is to be done if none of
    /// them is in use.
    ///
    /// # Errors
    ///
    /// [`UpdateError::OnTrial`] while another adapter is on trial; [`UpdateError::ForGood`] for one that can no longer be
    /// taken out; [`UpdateError::Overgrown`] if a task was learnt since that changed the network; [`UpdateError::Loses`]
    /// unless classes may be lost. All of them leave everything in use.
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
        // What is left of those above goes on the ground, as far as it finds its features there.
        let mut features = first.offer.feature_space_before;
        let (mut steps, mut out) = (vec![ground.learner], Vec::new());
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
