//! Training loop for side branches on cached tokens. All trainings use it.
//!
//! The caller chooses the parameters and builds [`SideBranches`] from them. The loop draws
//! mini-batches, follows the cosine schedule, clips the gradient by its global norm and steps
//! AdamW. It has no clock. The [`Watcher`] may stop it after any step, for a time budget or on
//! request, and the parameters of that step remain.
//!
//! On the CPU the same seed gives the same numbers.

mod cosine_head;
mod examples;
mod parameters;
mod shared_bases;
mod task;

use std::ops::ControlFlow;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use fmlora_models::{Backbone, SideBranches};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use thiserror::Error;

use crate::rank_selector::SOFT_SHARE;

pub use cosine_head::{ClassMeans, CosineHead};
pub use examples::{Examples, ExamplesError, FeaturePull, TokenCache};
pub use parameters::{Leaves, ParameterId, Parameters};
pub use shared_bases::{
    LoraPair, TrainedBases, add_head, add_lora, class_means, extend_bases, lora_branches,
    train_bases,
};
pub use task::{Objective, TaskConfig, TaskHead, TrainedTask, train_task};

/// Configuration of the training loop.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingConfig {
    /// Passes over the examples.
    pub epochs: usize,
    /// Examples in a step.
    pub batch_size: usize,
    /// Initial learning rate. It falls to 0 along a cosine (arXiv:1608.03983, without restarts).
    pub learning_rate: f64,
    /// Limit of the global gradient norm (gradient clipping).
    pub max_gradient_norm: f64,
    /// Decoupled weight decay (arXiv:1711.05101).
    pub weight_decay: f64,
    /// Early stopping: the training ends after this many epochs in which the mean loss does not
    /// fall by half a percent, but not in the first two thirds of its steps. `None` runs all
    /// epochs.
    pub patience: Option<usize>,
    /// Share of the target that is spread evenly over all classes (label smoothing,
    /// arXiv:1512.00567).
    pub label_smoothing: f64,
    /// Share of a picture's patches in a step, drawn at random for each step: half of the patches
    /// cost half the time, and each step has another view (patch dropout, arXiv:2208.07220).
    pub patch_share: f64,
    /// Seed of the order of examples and of their patches.
    pub seed: u64,
}

/// Smallest relative fall of the mean loss that counts as progress.
const LEAST_FALL: f64 = 0.005;

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch_size: 32,
            learning_rate: 1e-3,
            max_gradient_norm: 1.0,
            weight_decay: 0.0,
            patience: Some(2),
            label_smoothing: 0.0,
            patch_share: 1.0,
            seed: 0,
        }
    }
}

/// Progress of a training after a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Number of the step, counted from 1.
    pub step: usize,
    /// Total number of steps.
    pub of: usize,
    /// Cross-entropy of the batch before the step, in nats.
    pub loss: f64,
}

/// Side branches and penalty of one step.
#[derive(Debug, Default)]
pub struct Built {
    /// Branches made of the leaves.
    pub branches: SideBranches,
    /// Terms that are added to the loss: `[1]`.
    pub penalty: Option<Tensor<1>>,
}

/// A linear head that is trained together with the branches.
#[derive(Debug, Clone, Copy)]
pub struct TrainedHead {
    /// Id of the weights, `[d_feature, classes]`.
    pub weights: ParameterId,
    /// Id of the biases, `[1, classes]`.
    pub biases: ParameterId,
}

/// A linear head with constant weights.
#[derive(Debug, Clone)]
pub struct FixedHead {
    /// `[d_feature, classes]`
    pub weights: Tensor<2>,
    /// `[1, classes]`
    pub biases: Tensor<2>,
}

/// Classifier head of a training.
#[derive(Debug, Clone)]
pub enum TrainingHead {
    /// Linear head, trained together with the branches.
    Trained(TrainedHead),
    /// Constant linear head: only the features can adapt to it.
    Fixed(Box<FixedHead>),
    /// Cosine head, trained together with the branches.
    Cosine(Box<CosineHead>),
}

impl TrainingHead {
    fn logits(&self, features: Tensor<2>, leaves: &Leaves) -> Tensor<2> {
        match self {
            Self::Trained(head) => {
                features.matmul(leaves.get(head.weights)) + leaves.get(head.biases)
            }
            Self::Fixed(head) => features.matmul(head.weights.clone()) + head.biases.clone(),
            Self::Cosine(head) => head.logits(features, leaves),
        }
    }
}

/// Error of a training that ended without a result.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum TrainError {
    /// The watcher stopped the training.
    #[error("stopped after {steps} steps")]
    Stopped {
        /// Completed steps.
        steps: usize,
    },
    /// The loss became NaN or infinite.
    #[error("the loss became {loss} at step {step}: lower the learning rate")]
    Diverged {
        /// The step.
        step: usize,
        /// The loss.
        loss: f64,
    },
    /// There are no examples.
    #[error("no examples to train on")]
    NoExamples,
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(String),
}

/// Callback after each step. [`ControlFlow::Break`] stops the training.
pub type Watcher<'a> = &'a mut dyn FnMut(Step) -> ControlFlow<()>;

/// Trains `parameters` on `examples` and returns the mean loss of each epoch.
///
/// Returns fewer losses than epochs if the training ended early.
///
/// `build` makes the branches of a step from the leaves. Its second argument is the share of steps
/// already made, in [0, 1).
///
/// # Errors
///
/// [`TrainError`]. The parameters keep the values of the last step.
pub fn train(
    backbone: &Backbone,
    examples: &Examples<'_>,
    parameters: &mut Parameters,
    head: &TrainingHead,
    config: &TrainingConfig,
    build: &mut dyn FnMut(&Leaves, f64) -> Built,
    watch: Watcher<'_>,
) -> Result<Vec<f64>, TrainError> {
    let n = examples.len();
    if n == 0 {
        return Err(TrainError::NoExamples);
    }
    let mut rng = StdRng::seed_from_u64(config.seed);
    let mut order: Vec<usize> = (0..n).collect();
    let batch_size = config.batch_size.clamp(1, n);
    let a_epoch = n.div_ceil(batch_size);
    let steps = config.epochs * a_epoch;
    let mut losses = Vec::with_capacity(config.epochs);
    let mut step = 0;
    for _ in 0..config.epochs {
        order.shuffle(&mut rng);
        let mut sum = 0.0;
        for batch in order.chunks(batch_size) {
            let progress = step as f64 / steps as f64;
            let leaves = parameters.leaves();
            let step_model = build(&leaves, progress);
            let tokens = step_tokens(backbone, examples, batch, config, &mut rng);
            let features = backbone.suffix_with(tokens, &step_model.branches, None);
            let pulled = examples.pull(batch, &features);
            let logits = head.logits(features, &leaves);
            let labels = examples.labels_of(batch);
            let loss = cross_entropy(logits, &labels, config.label_smoothing);
            let penalties = [step_model.penalty, pulled].into_iter().flatten();
            let total = penalties.fold(loss.clone(), |sum, penalty| sum + penalty);
            let loss = f64::from(scalar(loss)?);
            step += 1;
            if !loss.is_finite() {
                return Err(TrainError::Diverged { step, loss });
            }
            let rate = config.learning_rate * cosine(progress);
            parameters.step(&leaves, &total.backward(), rate, config)?;
            sum += loss * batch.len() as f64;
            if watch(Step { step, of: steps, loss }).is_break() {
                return Err(TrainError::Stopped { steps: step });
            }
        }
        losses.push(sum / n as f64);
        // Not before the rank mask of a task is hard: the trained network must be the stored one.
        let may_end = step as f64 >= SOFT_SHARE * steps as f64;
        if may_end && config.patience.is_some_and(|patience| stalled(&losses, patience)) {
            break;
        }
    }
    Ok(losses)
}

/// Returns the tokens of a batch, with `patch_share` of the patches of each picture.
fn step_tokens(
    backbone: &Backbone,
    examples: &Examples<'_>,
    batch: &[usize],
    config: &TrainingConfig,
    rng: &mut StdRng,
) -> Tensor<3> {
    let rows = examples.rows(batch);
    let device = backbone.device();
    if config.patch_share >= 1.0 {
        return examples.tokens.batch(&rows, device);
    }
    let vit = backbone.vit_config();
    let n_patches = (config.patch_share * vit.n_patches() as f64).round().max(1.0) as usize;
    examples.tokens.batch_of_patches(&rows, vit.n_prefix_tokens(), n_patches, rng, device)
}

/// Returns true if none of the last `patience` epochs lowered the mean loss by half a percent.
fn stalled(losses: &[f64], patience: usize) -> bool {
    let Some(start) = losses.len().checked_sub(patience + 1) else { return false };
    let before = losses[..=start].iter().copied().fold(f64::INFINITY, f64::min);
    losses[start + 1..].iter().all(|&loss| loss > (1.0 - LEAST_FALL) * before)
}

/// Cosine schedule: falls from 1 at the start to 0 at the end.
fn cosine(progress: f64) -> f64 {
    0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

/// Computes the mean cross-entropy against smoothed labels, in nats: `[1]`.
///
/// # Shapes
///
/// - `logits`: `[batch, classes]`
fn cross_entropy(logits: Tensor<2>, labels: &[usize], smoothing: f64) -> Tensor<1> {
    let n = labels.len();
    let device = logits.device();
    let labels: Vec<i32> = labels.iter().map(|&l| l as i32).collect();
    let index = Tensor::<2, Int>::from_data(TensorData::new(labels, [n, 1]), &device);
    let log_shares = log_softmax(logits, 1);
    let own = log_shares.clone().gather(1, index).mean().neg();
    if smoothing <= 0.0 {
        return own;
    }
    own.mul_scalar(1.0 - smoothing) + log_shares.mean().neg().mul_scalar(smoothing)
}

fn scalar(tensor: Tensor<1>) -> Result<f32, TrainError> {
    tensor.inner().try_into_scalar::<f32>().map_err(|e| TrainError::Device(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_ends_early_only_when_nothing_is_won_any_more() {
        assert!(!stalled(&[1.0, 1.0], 2), "one epoch without a gain is no reason yet");
        assert!(stalled(&[1.0, 1.0, 1.0], 2));
        assert!(stalled(&[2.0, 1.0, 0.999, 1.1], 2));
        assert!(!stalled(&[2.0, 1.0, 0.999, 0.9], 2));
        assert!(!stalled(&[], 2));
    }
}
