//! Adaptation to a whole task: rank selection, training, drift map, and the decision to keep the
//! update or to roll it back.
//!
//! The decision uses held-out shots of the task and the statistics of old classes. An update is
//! kept only if the head fitted after it lowers their log-loss by more than chance. As far as its
//! own shots can tell, a device never gets worse by learning.

mod judge;
mod task_shots;

use std::sync::Arc;

use fmlora_models::Backbone;
use thiserror::Error;

use crate::trainer::{
    ClassMeans, Examples, FeaturePull, Objective, TaskConfig, TaskHead, TokenCache, TrainError,
    TrainedTask, Watcher, train_bases, train_task,
};
use crate::{
    Adapter, AdapterConfig, AdapterTask, Class, ClassStatistics, Complexity, DriftMap, HeadError,
    Prior, PriorError, RankSelector, StatisticsError, TransportError,
};

use task_shots::Split;

pub use judge::Judgement;
pub use task_shots::{Task, TaskClass, with_task};

/// Configuration of the adaptation to a task.
#[derive(Debug, Clone, PartialEq)]
pub struct AdaptationConfig {
    /// Training of `M_t` and `N_t`.
    pub task: TaskConfig,
    /// Fixed rank of every task. `None`: dynamic rank selection (DRS) chooses it.
    pub fixed_rank: Option<usize>,
    /// Candidate merge weights, `a` in `S + a M N^T`. The best candidate is kept.
    pub merge_weights: Vec<f32>,
    /// Ridge penalty of the drift map. `None`: old statistics are not moved.
    pub drift_ridge: Option<f64>,
    /// Share of each class's shots that is held out from the training.
    pub held_out: f64,
    /// Margin of the decision: an update is kept if the log-loss falls by more than this many
    /// standard errors. Minus infinity keeps every update.
    pub margin: f64,
}

/// Outcome of the adaptation to a task: trained rank, losses, judgements and the kept update.
#[derive(Debug, Clone)]
pub struct Adaptation {
    /// Difficulty and novelty of the task.
    pub complexity: Complexity,
    /// Trained rank. 0 if nothing was trained, or if the shots of a first task are too few to judge
    /// its update.
    pub rank: usize,
    /// Number of trained parameters.
    pub n_trained: usize,
    /// Size of the task's factors in a file, in bytes.
    pub n_bytes: usize,
    /// Mean cross-entropy of each epoch, in nats.
    pub losses: Vec<f64>,
    /// Judged candidates: merge weight and judgement of each.
    pub judgements: Vec<(f32, Judgement)>,
    /// The update to keep. `None` if no candidate was better by the margin.
    pub kept: Option<Kept>,
}

/// An update to keep: new adapter, moved statistics and new features.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The adapter with the task merged.
    pub adapter: Adapter,
    /// The task's own factors, for another device that had the same adapter before.
    pub task: AdapterTask,
    /// Old classes with their statistics moved by the drift map; unchanged without one.
    pub classes: Vec<Arc<Class>>,
    /// Features of the task's shots and views with the new adapter, by row of the cache.
    pub features: Vec<Vec<f32>>,
    /// The prior in the new features. `None` if the task has no prior or there is no drift map.
    pub prior: Option<Prior>,
}

/// Error of the adaptation to a task. Adapter and statistics are unchanged.
#[derive(Debug, Error)]
pub enum AdaptError {
    /// The training failed or was stopped.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// No drift map can be fitted to the features.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Shots or moved statistics cannot be stored.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// The prior cannot be moved.
    #[error(transparent)]
    Prior(#[from] PriorError),
    /// No head can be fitted to the statistics.
    #[error(transparent)]
    Head(#[from] HeadError),
}

/// Batch size of a forward pass without gradients, in shots.
const PASS: usize = 32;

impl Default for AdaptationConfig {
    fn default() -> Self {
        Self {
            task: TaskConfig::default(),
            fixed_rank: None,
            merge_weights: vec![1.0, 0.5],
            drift_ridge: Some(0.1),
            held_out: 0.2,
            // One-sided 5 %: an update without a gain is kept with a chance of one in twenty.
            margin: 1.64,
        }
    }
}

/// Computes the features of all rows of a token cache with an adapter.
///
/// # Errors
///
/// [`TrainError::Device`].
pub fn adapted_features(
    backbone: &Backbone,
    adapter: &Adapter,
    tokens: &TokenCache,
) -> Result<Vec<Vec<f32>>, TrainError> {
    let folded = backbone.folded(&adapter.side_branches(backbone.device()));
    let rows: Vec<usize> = (0..tokens.len()).collect();
    let mut features = Vec::with_capacity(rows.len());
    for batch in rows.chunks(PASS) {
        let found = folded.suffix(tokens.batch(batch, backbone.device()));
        let data = found.try_into_data().map_err(|e| TrainError::Device(e.to_string()))?;
        let numbers = data.try_into_vec::<f32>().map_err(|e| TrainError::Device(e.to_string()))?;
        features.extend(numbers.chunks_exact(backbone.d_feature()).map(<[f32]>::to_vec));
    }
    Ok(features)
}

/// Trains a task on top of an adapter and decides whether to keep the update.
///
/// `known` holds all classes known before, in the adapter's features. Nothing is trained if the
/// selected rank is 0 or the task has fewer than two classes.
///
/// # Errors
///
/// [`AdaptError`]. The inputs are unchanged.
pub fn adapt(
    backbone: &Backbone,
    adapter: &Adapter,
    known: &[Arc<Class>],
    task: Task<'_>,
    config: &AdaptationConfig,
    watch: Watcher<'_>,
) -> Result<Adaptation, AdaptError> {
    let complexity = complexity_of(known, task);
    let selector = match config.fixed_rank {
        Some(rank) => RankSelector::fixed(rank.min(adapter.bases().rank())),
        None => RankSelector::new(adapter.bases().rank(), &complexity),
    };
    let mut adaptation = Adaptation {
        complexity,
        rank: 0,
        n_trained: 0,
        n_bytes: 0,
        losses: Vec::new(),
        judgements: Vec::new(),
        kept: None,
    };
    if selector.prior_rank() == 0 || task.classes.len() < 2 {
        return Ok(adaptation);
    }
    let split = Split::new(&task, config.held_out, config.task.training.seed);
    let before = judge::Side::new(known, &task, &split)?;
    let columns: Vec<usize>;
    let (head, labels, pull) = match config.task.objective {
        Objective::OwnClasses => (TaskHead::Own(task.classes.len()), &split.labels, None),
        Objective::OwnAngles => (own_angles(&task, &split), &split.labels, None),
        Objective::AnalyticHead => {
            columns = split.labels.iter().map(|&label| before.column(label)).collect();
            let pull = FeaturePull { features: task.features, weight: config.task.feature_pull };
            (
                TaskHead::Analytic(Box::new(before.fixed_head(backbone.device()))),
                &columns,
                Some(pull),
            )
        }
    };
    let examples = Examples { tokens: task.tokens, rows: &split.rows, labels, pull };
    let trained = train_task(backbone, &examples, head, adapter, &selector, &config.task, watch)?;
    adaptation.rank = trained.update.rank;
    adaptation.n_trained = trained.n_trained;
    adaptation.n_bytes = trained.update.n_bytes();
    adaptation.losses.clone_from(&trained.losses);
    if trained.update.rank > 0 {
        decide(
            backbone,
            adapter,
            (known, &before),
            task,
            config,
            &split,
            &trained,
            &mut adaptation,
        )?;
    }
    Ok(adaptation)
}

/// Trains the shared bases on the first task and decides whether to keep the task's own update.
///
/// Returns an adapter with the bases and an empty merged state, because later tasks need the bases
/// in any case. `kept` is `None` if the update is no better than none, or if the shots are too few
/// to judge it.
///
/// # Errors
///
/// [`AdaptError`].
pub fn adapt_first(
    backbone: &Backbone,
    task: Task<'_>,
    layers: &AdapterConfig,
    config: &AdaptationConfig,
    watch: Watcher<'_>,
) -> Result<(Adapter, Adaptation), AdaptError> {
    let split = Split::new(&task, config.held_out, config.task.training.seed);
    let examples =
        Examples { tokens: task.tokens, rows: &split.rows, labels: &split.labels, pull: None };
    let training = &config.task.training;
    let head = match config.task.objective {
        Objective::OwnAngles => own_angles(&task, &split),
        // There is no analytic head before the first task.
        Objective::OwnClasses | Objective::AnalyticHead => TaskHead::Own(task.classes.len()),
    };
    let first = train_bases(backbone, &examples, head, layers, training, watch)?;
    let blank = Adapter::new(Arc::clone(first.adapter.bases()), None);
    let trained = TrainedTask {
        update: first.adapter.as_update(),
        losses: first.losses,
        n_trained: first.n_trained,
        grams: first.adapter.state.grams.clone(),
    };
    let mut adaptation = Adaptation {
        complexity: complexity_of(&[], task),
        rank: layers.rank,
        n_trained: trained.n_trained,
        n_bytes: trained.update.n_bytes(),
        losses: trained.losses.clone(),
        judgements: Vec::new(),
        kept: None,
    };
    // Too few shots leave too few held-out shots to judge by: keep the bases, drop the update.
    let claims_nothing = RankSelector::new(layers.rank, &adaptation.complexity).prior_rank() == 0;
    if claims_nothing && config.fixed_rank.is_none() {
        adaptation.rank = 0;
        return Ok((blank, adaptation));
    }
    let before = judge::Side::new(&[], &task, &split)?;
    decide(backbone, &blank, (&[], &before), task, config, &split, &trained, &mut adaptation)?;
    Ok((blank, adaptation))
}

/// Returns a cosine head that starts at the class means of the training shots and their views.
fn own_angles(task: &Task<'_>, split: &Split) -> TaskHead {
    let d = task.features.first().map_or(0, Vec::len);
    let mut means = ClassMeans::new(task.classes.len(), d);
    for (&row, &label) in split.rows.iter().zip(&split.labels) {
        means.push(label, &task.features[row]);
    }
    TaskHead::Cosine(Box::new(means))
}

/// Computes the complexity `H(T_t)` of a task from its features and the means of known modes.
pub fn complexity_of(known: &[Arc<Class>], task: Task<'_>) -> Complexity {
    let shots = |class: &TaskClass| -> Vec<Vec<f32>> {
        class.rows.iter().map(|&row| task.features[row].clone()).collect()
    };
    let shots: Vec<Vec<Vec<f32>>> = task.classes.iter().map(shots).collect();
    let shots: Vec<&[Vec<f32>]> = shots.iter().map(Vec::as_slice).collect();
    let known: Vec<Vec<f32>> = modes_of(known).map(ClassStatistics::mean).collect();
    Complexity::of(&shots, &known)
}

/// Judges a merge of the trained update for each merge weight. Stores the best one in
/// `adaptation.kept` if its gain exceeds the margin.
#[expect(clippy::too_many_arguments, reason = "the second half of `adapt`, with all that it has")]
fn decide(
    backbone: &Backbone,
    adapter: &Adapter,
    (known, before): (&[Arc<Class>], &judge::Side),
    task: Task<'_>,
    config: &AdaptationConfig,
    split: &Split,
    trained: &TrainedTask,
    adaptation: &mut Adaptation,
) -> Result<(), AdaptError> {
    // Rounded to f16 as in files: the judged update is the one that this device loads after a
    // restart, and that other devices load.
    let update = trained.update.clone();
    let grams = trained.grams.clone();
    let n_pictures = (split.shots.len() + split.held_out.len()) as u32;
    let mergeable = AdapterTask { update, weight: 1.0, grams, n_pictures };
    let mut mergeable = mergeable.rounded().map_err(StatisticsError::from)?;
    let mut best: Option<(f64, Kept)> = None;
    for &weight in &config.merge_weights {
        mergeable.weight = weight;
        let next = adapter.with_task(&mergeable).map_err(StatisticsError::from)?;
        let features = adapted_features(backbone, &next, task.tokens)?;
        let pick = |from: &[Vec<f32>]| -> Vec<Vec<f32>> {
            split.rows.iter().map(|&row| from[row].clone()).collect()
        };
        let map = match config.drift_ridge {
            Some(ridge) => Some(DriftMap::fit(&pick(task.features), &pick(&features), ridge)?),
            None => None,
        };
        let classes = match &map {
            Some(map) => moved(known, map)?,
            None => known.to_vec(),
        };
        let prior = match (task.prior, &map) {
            (Some(prior), Some(map)) => Some(prior.moved(|point| map.apply(point))?),
            _ => None,
        };
        let task_after = Task { features: &features, prior: prior.as_ref(), ..task };
        let after = judge::Side::new(&classes, &task_after, split)?;
        let both = [task.features, features.as_slice()];
        let seed = config.task.training.seed;
        let judgement = judge::judge(before, &after, both, split, map.as_ref(), seed);
        adaptation.judgements.push((weight, judgement));
        // A standard error of 0 times an infinite margin would be no number.
        let standard_error = judgement.standard_error.max(f64::MIN_POSITIVE);
        let enough = judgement.gain > config.margin * standard_error;
        if enough && best.as_ref().is_none_or(|(gain, _)| judgement.gain > *gain) {
            best = Some((
                judgement.gain,
                Kept { adapter: next, task: mergeable.clone(), classes, features, prior },
            ));
        }
    }
    adaptation.kept = best.map(|(_, kept)| kept);
    Ok(())
}

/// Iterates over the modes of all classes.
fn modes_of(classes: &[Arc<Class>]) -> impl Iterator<Item = &ClassStatistics> {
    classes.iter().flat_map(|class| &class.modes)
}

/// Moves the statistics of all modes by the drift map.
fn moved(known: &[Arc<Class>], map: &DriftMap) -> Result<Vec<Arc<Class>>, StatisticsError> {
    let moved = |class: &Arc<Class>| class.moved(|mode| map.transport(mode)).map(Arc::new);
    known.iter().map(moved).collect()
}
