//! Settings that all trainings of the benchmark share.

use fmlora_learner::{AdaptationConfig, AdapterConfig, TaskConfig, TrainingConfig};
use fmlora_models::Site;

/// Sizes and budgets; the same for all methods that train.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Passes over the pictures of a task.
    pub(crate) epochs: usize,
    /// Passes over all pictures of `joint-lora`.
    pub(crate) joint_epochs: usize,
    /// Pictures per step.
    pub(crate) batch_size: usize,
    /// Learning rate at the start.
    pub(crate) learning_rate: f64,
    /// Rank of LoRA and of the shared bases.
    pub(crate) rank: usize,
    /// Adapted layers of each adapted block.
    pub(crate) sites: Vec<Site>,
    /// Prompt tokens, `m`.
    pub(crate) n_prompt_tokens: usize,
}

impl Settings {
    /// Returns the configuration of the training loop.
    pub(crate) fn training(&self, seed: u64) -> TrainingConfig {
        TrainingConfig {
            epochs: self.epochs,
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            seed,
            ..TrainingConfig::default()
        }
    }

    /// Returns the configuration of the adapted layers.
    pub(crate) fn layers(&self) -> AdapterConfig {
        AdapterConfig {
            rank: self.rank,
            sites: self.sites.clone(),
            n_prompt_tokens: self.n_prompt_tokens,
        }
    }

    /// Returns the configuration of a task of FM-LoRA.
    pub(crate) fn adaptation(&self, seed: u64) -> AdaptationConfig {
        let task = TaskConfig { training: self.training(seed), ..TaskConfig::default() };
        AdaptationConfig { task, ..AdaptationConfig::default() }
    }
}
