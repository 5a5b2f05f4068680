//! The compared methods. All use the same tokens, features and tasks.

mod fm_lora;
mod lora;
mod nearest_mean;
mod ridge;

use anyhow::{Result, bail};
use fmlora_learner::{Adapter, Prior};
use fmlora_models::Backbone;

pub(crate) use fm_lora::ABLATIONS;

use super::prepared::Prepared;
use super::settings::Settings;
use super::stream::{Stream, TaskRows};
use crate::trust::Answer;

/// A network, with the tokens and features of all pictures.
pub(crate) struct Arena {
    pub(crate) backbone: Backbone,
    pub(crate) prepared: Prepared,
}

/// Inputs of a method.
pub(crate) struct World<'a> {
    /// Names of all classes, by label.
    pub(crate) names: &'a [String],
    /// The network with the base's own split into prefix and suffix.
    pub(crate) arena: &'a Arena,
    /// The prior of the base.
    pub(crate) prior: Option<&'a Prior>,
    /// The shared bases of the base. Their learned state is part of the network here.
    pub(crate) bases: Option<&'a Adapter>,
    /// The same network adapted from its first block on; `None` unless a method needs it.
    pub(crate) whole: Option<&'a Arena>,
    pub(crate) settings: &'a Settings,
    /// Seed of this run, for everything drawn.
    pub(crate) seed: u64,
    /// Called after each step of a training.
    pub(crate) on_step: &'a dyn Fn(),
    /// Reports a decision of the method.
    pub(crate) say: &'a dyn Fn(&str),
}

/// Result of learning a task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Learned {
    /// Rank of the task's update; 0 if nothing in the network changed.
    pub(crate) rank: usize,
    /// Complexity `H` of the task; `None` if it is not measured.
    pub(crate) complexity: Option<f64>,
    /// True if the update was kept; `None` if the method does not decide this.
    pub(crate) kept: Option<bool>,
    /// Numbers trained by gradient descent.
    pub(crate) n_trained: usize,
    /// Bytes that the task adds to the storage.
    pub(crate) n_bytes: usize,
}

/// A method's own estimate of its accuracy, in [0, 1].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// Estimate for pictures like the training pictures.
    pub(crate) alike: f64,
    /// Estimate for another day.
    pub(crate) another_day: f64,
}

/// A continual learning method: learns tasks one after the other.
pub(crate) trait Method {
    /// Learns a task from its training pictures.
    fn learn(&mut self, world: &World<'_>, task: &TaskRows) -> Result<Learned>;

    /// Returns the labels of all classes learned so far.
    fn labels(&self, world: &World<'_>) -> Result<Vec<usize>>;

    /// Scores test pictures: one score per class, in the order of [`Method::labels`].
    fn scores(&mut self, world: &World<'_>, rows: &[usize]) -> Result<Vec<Vec<f32>>>;

    /// Predicts the labels of test pictures, among all classes learned so far.
    fn predict(&mut self, world: &World<'_>, rows: &[usize]) -> Result<Vec<usize>> {
        let labels = self.labels(world)?;
        let scores = self.scores(world, rows)?;
        Ok(scores.into_iter().map(|scores| labels[best(scores)]).collect())
    }

    /// Answers test pictures with the method's own confidence; `None` if it has none.
    fn answers(&mut self, _: &World<'_>, _: &[usize]) -> Result<Option<Vec<Answer>>> {
        Ok(None)
    }

    /// Returns the method's own estimate of its accuracy; `None` if it has none.
    fn expected(&self) -> Option<Expected> {
        None
    }

    /// Returns the bytes stored besides the network.
    fn n_bytes(&self) -> usize;

    /// Returns true if the method learns all tasks at once, as a single task.
    fn at_once(&self) -> bool {
        false
    }
}

/// Names that `--methods` accepts, in the order in which the methods run.
pub(crate) const NAMES: [&str; 9] = [
    "nearest-mean",
    "ridge",
    "ranpac",
    "ranpac-2000",
    "fm-lora",
    "sequential-lora",
    "sd-lora",
    "joint-lora",
    "fm-lora-paper",
];

/// Returns true if a method adapts the network from its first block on.
pub(crate) fn needs_whole(name: &str) -> bool {
    name == "fm-lora-paper"
}

/// Creates a method that has learned nothing yet.
pub(crate) fn method(
    name: &str,
    ablation: &str,
    world: &World<'_>,
    stream: &Stream,
) -> Result<Box<dyn Method>> {
    let d = world.arena.backbone.d_feature();
    Ok(match name {
        "nearest-mean" => Box::new(nearest_mean::NearestMean::default()),
        "ridge" => Box::new(ridge::Ridge::plain(d)),
        "ranpac" => Box::new(ridge::Ridge::random(d, 10_000, world.seed)),
        "ranpac-2000" => Box::new(ridge::Ridge::random(d, 2000, world.seed)),
        "sequential-lora" => Box::new(lora::Lora::sequential()),
        "sd-lora" => Box::new(lora::SdLora::default()),
        "joint-lora" => Box::new(lora::Lora::joint()),
        "fm-lora" => Box::new(fm_lora::FmLora::ours(ablation, world, stream)?),
        "fm-lora-paper" => Box::new(fm_lora::FmLora::paper(world.settings)),
        _ => bail!("there is no method {name:?}; known: {}", NAMES.join(", ")),
    })
}

/// Returns the index of the highest score.
fn best(scores: impl IntoIterator<Item = f32>) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (place, score) in scores.into_iter().enumerate() {
        if score > best.1 {
            best = (place, score);
        }
    }
    best.0
}
