//! The session: keeps base, store, classes and head consistent.

mod moved_priors;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fmlora_learner::{
    Class, ClassName, Estimate, FittedHead, HeadChoice, Kept, Learner, Operation, OperationKind,
    Predictor, Prior, Shots, fit_head,
};
use fmlora_models::{DeviceSpec, Preprocess, keep_measurements_in};

use crate::base_file::BaseFile;
use crate::cli::Global;
use crate::report::{EstimateDto, TeachReport, with_causes};
use crate::store::Access;
use crate::{EdgeError, Engine, Store, StoreError};
use moved_priors::MovedPriors;

/// Base, store, classes and head.
///
/// An operation has four steps: compute the changes, fit the new head, write both to disk as one
/// transaction, change memory. A failed step leaves everything unchanged.
pub struct Session {
    base: BaseFile,
    /// Requested device of the network.
    device: DeviceSpec,
    engine: Option<Engine>,
    store: Store,
    learner: Learner,
    moved_priors: MovedPriors,
    predictor: Option<Arc<Predictor>>,
    /// Expected accuracy of the classes, if it was estimated since the last operation.
    expected: Expected,
    /// Number of operations since the session was opened.
    revision: u64,
    /// True after a failed write: the disk may hold the state before the operation or after it.
    unsettled: bool,
}

/// Estimate of the accuracy.
enum Expected {
    /// Not estimated yet.
    Open,
    /// `None` if there is too little data for an estimate.
    Known(Option<Estimate>),
}

/// The features of one class's shots.
pub(crate) type ShotsOfClass = (ClassName, Shots);

/// Result of an operation.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) head: FittedHead,
    pub(crate) fit_time: Duration,
    pub(crate) write_time: Duration,
}

impl Session {
    /// Opens the base and the state of the command line.
    pub(crate) fn open(global: &Global, access: Access) -> Result<Self, EdgeError> {
        Self::open_at(global, &Self::state_directory(global), access)
    }

    /// Returns the state directory: that of the command line, or the platform's data directory.
    pub(crate) fn state_directory(global: &Global) -> PathBuf {
        global.state.clone().unwrap_or_else(default_state_directory)
    }

    /// Opens the base of the command line, and the state in `directory`.
    pub(crate) fn open_at(
        global: &Global,
        directory: &Path,
        access: Access,
    ) -> Result<Self, EdgeError> {
        let started = Instant::now();
        let base = BaseFile::open(global.base.as_deref())?;
        tracing::info!("base {} checked in {:.0?}", base.id, started.elapsed());
        let store = Store::open(directory, base.id, access)?;
        keep_measurements_in(&directory.join("kernels"));
        let learner = store.load(base.d_feature())?;
        let predictor = store.predictor(&learner)?.map(Arc::new);
        let moved_priors = MovedPriors::load(&store, base.d_feature())?;
        tracing::info!(
            "state with {} classes open after {:.0?}",
            learner.classes().len(),
            started.elapsed()
        );
        let device = global.device.clone().unwrap_or_default();
        Ok(Self {
            base,
            device,
            engine: None,
            store,
            learner,
            moved_priors,
            predictor,
            expected: Expected::Open,
            revision: 0,
            unsettled: false,
        })
    }

    pub(crate) fn base(&self) -> &BaseFile {
        &self.base
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn learner(&self) -> &Learner {
        &self.learner
    }

    /// Returns the number of operations since the session was opened; each undo counts too.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Compares memory with the disk after a failed write. A write that fails at its very end may
    /// have reached the disk all the same: then the session takes over the state on disk.
    ///
    /// # Errors
    ///
    /// [`EdgeError::Store`] while the disk cannot be read; the session is then unchanged.
    pub(crate) fn settle(&mut self) -> Result<(), EdgeError> {
        if !self.unsettled {
            return Ok(());
        }
        let next = self.store.reload(self.base.d_feature())?;
        if next != self.learner {
            let head = self.fit(&next, &[])?;
            tracing::warn!("the operation that could not be written is on disk all the same");
            self.follow(next, &head);
        }
        self.unsettled = false;
        Ok(())
    }

    /// Checks whether the storage can be written again after a failed write.
    pub(crate) fn try_storage(&mut self) {
        let storage = self.store.storage();
        storage.look_after();
        // A failing disk is checked repeatedly, but logged once.
        let works = storage.trouble().is_none();
        if works && let Err(error) = self.settle() {
            tracing::error!("{}", with_causes(&error));
        }
    }

    /// Drops the network after a crash of its work. It is built again at the next use.
    pub(crate) fn drop_engine(&mut self) {
        self.engine = None;
    }

    /// Returns the preprocessing of pictures. It does not need the network.
    pub(crate) fn preprocess(&self) -> Preprocess {
        self.base.preprocess()
    }

    /// Returns the network, which is built at the first use.
    pub(crate) fn engine(&mut self) -> Result<&mut Engine, EdgeError> {
        if let Some(engine) = self.engine.take() {
            return Ok(self.engine.insert(engine));
        }
        let started = Instant::now();
        let state = self.learner.adapter().map(AsRef::as_ref);
        let engine = self.base.engine(state, &self.device)?;
        let hardware = engine.hardware();
        tracing::info!("network built on {hardware} in {:.0?}", started.elapsed());
        Ok(self.engine.insert(engine))
    }

    /// Returns the head in use.
    pub(crate) fn predictor(&mut self) -> Result<&Arc<Predictor>, EdgeError> {
        let predictor = match self.predictor.take() {
            Some(predictor) => predictor,
            None => Arc::new(self.fit(&self.learner, &[])?.predictor),
        };
        Ok(self.predictor.insert(predictor))
    }

    /// Returns the expected accuracy of the current classes.
    pub(crate) fn estimate(&mut self) -> Result<Option<&Estimate>, EdgeError> {
        if let Expected::Open = self.expected {
            self.expected = Expected::Known(self.fit(&self.learner, &[])?.estimate);
        }
        match &self.expected {
            Expected::Open => Ok(None),
            Expected::Known(estimate) => Ok(estimate.as_ref()),
        }
    }

    /// Adds shots to classes. Only their statistics are stored.
    pub(crate) fn teach(
        &mut self,
        kind: OperationKind,
        shots: &[ShotsOfClass],
    ) -> Result<Done, EdgeError> {
        let operation = self.learner.teach(kind, shots)?;
        self.commit(&operation, shots)
    }

    /// Adds shots to one class, and returns a report.
    pub(crate) fn teach_one(
        &mut self,
        name: &ClassName,
        shots: Shots,
    ) -> Result<TeachReport, EdgeError> {
        let added = shots.len();
        let done = self.teach(OperationKind::Teach, &[(name.clone(), shots)])?;
        let class = self.learner.class(name)?;
        Ok(TeachReport {
            class: class.name.to_string(),
            added,
            shots: class.count(),
            estimate: done.head.estimate.as_ref().map(EstimateDto::new),
        })
    }

    /// Puts the network that was trained on a task to use, with the shots of the task in the new features.
    pub(crate) fn adapt(&mut self, kept: &Kept, shots: &[ShotsOfClass]) -> Result<Done, EdgeError> {
        self.keep_prior(kept)?;
        let state = kept.adapter.state().clone();
        let operation = self.learner.adapt(state, &kept.classes, shots)?;
        self.commit(&operation, shots)
    }

    /// Commits an operation that adds no shots.
    pub(crate) fn apply(&mut self, operation: &Operation) -> Result<Done, EdgeError> {
        self.commit(operation, &[])
    }

    /// Commits an operation that [`Session::undo`] cannot undo, together with values of the store.
    pub(crate) fn switch(
        &mut self,
        operation: &Operation,
        values: &[(&'static str, Vec<u8>)],
    ) -> Result<(), EdgeError> {
        let mut next = self.learner.clone();
        next.apply(operation);
        let head = self.fit(&next, &[])?;
        let written = self.store.switch(operation, &head.predictor, values);
        self.written(written)?;
        self.follow(next, &head);
        Ok(())
    }

    /// Fits the head to another state. The session does not change.
    pub(crate) fn fit_to(&self, next: &Learner) -> Result<FittedHead, EdgeError> {
        self.fit(next, &[])
    }

    /// Undoes the last `count` operations, and returns their titles.
    pub(crate) fn undo(&mut self, count: u32) -> Result<Vec<String>, EdgeError> {
        let Some(undo) = self.store.undo(&self.learner, count as usize)? else {
            let possible = self.store.journal()?.len();
            return Err(EdgeError::NothingToUndo { asked: count, possible });
        };
        let mut next = self.learner.clone();
        undo.steps.iter().for_each(|step| next.apply(step));
        let head = self.fit(&next, &[])?;
        let written = self.store.commit_undo(&undo, &head.predictor);
        self.written(written)?;
        self.follow(next, &head);
        Ok(undo.titles)
    }

    fn commit(&mut self, operation: &Operation, shots: &[ShotsOfClass]) -> Result<Done, EdgeError> {
        let started = Instant::now();
        let mut next = self.learner.clone();
        next.apply(operation);
        let head = self.fit(&next, shots)?;
        let fit_time = started.elapsed();
        let written = self.store.commit(operation, &head.predictor);
        self.written(written)?;
        self.follow(next, &head);
        Ok(Done { head, fit_time, write_time: started.elapsed().saturating_sub(fit_time) })
    }

    /// Records a failed write.
    fn written(&mut self, written: Result<(), StoreError>) -> Result<(), EdgeError> {
        self.unsettled |= written.is_err();
        Ok(written?)
    }

    /// Takes over a state. If its adapter state differs, the network changes too, or is built again
    /// at the next use.
    fn follow(&mut self, next: Learner, head: &FittedHead) {
        if self.learner.adapter() != next.adapter()
            && let Some(mut engine) = self.engine.take()
        {
            let state = next.adapter().map(AsRef::as_ref);
            self.engine = engine.follow(state).is_ok().then_some(engine);
        }
        self.learner = next;
        self.predictor = Some(Arc::new(head.predictor.clone()));
        self.expected = Expected::Known(head.estimate.clone());
        self.revision += 1;
    }

    /// Returns the prior in the current feature space; `None` if it is unknown.
    pub(crate) fn prior(&self) -> Option<&Prior> {
        self.prior_of(&self.learner)
    }

    /// Returns the prior in the feature space of `learner`. The prior of the base holds for the
    /// base's own network; a task that changes the features moves it.
    fn prior_of(&self, learner: &Learner) -> Option<&Prior> {
        let Some(state) = learner.adapter() else { return self.base.prior() };
        let space = self.base.id.feature_space_after(state).ok()?;
        self.moved_priors.of(space)
    }

    /// Stores the prior in the feature space after a task. It is used in this feature space only,
    /// so it may be written before the task.
    fn keep_prior(&mut self, kept: &Kept) -> Result<(), EdgeError> {
        let space = self.base.id.feature_space_after(kept.adapter.state()).ok();
        let (Some(space), Some(prior)) = (space, &kept.prior) else { return Ok(()) };
        Ok(self.moved_priors.keep(space, prior.clone(), &self.store)?)
    }

    fn fit(&self, learner: &Learner, shots: &[ShotsOfClass]) -> Result<FittedHead, EdgeError> {
        let classes: Vec<Arc<Class>> = learner.classes().cloned().collect();
        let place = |name: &ClassName| classes.iter().position(|c| c.name.key() == name.key());
        let shots: Vec<(usize, &[Vec<f32>])> = shots
            .iter()
            .filter_map(|(name, shots)| Some((place(name)?, shots.features.as_slice())))
            .collect();
        let prior = self.prior_of(learner);
        Ok(fit_head(&classes, self.base.d_feature(), prior, HeadChoice::Auto, &shots)?)
    }
}

/// Teaches a class with preprocessed pictures.
pub(crate) fn teach_shots(
    session: &mut Session,
    name: &ClassName,
    pictures: &[Vec<f32>],
) -> Result<TeachReport, EdgeError> {
    let engine = session.engine()?;
    let features = engine.features(pictures)?;
    let views = engine.view_features(pictures, Shots::n_views(pictures.len()))?;
    let mut shots = Shots::default();
    features.into_iter().zip(&views).for_each(|(feature, views)| shots.push(feature, views));
    session.teach_one(name, shots)
}

/// Returns the state directory in the platform's data directory.
fn default_state_directory() -> PathBuf {
    let platform = directories::ProjectDirs::from("", "", "fmlora");
    platform
        .map_or_else(|| PathBuf::from("fmlora-state"), |dirs| dirs.data_local_dir().join("state"))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// The last flush of a commit fails: the operation returns an error, but it is on disk.
    #[test]
    fn an_operation_that_reached_the_disk_all_the_same_is_taken_over() {
        let _scenario = fail::FailScenario::setup();
        let folder = TempDir::new().expect("a folder");
        let global = Global { base: None, state: None, device: None, json: false, verbose: 0 };
        let mut session =
            Session::open_at(&global, folder.path(), Access::Write).expect("an empty state");
        let name = ClassName::new("cup").expect("a name");
        let shot = vec![0.5; session.base().d_feature()];
        let mut outcomes = Vec::new();
        for flush in 0..4 {
            let before = session.learner().clone();
            let fails = format!("{flush}*off->1*return->off");
            fail::cfg("storage-sync", &fails).expect("a fail point");
            let taught = session.teach_one(&name, vec![shot.clone(); 2].into());
            fail::remove("storage-sync");
            assert_eq!(*session.learner() == before, taught.is_err(), "memory follows the answer");
            session.settle().expect("the disk works");
            let on_disk = session.store().load(session.base().d_feature()).expect("classes");
            assert_eq!(*session.learner(), on_disk, "flush {flush}");
            outcomes.push((taught.is_ok(), *session.learner() == before));
        }
        assert!(outcomes.contains(&(false, true)), "before the commit: {outcomes:?}");
        assert!(outcomes.contains(&(false, false)), "after the commit: {outcomes:?}");
    }
}
