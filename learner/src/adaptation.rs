//! A whole task: rank, training, drift map, and the decision to keep it or to roll back.
//!
//! The decision rests on shots that the training did not see and on what is known of old classes: an
//! update is kept only if the head that follows from it explains both better than before, by more than
//! chance. A device never gets worse by learning, as far as its own shots can tell.

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

/// How tasks are learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct AdaptationConfig {
    /// The training of `M_t` and `N_t`.
    pub task: TaskConfig,
    /// Rank of every task; `None` lets DRS choose.
    pub fixed_rank: Option<usize>,
    /// Weights of the merge that are tried, `a` in `S + a M N^T`; the best is kept.
    pub merge_weights: Vec<f32>,
    /// Ridge of the drift map; `None` leaves old statistics where they are.
    pub drift_ridge: Option<f64>,
    /// Share of each class's shots that the training does not see.
    pub held_out: f64,
    /// Standard errors by which the log-loss must fall for an update to be kept; minus infinity keeps
    /// everything.
    pub margin: f64,
}

/// What became of a task.
#[derive(Debug, Clone)]
pub struct Adaptation {
    /// How hard and how new the task is.
    pub complexity: Complexity,
    /// Rank that was trained; 0 if there was nothing to train.
    pub rank: usize,
    /// Numbers that were trained.
    pub n_trained: usize,
    /// Bytes of the task's factors in a file.
    pub n_bytes: usize,
    /// Mean cross-entropy of each epoch.
    pub losses: Vec<f64>,
    /// The candidates that were judged, by merge weight.
    pub judgements: Vec<(f32, Judgement)>,
    /// What to keep, if anything got better.
    pub kept: Option<Kept>,
}

/// An update that is worth keeping.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The adapter with the task merged.
    pub adapter: Adapter,
    /// What the task added: for another device that had the same adapter before.
    pub task: AdapterTask,
    /// Old classes with their statistics moved.
    pub classes: Vec<Arc<Class>>,
    /// Features of the task's shots and views with the new adapter, by row of the cache.
    pub features: Vec<Vec<f32>>,
    /// The prior in the new features; `None` without one, and without a drift map.
    pub prior: Option<Prior>,
}

/// Why a task could not be learnt; nothing has changed.
#[derive(Debug, Error)]
pub enum AdaptError {
    /// The training failed or was stopped.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The features gave no drift map.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Shots or moved statistics cannot be stored.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// The prior cannot be moved.
    #[error(transparent)]
    Prior(#[from] PriorError),
    /// No head followed from the statistics.
    #[error(transparent)]
    Head(#[from] HeadError),
}

/// Shots of a pass without gradients.
const PASS: usize = 32;

impl Default for AdaptationConfig {
    fn default() -> Self {
        Self {
            task: TaskConfig::default(),
            fixed_rank: None,
            merge_weights: vec![1.0, 0.5],
            drift_ridge: Some(0.1),
            held_out: 0.2,
            // One chance in twenty that an update which is worth nothing is kept.
            margin: 1.64,
        }
    }
}

/// Features of rows of a cache with an adapter.
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

/// Learns a task on top of an adapter. `known` are all classes known before, in the adapter's features.
///
/// # Errors
///
/// [`AdaptError`]; nothing has changed then.
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

/// Learns the first task: trains the shared bases on it, and keeps what they make of it if it is worth it.
///
/// `kept` is `None` if the task is better off without, or its shots are too few to tell; the bases serve later
/// tasks all the same, so they
/// come back in any case, with nothing learnt in them.
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
        Objective::OwnClasses => TaskHead::Own(task.classes.len()),
        // Before the first task there is no analytic head.
        Objective::OwnAngles | Objective::AnalyticHead => own_angles(&task, &split),
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
    // Too few shots hold out too few to judge by: the bases stay, what they made of the task goes.
    let claims_nothing = RankSelector::new(layers.rank, &adaptation.complexity).prior_rank() == 0;
    if claims_nothing && config.fixed_rank.is_none() {
        adaptation.rank = 0;
        return Ok((blank, adaptation));
    }
    let before = judge::Side::new(&[], &task, &split)?;
    decide(backbone, &blank, (&[], &before), task, config, &split, &trained, &mut adaptation)?;
    Ok((blank, adaptation))
}

/// A head by angles that starts at the means of the shots and views that train.
fn own_angles(task: &Task<'_>, split: &Split) -> TaskHead {
    let d = task.features.first().map_or(0, Vec::len);
    let mut means = ClassMeans::new(task.classes.len(), d);
    for (&row, &label) in split.rows.iter().zip(&split.labels) {
        means.push(label, &task.features[row]);
    }
    TaskHead::Cosine(Box::new(means))
}

/// `H(T_t)` of a task.
pub fn complexity_of(known: &[Arc<Class>], task: Task<'_>) -> Complexity {
    let shots = |class: &TaskClass| -> Vec<Vec<f32>> {
        class.rows.iter().map(|&row| task.features[row].clone()).collect()
    };
    let shots: Vec<Vec<Vec<f32>>> = task.classes.iter().map(shots).collect();
    let shots: Vec<&[Vec<f32>]> = shots.iter().map(Vec::as_slice).collect();
    let known: Vec<Vec<f32>> = modes_of(known).map(ClassStatistics::mean).collect();
    Complexity::of(&shots, &known)
}

/// Judges the merges and puts the best into `adaptation` if it is good enough.
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
    // As files hold it, so that what is judged is what will be there after a restart, here or on another device.
    let (update, grams) = (trained.update.clone(), trained.grams.clone());
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
        let adapted = Task { features: &features, prior: prior.as_ref(), ..task };
        let after = judge::Side::new(&classes, &adapted, split)?;
        let both = [task.features, features.as_slice()];
        let seed = config.task.training.seed;
        let judgement = judge::judge(before, &after, both, split, map.as_ref(), seed);
        adaptation.judgements.push((weight, judgement));
        let enough = judgement.gain > config.margin * judgement.standard_error;
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

/// The modes of all classes.
fn modes_of(classes: &[Arc<Class>]) -> impl Iterator<Item = &ClassStatistics> {
    classes.iter().flat_map(|class| &class.modes)
}

fn moved(known: &[Arc<Class>], map: &DriftMap) -> Result<Vec<Arc<Class>>, StatisticsError> {
    let moved = |class: &Arc<Class>| class.moved(|mode| map.transport(mode)).map(Arc::new);
    known.iter().map(moved).collect()
}
