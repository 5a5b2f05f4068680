//! The methods that are compared. All see the same tokens, features and tasks.

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

/// A network with its tokens and features of all pictures.
pub(crate) struct Arena {
    pub(crate) backbone: Backbone,
    pub(crate) prepared: Prepared,
}

/// Everything that a method may look at.
pub(crate) struct World<'a> {
    /// Names of all classes, by label.
    pub(crate) names: &'a [String],
    /// The base's own split, prefix and suffix.
    pub(crate) arena: &'a Arena,
    /// The prior of the base.
    pub(crate) prior: Option<&'a Prior>,
    /// The shared bases of the base; what they have learned is part of the network here.
    pub(crate) bases: Option<&'a Adapter>,
    /// The same network adapted from its first block on; only where a method asks for it.
    pub(crate) whole: Option<&'a Arena>,
    pub(crate) settings: &'a Settings,
    /// Seed of this run, for everything drawn.
    pub(crate) seed: u64,
    /// Called after each step of a training.
    pub(crate) on_step: &'a dyn Fn(),
    /// Told what was decided, for whoever wants to know.
    pub(crate) say: &'a dyn Fn(&str),
}

/// What learning a task took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Learned {
    /// Rank of the task's update; 0 if nothing in the network changed.
    pub(crate) rank: usize,
    /// `H` of the task, where it is measured.
    pub(crate) complexity: Option<f64>,
    /// Whether the update was kept, where that is asked.
    pub(crate) kept: Option<bool>,
    /// Numbers trained by gradient descent.
    pub(crate) n_trained: usize,
    /// Bytes that the task adds to what is stored.
    pub(crate) n_bytes: usize,
}

/// Accuracy that a method expects of itself, in [0, 1].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// On pictures like the training pictures.
    pub(crate) alike: f64,
    /// On another day.
    pub(crate) another_day: f64,
}

/// A way to learn tasks one after the other.
pub(crate) trait Method {
    /// Learns a task from its training pictures.
    fn learn(&mut self, world: &World<'_>, task: &TaskRows) -> Result<Learned>;

    /// Labels of all classes learned so far.
    fn labels(&self, world: &World<'_>) -> Result<Vec<usize>>;

    /// Scores of some test pictures, one a class, in the order of [`Method::labels`].
    fn scores(&mut self, world: &World<'_>, rows: &[usize]) -> Result<Vec<Vec<f32>>>;

    /// Labels for some test pictures, among all classes learned so far.
    fn predict(&mut self, world: &World<'_>, rows: &[usize]) -> Result<Vec<usize>> {
        let labels = self.labels(world)?;
        let scores = self.scores(world, rows)?;
        Ok(scores.into_iter().map(|scores| labels[best(scores)]).collect())
    }

    /// Answers to some test pictures with the method's own confidence; `None` if it has none.
    fn answers(&mut self, _: &World<'_>, _: &[usize]) -> Result<Option<Vec<Answer>>> {
        Ok(None)
    }

    /// Accuracy that the method itself expects; `None` if it expects nothing.
    fn expected(&self) -> Option<Expected> {
        None
    }

    /// Bytes stored besides the network.
    fn n_bytes(&self) -> usize;

    /// Whether it learns everything at once, as if there were no tasks.
    fn at_once(&self) -> bool {
        false
    }
}

/// The names that `--methods` takes, in the order in which they run.
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

/// Whether a method adapts the network from its first block on.
pub(crate) fn needs_whole(name: &str) -> bool {
    name == "fm-lora-paper"
}

/// Makes a method that has learnt nothing yet.
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

/// The place of the highest of some scores.
fn best(scores: impl IntoIterator<Item = f32>) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (place, score) in scores.into_iter().enumerate() {
        if score > best.1 {
            best = (place, score);
        }
    }
    best.0
}
