//! Training of side branches on cached tokens: one loop for everything that is trained anywhere.
//!
//! What is trained, and how it becomes [`SideBranches`], is the caller's: the loop draws mini-batches,
//! follows the cosine schedule, clips the gradient by its global norm and steps AdamW. It has no clock; who
//! watches it may stop it after any step, for a time budget or because someone asked, and nothing is lost.
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

/// How the loop goes.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingConfig {
    /// Passes over the examples.
    pub epochs: usize,
    /// Examples of a step.
    pub batch_size: usize,
    /// Learning rate at the start; it falls to 0 along a cosine (arXiv:1608.03983, without restarts).
    pub learning_rate: f64,
    /// Largest norm of all gradients together.
    pub max_gradient_norm: f64,
    /// Decoupled weight decay (arXiv:1711.05101).
    pub weight_decay: f64,
    /// Epochs in which the mean loss does not fall by half a percent after which the training ends, once two
    /// thirds of it are done; `None` makes all epochs.
    pub patience: Option<usize>,
    /// Share of the target that goes to all classes alike (label smoothing, arXiv:1512.00567).
    pub label_smoothing: f64,
    /// Share of the patches of a picture that a step sees, drawn anew each time: half of them cost half the time, and
    /// make every step another view (patch dropout, arXiv:2208.07220).
    pub patch_share: f64,
    /// Seed of the order of examples and of their patches.
    pub seed: u64,
}

/// Share of the mean loss that an epoch must win to count as progress.
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

/// One step that was made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Counted from 1.
    pub step: usize,
    /// Steps in all.
    pub of: usize,
    /// Cross-entropy of the batch before the step, in nats.
    pub loss: f64,
}

/// What one step computes with: the branches and what is added to the loss.
#[derive(Debug, Default)]
pub struct Built {
    /// Branches made of the leaves.
    pub branches: SideBranches,
    /// Further terms of the loss: `[1]`.
    pub penalty: Option<Tensor<1>>,
}

/// The linear head that is trained along: `[d_feature, classes]` and `[1, classes]`.
#[derive(Debug, Clone, Copy)]
pub struct TrainedHead {
    /// Its weights among the parameters.
    pub weights: ParameterId,
    /// Its biases among the parameters.
    pub biases: ParameterId,
}

/// A linear head that stays as it is.
#[derive(Debug, Clone)]
pub struct FixedHead {
    /// `[d_feature, classes]`
    pub weights: Tensor<2>,
    /// `[1, classes]`
    pub biases: Tensor<2>,
}

/// What tells the classes apart during a training.
#[derive(Debug, Clone)]
pub enum TrainingHead {
    /// Learns along.
    Trained(TrainedHead),
    /// Is a constant: only the features can follow it.
    Fixed(Box<FixedHead>),
    /// Learns along, by angles.
    Cosine(CosineHead),
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

/// Why a training ended without a result.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum TrainError {
    /// The watcher stopped it.
    #[error("stopped after {steps} steps")]
    Stopped {
        /// Steps that had been made.
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
    /// There is nothing to train on.
    #[error("no examples to train on")]
    NoExamples,
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(String),
}

/// Told of each step; may stop the training.
pub type Watcher<'a> = &'a mut dyn FnMut(Step) -> ControlFlow<()>;

/// Trains `parameters` on `examples` and gives the mean loss of each epoch.
///
/// Fewer losses than epochs come back when the training ended early.
///
/// `build` makes the branches of a step from the leaves; it is told the share of steps already made, in
/// [0, 1).
///
/// # Errors
///
/// [`TrainError`]; the parameters are then as the last step left them.
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
        // Not before a task's rank mask has become hard: training ends with what will be stored.
        let may_end = step as f64 >= SOFT_SHARE * steps as f64;
        if may_end && config.patience.is_some_and(|patience| stalled(&losses, patience)) {
            break;
        }
    }
    Ok(losses)
}

/// Tokens of a batch, with the share of its patches that a step sees.
fn step_tokens(
    backbone: &Backbone,
    examples: &Examples<'_>,
    batch: &[usize],
    config: &TrainingConfig,
    rng: &mut StdRng,
) -> Tensor<3> {
    let (rows, device) = (examples.rows(batch), backbone.device());
    if config.patch_share >= 1.0 {
        return examples.tokens.batch(&rows, device);
    }
    let vit = backbone.vit_config();
    let n_patches = (config.patch_share * vit.n_patches() as f64).round().max(1.0) as usize;
    examples.tokens.batch_of_patches(&rows, vit.n_prefix_tokens(), n_patches, rng, device)
}

/// Whether the last `patience` epochs brought nothing.
fn stalled(losses: &[f64], patience: usize) -> bool {
    let Some(start) = losses.len().checked_sub(patience + 1) else { return false };
    let before = losses[..=start].iter().copied().fold(f64::INFINITY, f64::min);
    losses[start + 1..].iter().all(|&loss| loss > (1.0 - LEAST_FALL) * before)
}

/// From 1 at the start to 0 at the end.
fn cosine(progress: f64) -> f64 {
    0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

/// Mean cross-entropy against smoothed labels, in nats: `[1]`.
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
