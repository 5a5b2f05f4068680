//! A task: classes with their shots, from features to a committed operation.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fmlora_learner::{
    AdaptError, Adaptation, AdaptationConfig, Class, Complexity, OperationKind, Shots, Step, Task,
    TaskClass, TokenCache, TrainError,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::report::EstimateDto;
use crate::session::ShotsOfClass;
use crate::{EdgeError, Session};

/// The shots of a task; gone when it is learned.
pub(crate) struct TaskShots {
    /// Classes with the rows of their shots in `seen.rows`.
    pub(crate) classes: Vec<TaskClass>,
    /// Occasion of each shot within its class; empty if all shots of a class are of one.
    pub(crate) occasions: Vec<usize>,
    pub(crate) seen: ShotFeatures,
    /// Tokens of the same rows, kept where the base has shared bases.
    pub(crate) tokens: Option<TokenCache>,
    /// When the first picture was read, and how long the forward passes took.
    pub(crate) started: Instant,
    pub(crate) forward: Duration,
}

/// Features of shots and, behind them, of their views, in the order in which an engine records their tokens.
pub(crate) struct ShotFeatures {
    /// `[shots + views, d_feature]`
    rows: Vec<Vec<f32>>,
    /// Rows of the views of each shot.
    views: Vec<Range<usize>>,
}

impl ShotFeatures {
    /// Features of shots; their views follow by [`ShotFeatures::push_views`].
    pub(crate) fn of_shots(shots: Vec<Vec<f32>>) -> Self {
        Self { views: vec![0..0; shots.len()], rows: shots }
    }

    /// Adds the features of the views of a shot.
    pub(crate) fn push_views(&mut self, shot: usize, views: Vec<Vec<f32>>) {
        self.views[shot] = self.rows.len()..self.rows.len() + views.len();
        self.rows.extend(views);
    }
}

/// What a task brought. With rank 0 nothing was trained and `trained_seconds` is 0.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LearnReport {
    /// Number of the operation.
    pub(crate) task: u64,
    pub(crate) classes: Vec<String>,
    pub(crate) shots: usize,
    /// `H` of the task, half difficulty and half novelty.
    pub(crate) complexity: f64,
    pub(crate) difficulty: f64,
    pub(crate) novelty: f64,
    /// Rank that was trained.
    pub(crate) rank: usize,
    pub(crate) forward_seconds: f64,
    pub(crate) trained_seconds: f64,
    pub(crate) total_seconds: f64,
    pub(crate) accuracy_before: Option<f64>,
    pub(crate) accuracy_after: Option<f64>,
    /// Accuracy on shots that the training did not see, without and with it.
    pub(crate) held_out_before: Option<f64>,
    pub(crate) held_out_after: Option<f64>,
    /// Whether what was trained is in use; true where nothing had to be trained.
    pub(crate) kept: bool,
    pub(crate) estimate: Option<EstimateDto>,
}

/// What training made of a task.
struct Trained {
    outcome: Option<Adaptation>,
    seconds: f64,
}

/// Learns a task: statistics always, matrices where DRS gives it a rank and they prove to be better.
///
/// `watch` sees every step of the training, and may end it: then the classes are learned without.
pub(crate) fn learn(
    session: &mut Session,
    shots: TaskShots,
    watch: &mut dyn FnMut(Step) -> ControlFlow<()>,
) -> Result<LearnReport, EdgeError> {
    let TaskShots { classes, occasions, seen, tokens, started, forward } = shots;
    // What is said to be the accuracy before is over the classes known before.
    let accuracy_before = session.estimate()?.map(|e| e.accuracy);
    let task = session.store().next_operation();
    let complexity = complexity(session, &classes, &seen);
    let mut trained = Trained { outcome: None, seconds: 0.0 };
    if let Some(tokens) = &tokens {
        let prior = session.prior().cloned();
        let task = Task {
            classes: &classes,
            views: &seen.views,
            tokens,
            features: &seen.rows,
            prior: prior.as_ref(),
        };
        trained = train(session, task, watch)?;
    }
    drop(tokens);
    let judged = trained.outcome.as_ref().and_then(|o| Some(o.judgements.first()?.1));
    let rank = trained.outcome.as_ref().map_or(0, |outcome| outcome.rank);
    let kept = trained.outcome.and_then(|outcome| outcome.kept);
    let refused = rank > 0 && kept.is_none();
    let done = if let Some(kept) = kept {
        let shots = shots_of(&classes, &occasions, &kept.features, &seen.views);
        session.teach_adapted(&kept, &shots)?
    } else {
        let shots = shots_of(&classes, &occasions, &seen.rows, &seen.views);
        session.teach(OperationKind::Learn, &shots)?
    };
    tracing::info!("head fitted in {:.0?}, written in {:.0?}", done.fit_time, done.write_time);
    let estimate = done.head.estimate.as_ref();
    Ok(LearnReport {
        task,
        classes: classes.iter().map(|class| class.name.to_string()).collect(),
        shots: seen.views.len(),
        complexity: complexity.h(),
        difficulty: complexity.difficulty,
        novelty: complexity.novelty,
        rank,
        forward_seconds: forward.as_secs_f64(),
        trained_seconds: trained.seconds,
        total_seconds: started.elapsed().as_secs_f64(),
        accuracy_before,
        accuracy_after: estimate.map(|e| e.accuracy),
        held_out_before: judged.map(|j| j.accuracy_before),
        held_out_after: judged.map(|j| j.accuracy_after),
        kept: !refused,
        estimate: estimate.map(EstimateDto::new),
    })
}

/// The shots of each class, occasion by occasion; `features` are those of shots and views, `views` the rows of each shot's.
fn shots_of(
    classes: &[TaskClass],
    occasions: &[usize],
    features: &[Vec<f32>],
    views: &[Range<usize>],
) -> Vec<ShotsOfClass> {
    let shots = |class: &TaskClass| {
        let mut shots: BTreeMap<usize, Shots> = BTreeMap::new();
        for &row in &class.rows {
            let occasion = occasions.get(row).copied().unwrap_or(0);
            let views = &features[views[row].clone()];
            shots.entry(occasion).or_default().push(features[row].clone(), views);
        }
        let name = class.name.clone();
        shots.into_values().map(move |shots| (name.clone(), shots))
    };
    classes.iter().flat_map(shots).collect()
}

fn complexity(session: &Session, classes: &[TaskClass], seen: &ShotFeatures) -> Complexity {
    let known: Vec<Arc<Class>> = session.learner().classes().cloned().collect();
    let no_tokens = TokenCache::new(0, 0);
    let (tokens, features) = (&no_tokens, seen.rows.as_slice());
    let task = Task { classes, views: &seen.views, tokens, features, prior: None };
    fmlora_learner::complexity_of(&known, task)
}

/// Lets DRS choose a rank, and trains if it is not 0. A training that is ended leaves everything as it was.
fn train(
    session: &mut Session,
    task: Task<'_>,
    watch: &mut dyn FnMut(Step) -> ControlFlow<()>,
) -> Result<Trained, EdgeError> {
    let started = Instant::now();
    let known: Vec<Arc<Class>> = session.learner().classes().cloned().collect();
    let config = AdaptationConfig::default();
    let mut watch = |step: Step| watch(step);
    let outcome = session.engine()?.adapt(&known, task, &config, &mut watch);
    let seconds = started.elapsed().as_secs_f64();
    match outcome {
        Ok(outcome) => {
            let trained = outcome.as_ref().is_some_and(|outcome| outcome.rank > 0);
            Ok(Trained { outcome, seconds: if trained { seconds } else { 0.0 } })
        }
        Err(EdgeError::Adapt(AdaptError::Train(TrainError::Stopped { steps }))) => {
            tracing::warn!("the training was ended after {steps} steps: the network is as it was");
            Ok(Trained { outcome: None, seconds })
        }
        Err(error) => Err(error),
    }
}
