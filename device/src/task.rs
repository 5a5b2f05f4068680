//! A task: classes with their shots. Teaching adds their statistics at once; a training may follow.

mod training;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fmlora_learner::{Class, Complexity, OperationKind, Shots, Task, TaskClass, TokenCache};
use serde::Serialize;
use utoipa::ToSchema;

use crate::report::EstimateDto;
use crate::session::ShotsOfClass;
use crate::{EdgeError, Session};

pub(crate) use training::{TaskTraining, TrainedReport, TrainingEnd};

/// A task with the features of its pictures.
pub(crate) struct PosedTask {
    pub(crate) shots: TaskShots,
    /// Tokens of `shots.seen.rows`, recorded if the base has shared bases.
    pub(crate) tokens: Option<TokenCache>,
    /// Time at which the first picture was read.
    pub(crate) started: Instant,
    /// Duration of the forward passes.
    pub(crate) forward: Duration,
}

/// The shots of a task.
pub(crate) struct TaskShots {
    /// Classes with the rows of their shots in `seen.rows`.
    pub(crate) classes: Vec<TaskClass>,
    /// Occasion of each shot within its class; empty if all shots of a class are of one.
    pub(crate) occasions: Vec<usize>,
    pub(crate) seen: ShotFeatures,
}

/// Features of shots and, behind them, of their views, in the order in which an engine records their tokens.
pub(crate) struct ShotFeatures {
    /// `[shots + views, d_feature]`
    rows: Vec<Vec<f32>>,
    /// Rows of the views of each shot.
    views: Vec<Range<usize>>,
}

impl ShotFeatures {
    /// Starts with the features of shots. [`ShotFeatures::push_views`] adds their views.
    pub(crate) fn of_shots(shots: Vec<Vec<f32>>) -> Self {
        Self { views: vec![0..0; shots.len()], rows: shots }
    }

    /// Adds the features of the views of a shot.
    pub(crate) fn push_views(&mut self, shot: usize, views: Vec<Vec<f32>>) {
        self.views[shot] = self.rows.len()..self.rows.len() + views.len();
        self.rows.extend(views);
    }
}

/// Result of teaching the classes of a task.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaughtReport {
    /// Number of the operation.
    pub(crate) task: u64,
    pub(crate) classes: Vec<String>,
    pub(crate) shots: usize,
    /// `H` of the task, half difficulty and half novelty.
    pub(crate) complexity: f64,
    pub(crate) difficulty: f64,
    pub(crate) novelty: f64,
    pub(crate) forward_seconds: f64,
    /// Seconds from the first picture until the classes were known.
    pub(crate) answered_seconds: f64,
    pub(crate) accuracy_before: Option<f64>,
    pub(crate) accuracy_after: Option<f64>,
    pub(crate) estimate: Option<EstimateDto>,
}

impl TaughtReport {
    /// Replaces the estimate.
    pub(crate) fn expect(&mut self, estimate: Option<EstimateDto>) {
        self.accuracy_after = estimate.as_ref().map(|estimate| estimate.accuracy);
        self.estimate = estimate;
    }
}

impl TaskShots {
    /// Returns the shots of each class, occasion by occasion, with the features of shots and views in `rows`.
    fn of_classes(&self, rows: &[Vec<f32>]) -> Vec<ShotsOfClass> {
        let shots = |class: &TaskClass| {
            let mut shots: BTreeMap<usize, Shots> = BTreeMap::new();
            for &row in &class.rows {
                let occasion = self.occasions.get(row).copied().unwrap_or(0);
                let views = &rows[self.seen.views[row].clone()];
                shots.entry(occasion).or_default().push(rows[row].clone(), views);
            }
            let name = class.name.clone();
            shots.into_values().map(move |shots| (name.clone(), shots))
        };
        self.classes.iter().flat_map(shots).collect()
    }

    fn complexity(&self, known: &[Arc<Class>]) -> Complexity {
        let no_tokens = TokenCache::new(0, 0);
        let task = Task {
            classes: &self.classes,
            views: &self.seen.views,
            tokens: &no_tokens,
            features: &self.seen.rows,
            prior: None,
        };
        fmlora_learner::complexity_of(known, task)
    }
}

/// Teaches the classes of a task by their statistics. Returns the training of the task too if DRS gives it a rank.
pub(crate) fn teach(
    session: &mut Session,
    posed: PosedTask,
) -> Result<(TaughtReport, Option<TaskTraining>), EdgeError> {
    let PosedTask { shots, tokens, started, forward } = posed;
    // This accuracy is over the classes known before.
    let accuracy_before = session.estimate()?.map(|e| e.accuracy);
    let task = session.store().next_operation();
    let known: Vec<Arc<Class>> = session.learner().classes().cloned().collect();
    let complexity = shots.complexity(&known);
    let done = session.teach(OperationKind::Learn, &shots.of_classes(&shots.seen.rows))?;
    tracing::info!("head fitted in {:.0?}, written in {:.0?}", done.fit_time, done.write_time);
    let mut report = TaughtReport {
        task,
        classes: shots.classes.iter().map(|class| class.name.to_string()).collect(),
        shots: shots.seen.views.len(),
        complexity: complexity.h(),
        difficulty: complexity.difficulty,
        novelty: complexity.novelty,
        forward_seconds: forward.as_secs_f64(),
        answered_seconds: started.elapsed().as_secs_f64(),
        accuracy_before,
        accuracy_after: None,
        estimate: None,
    };
    report.expect(done.head.estimate.as_ref().map(EstimateDto::new));
    let training = tokens
        .and_then(|tokens| TaskTraining::of(session, task, shots, tokens, known, &complexity));
    Ok((report, training))
}
