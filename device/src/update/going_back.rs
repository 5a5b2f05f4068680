//! Rolls back the adapter that came last, in one transaction.

use fail::fail_point;

use super::record::Phase;
use super::{Classes, Offered, UpdateError, Updates, clock, kept_wrong};
use crate::store::Value;
use crate::{Session, StoreError};

/// Number of crashes of the program during a trial that lead to a rollback. The first one may have
/// another cause.
const ENDS: u32 = 2;

impl Updates {
    /// Takes the adapter that came last out of use, in one transaction. Neither this adapter nor an
    /// older release in its place is retried automatically. Adapters that it replaced are in use
    /// again.
    ///
    /// # Errors
    ///
    /// [`UpdateError::NothingInUse`]; [`UpdateError::Overgrown`] if a task learned since then has
    /// changed the network; [`UpdateError::Loses`] unless classes may be lost. After any error, the
    /// adapter stays in use.
    pub(crate) fn roll_back(
        &self,
        session: &mut Session,
        why: &str,
        classes: Classes,
    ) -> Result<Offered, UpdateError> {
        self.take_back(session, why, classes, |_| Ok(Vec::new()))
    }

    /// Like [`Updates::roll_back`]. `also` returns values that are written in the same transaction.
    fn take_back(
        &self,
        session: &mut Session,
        why: &str,
        classes: Classes,
        also: impl FnOnce(&Offered) -> Result<Vec<Value>, StoreError>,
    ) -> Result<Offered, UpdateError> {
        let mut record = self.record()?;
        let stack = self.stack()?;
        let (Some(top), Some(offered)) = (record.in_use.last(), stack.newest().cloned()) else {
            return Err(UpdateError::NothingInUse);
        };
        if top.offered.offer.feature_space_after != session.store().feature_space_id() {
            return Err(UpdateError::Overgrown { target: offered.target });
        }
        let before =
            stack.before(session.learner()).map_err(|error| kept_wrong(&offered, &error))?;
        let Some((back, stack)) = before else { return Err(UpdateError::NothingInUse) };
        if !back.lost.is_empty() && classes == Classes::Keep {
            return Err(UpdateError::Loses { target: offered.target, classes: back.lost });
        }
        record.take_back(&offered, why);
        fail_point!("update-rolling-back", |_| std::process::abort());
        self.write(session, &back.learner, record, &stack, also(&offered)?)?;
        fail_point!("update-rolled-back", |_| std::process::abort());
        Ok(offered)
    }

    /// Counts a start of the program, and the end before it if that was a crash. At the second
    /// crash, an adapter on trial is rolled back, and retried after a back-off. Returns the adapter
    /// that was rolled back.
    ///
    /// # Errors
    ///
    /// The errors of [`Updates::roll_back`].
    pub(crate) fn started(&self, session: &mut Session) -> Result<Option<Offered>, UpdateError> {
        let went_down = self.begin_run()?;
        let ended = self.change(&[], |record| match &mut record.phase {
            Phase::Trial { ends, counts } => {
                *ends += u32::from(*counts && !went_down);
                // An end before the program is ready counts.
                *counts = true;
                *ends
            }
            _ => 0,
        })?;
        if ended < ENDS {
            return Ok(None);
        }
        let why = "the program ended twice without being told to while it was on trial";
        let crashed = |offered: &Offered| {
            let mut runs = self.runs_so_far()?;
            runs.crashed(offered, clock());
            Ok(vec![self.runs.value(&runs)?])
        };
        match self.take_back(session, why, Classes::MayBeLost, crashed) {
            // A task was learned on it, so it cannot be that bad: it stays.
            Err(UpdateError::Overgrown { .. }) => self.commit().map(|()| None),
            rolled_back => rolled_back.map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fmlora_learner::{
        AdapterChange, BaseId, OFFER_FORMAT, Offer, Operation, OperationKind, Rollout,
    };
    use tempfile::TempDir;

    use super::super::place::Place;
    use super::super::stack::{Stack, Switch};
    use super::super::{Device, Record, Then};
    use super::*;
    use crate::cli::Global;
    use crate::store::Access;

    /// A device with an adapter on trial that changes nothing.
    struct Updated {
        session: Session,
        updates: Updates,
        offered: Offered,
        _folder: TempDir,
    }

    impl Updated {
        fn new() -> Self {
            let folder = TempDir::new().expect("a folder");
            let global = Global { base: None, state: None, device: None, json: false, verbose: 0 };
            let opened = Session::open_at(&global, folder.path(), Access::Write);
            let mut session = opened.expect("an empty state");
            let space = session.store().feature_space_id();
            let offer = Offer {
                format: OFFER_FORMAT,
                name: "birds".parse().expect("a name"),
                base_id: session.base().id,
                feature_space_before: space,
                feature_space_after: space,
                release: 1,
                channel: "stable".to_owned(),
                rollout: Rollout { percent: 100, salt: String::new() },
                min_daemon: "0.0.0".parse().expect("a version"),
            };
            let target = "birds-1.fmla".to_owned();
            let offered = Offered { target, length: 1, sha256: [1; 32], offer };
            let updates = Updates::of(&session).expect("a state that can be written");
            let known = session.learner().clone();
            let stack = Stack::default().after(&Switch {
                offered: &offered,
                file: &[],
                place: Place { beneath: 0, replaces: false },
                at: 0,
                now: &known,
                ground: &known,
                steps: std::slice::from_ref(&known),
            });
            let mut record = Record::new();
            record.phase = Phase::TRIAL;
            updates.write(&mut session, &known, record, &stack, Vec::new()).expect("written");
            Self { session, updates, offered, _folder: folder }
        }

        fn phase(&self) -> Phase {
            self.updates.record().expect("a record").phase
        }
    }

    #[test]
    fn nothing_is_taken_out_from_under_a_task_that_was_learnt_on_it() {
        let mut device = Updated::new();
        let session = &mut device.session;
        let state = session.base().adapter().expect("a base with shared bases").state().clone();
        let task = AdapterChange { before: None, after: Some(Arc::new(state)) };
        let learnt =
            Operation { kind: OperationKind::Learn, changes: Vec::new(), adapter: Some(task) };
        session.apply(&learnt).expect("a network that changes");
        let back = device.updates.roll_back(session, "no good", Classes::MayBeLost);
        assert!(matches!(back, Err(UpdateError::Overgrown { .. })), "{back:?}");
        let Offered { target, sha256, .. } = device.offered.clone();
        let order = super::super::Withdrawn { target, sha256, reason: String::new() };
        let out = device.updates.withdraw(session, &[order], Classes::MayBeLost);
        assert!(matches!(out, Err(UpdateError::Overgrown { .. })), "{out:?}");
        // It stays even after crashes, as a task builds on it.
        for expected in [Phase::Trial { ends: 1, counts: true }, Phase::Committed] {
            let gone = device.updates.started(&mut device.session);
            assert!(matches!(gone, Ok(None)), "{gone:?}");
            assert_eq!(device.phase(), expected);
        }
    }

    /// A task learned after the look may have left no place for the adapter.
    #[test]
    fn the_place_of_an_adapter_is_looked_at_again_before_it_is_tried() {
        let mut device = Updated::new();
        let offer = Offer {
            name: "tools".parse().expect("a name"),
            feature_space_before: BaseId::new([9; 32]).feature_space(),
            ..device.offered.offer.clone()
        };
        let fetched = Offered { offer, ..device.offered.clone() };
        let change = |record: &mut Record| record.phase = Phase::Fetched(fetched);
        device.updates.change(&[], change).expect("written");
        let other = Device {
            id: String::new(),
            base_id: device.session.base().id,
            feature_space: BaseId::new([9; 32]).feature_space(),
            channel: "stable".to_owned(),
        };
        let updates = device.updates.clone();
        let switched = updates.switch(&mut device.session, &other, Classes::Keep, Then::Trial);
        assert!(matches!(switched, Err(UpdateError::NotNow { .. })), "{switched:?}");
        assert_eq!(device.phase(), Phase::Committed, "another one is in use");
    }

    #[test]
    fn an_end_counts_only_before_the_daemon_is_ready_or_after_a_frame_was_answered() {
        let mut device = Updated::new();
        let ends = super::super::Ends::new(device.updates.clone());
        let started = |device: &mut Updated| {
            let started = device.updates.started(&mut device.session);
            assert!(matches!(started, Ok(None)), "{started:?}");
            device.phase()
        };
        let trial = |ends, counts| Phase::Trial { ends, counts };
        for _ in 0..3 {
            ends.excuse();
            assert_eq!(device.phase(), trial(0, false));
            assert_eq!(started(&mut device), trial(0, true));
            ends.begin();
        }
        ends.excuse();
        ends.count();
        assert_eq!(device.phase(), trial(0, true));
        assert_eq!(started(&mut device), trial(1, true));
    }
}
