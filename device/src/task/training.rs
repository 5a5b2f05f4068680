//! The training of a task, after its classes are taught by their statistics.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use fail::fail_point;
use fmlora_learner::{
    AdaptError, Adaptation, AdaptationConfig, Class, Complexity, Kept, Prior, RankSelector, Step,
    Task, TokenCache, TrainError, Watcher,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::TaskShots;
use crate::report::with_causes;
use crate::{EdgeError, Engine, Session};

/// Training of a task. It holds the tokens of all pictures until it is dropped.
pub(crate) struct TaskTraining {
    /// Number of the operation that taught the classes.
    pub(crate) task: u64,
    /// Revision of the session after that operation. The result of the training fits no other state.
    pub(crate) revision: u64,
    shots: TaskShots,
    tokens: TokenCache,
    /// Classes known before the task.
    known: Vec<Arc<Class>>,
    /// Prior in the features of `known`.
    prior: Option<Prior>,
}

/// End of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TrainingEnd {
    /// The trained network is in use.
    Kept,
    /// The trained network was not judged better, and was dropped.
    NotBetter,
    /// DRS gave the task rank 0.
    NoRank,
    /// Another operation changed the state meanwhile, and the result was dropped.
    Overtaken,
    /// The training was ended early.
    Ended,
    /// The training failed.
    Failed,
}

/// Result of a training. The classes of the task are known in any case.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TrainedReport {
    pub(crate) training: TrainingEnd,
    /// Rank that was trained.
    pub(crate) rank: usize,
    pub(crate) trained_seconds: f64,
    /// Accuracy on shots that the training did not see, without and with it.
    pub(crate) held_out_before: Option<f64>,
    pub(crate) held_out_after: Option<f64>,
    /// Reason of a failure.
    pub(crate) trouble: Option<String>,
}

impl TrainedReport {
    /// A training without a result.
    pub(crate) fn without_result(training: TrainingEnd, seconds: f64) -> Self {
        Self {
            training,
            rank: 0,
            trained_seconds: seconds,
            held_out_before: None,
            held_out_after: None,
            trouble: None,
        }
    }

    fn of(adaptation: &Adaptation, seconds: f64) -> Self {
        let judged = adaptation.judgements.first().map(|(_, judgement)| judgement);
        let training = match &adaptation.kept {
            Some(_) => TrainingEnd::Kept,
            None if adaptation.rank == 0 => TrainingEnd::NoRank,
            None => TrainingEnd::NotBetter,
        };
        Self {
            rank: adaptation.rank,
            held_out_before: judged.map(|judged| judged.accuracy_before),
            held_out_after: judged.map(|judged| judged.accuracy_after),
            ..Self::without_result(training, seconds)
        }
    }

    /// A training that failed.
    pub(crate) fn failure(why: String, seconds: f64) -> Self {
        Self { trouble: Some(why), ..Self::without_result(TrainingEnd::Failed, seconds) }
    }

    /// A training that panicked.
    pub(crate) fn crash() -> Self {
        let why = "it crashed: please report the pictures that it was trained on";
        Self::failure(why.to_owned(), 0.0)
    }

    /// Records whether a result that was judged better is in use.
    pub(crate) fn put_to_use(&mut self, done: Result<TrainingEnd, String>) {
        self.training = done.as_ref().copied().unwrap_or(TrainingEnd::Failed);
        self.trouble = done.err();
    }

    /// Returns the report as one line.
    pub(crate) fn text(&self) -> String {
        let rank = self.rank;
        let seconds = self.trained_seconds;
        match self.training {
            TrainingEnd::Kept => format!("trained at rank {rank} for {seconds:.1} s, kept"),
            TrainingEnd::NotBetter => format!(
                "trained at rank {rank} for {seconds:.1} s, taken back: it made nothing better"
            ),
            TrainingEnd::NoRank => {
                format!("trained for {seconds:.1} s: the task is not worth a rank")
            }
            TrainingEnd::Overtaken => {
                "what was taught meanwhile counts: the training was dropped".to_owned()
            }
            TrainingEnd::Ended => format!(
                "the training was ended after {seconds:.1} s: the classes are known without it"
            ),
            TrainingEnd::Failed => {
                let why = self.trouble.as_deref().unwrap_or_default();
                format!("the training failed, the classes are known without it: {why}")
            }
        }
    }
}

impl TaskTraining {
    /// Returns the training of a task that a session has just been taught; `None` if DRS gives the task rank 0.
    pub(super) fn of(
        session: &Session,
        task: u64,
        shots: TaskShots,
        tokens: TokenCache,
        known: Vec<Arc<Class>>,
        complexity: &Complexity,
    ) -> Option<Self> {
        let max_rank = session.base().adapter()?.bases().rank();
        let selector = match config().fixed_rank {
            Some(rank) => RankSelector::fixed(rank.min(max_rank)),
            None => RankSelector::new(max_rank, complexity),
        };
        if selector.prior_rank() == 0 || shots.classes.len() < 2 {
            return None;
        }
        let revision = session.revision();
        let prior = session.prior().cloned();
        Some(Self { task, revision, shots, tokens, known, prior })
    }

    /// Trains and judges, with an engine of the network that the classes were taught with. The engine does not change.
    ///
    /// `watch` is called after every step, and may end the training. Returns the result if it was judged better.
    pub(crate) fn run(
        &self,
        engine: &mut Engine,
        watch: Watcher<'_>,
    ) -> (TrainedReport, Option<Kept>) {
        let started = Instant::now();
        let task = Task {
            classes: &self.shots.classes,
            views: &self.shots.seen.views,
            tokens: &self.tokens,
            features: &self.shots.seen.rows,
            prior: self.prior.as_ref(),
        };
        let mut watch = |step: Step| -> ControlFlow<()> {
            fail_point!("training-step");
            watch(step)
        };
        let outcome = engine.adapt(&self.known, task, &config(), &mut watch);
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(Some(adaptation)) => (TrainedReport::of(&adaptation, seconds), adaptation.kept),
            Ok(None) => (TrainedReport::without_result(TrainingEnd::NoRank, seconds), None),
            Err(EdgeError::Adapt(AdaptError::Train(TrainError::Stopped { .. }))) => {
                (TrainedReport::without_result(TrainingEnd::Ended, seconds), None)
            }
            Err(error) => (TrainedReport::failure(with_causes(&error), seconds), None),
        }
    }

    /// Puts a result to use as an operation of its own. Drops it if another operation followed the
    /// teaching of the task.
    pub(crate) fn take_over(
        &self,
        session: &mut Session,
        kept: &Kept,
    ) -> Result<TrainingEnd, EdgeError> {
        if session.revision() != self.revision {
            return Ok(TrainingEnd::Overtaken);
        }
        match session.adapt(kept, &self.shots.of_classes(&kept.features)) {
            Ok(done) => {
                let written = done.write_time;
                tracing::info!("head fitted in {:.0?}, written in {written:.0?}", done.fit_time);
                Ok(TrainingEnd::Kept)
            }
            // A write that fails at its very end may be on disk all the same.
            Err(_) if session.settle().is_ok() && session.revision() != self.revision => {
                Ok(TrainingEnd::Kept)
            }
            Err(error) => Err(error),
        }
    }
}

/// Returns the configuration of trainings.
fn config() -> AdaptationConfig {
    // Tests train every task, and set the margin of the judgement in standard errors.
    fail_point!("training-margin", |margin| AdaptationConfig {
        fixed_rank: Some(2),
        margin: margin.and_then(|margin| margin.parse().ok()).unwrap_or_default(),
        ..AdaptationConfig::default()
    });
    AdaptationConfig::default()
}
