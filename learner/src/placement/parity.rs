//! Parity check of a device against the processor: features of fixed pictures, and a short
//! training.

use std::ops::ControlFlow;

use fmlora_models::{Backbone, Precision};
use thiserror::Error;

use crate::trainer::{add_head, add_lora, lora_branches, train};
use crate::{
    AdapterConfig, Built, Examples, ExamplesError, Leaves, Parameters, TokenCache, TrainError,
    TrainingConfig, TrainingHead,
};

/// Largest accepted difference in f32: another device sums in another order.
pub const PARITY_TOLERANCE: f64 = 2e-3;

/// Largest accepted difference of features with products in f16, which has 11 significant bits
/// where f32 has 24 (2.3e-3 were found with the embedded base).
pub const HALF_TOLERANCE: f64 = 1e-2;

/// Steps of the training: the head changes at the first, the network at the second, and the third
/// shows the effect.
const STEPS: usize = 3;

/// Differences between a device and the processor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parity {
    /// Largest difference of a number of a feature, as a share of the root mean square of the
    /// processor's features.
    pub forward: f64,
    /// Largest difference of the loss before, between and after two steps, as a share of the
    /// processor's.
    pub training: f64,
}

/// Reason why a device must not be used.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ParityError {
    /// The results differ from those of the processor.
    #[error(
        "its {what} differ from the processor's by {found:.1e} where {allowed:.0e} are allowed"
    )]
    Differs {
        /// Features or losses.
        what: &'static str,
        /// The difference, as in [`Parity`].
        found: f64,
        /// The largest accepted difference.
        allowed: f64,
    },
    /// The results are not finite numbers.
    #[error("its {what} are no numbers")]
    NotFinite {
        /// Features or losses.
        what: &'static str,
    },
    /// The device failed.
    #[error("it failed: {0}")]
    Failed(String),
}

/// Compares a network on a device with the same network on the processor, on `batch` fixed
/// pictures.
///
/// # Errors
///
/// [`ParityError`] if the device must not be used.
pub fn check_parity(
    cpu: &Backbone,
    device: &Backbone,
    batch: usize,
) -> Result<Parity, ParityError> {
    let batch = batch.max(2);
    let pixels = pictures(batch * cpu.n_pixels());
    let expected = cpu.features(pixels.clone()).map_err(ParityError::Failed)?.concat();
    let found = device.features(pixels.clone()).map_err(ParityError::Failed)?.concat();
    let squares: f64 = expected.iter().map(|&v| f64::from(v).powi(2)).sum();
    let scale = (squares / expected.len() as f64).sqrt().max(f64::MIN_POSITIVE);
    let allowed = match device.precision() {
        Precision::F32 => PARITY_TOLERANCE,
        Precision::F16 => HALF_TOLERANCE,
    };
    let forward = largest("features", [&numbers(&expected), &numbers(&found)], scale, allowed)?;

    let vit = cpu.vit_config();
    let mut tokens = TokenCache::new(vit.n_tokens(), vit.d_model);
    let data = cpu.tokens(pixels).try_into_data().map_err(|e| failed(&e))?;
    let made = data.try_into_vec::<f32>().map_err(|e| failed(&e))?;
    tokens.push(&made).map_err(|e: ExamplesError| failed(&e))?;
    let losses = |backbone| losses(backbone, &tokens).map_err(|e: TrainError| failed(&e));
    let expected = losses(cpu)?;
    let found = losses(device)?;
    let scale = expected[0].max(f64::MIN_POSITIVE);
    let training = largest("losses", [&expected, &found], scale, PARITY_TOLERANCE)?;
    Ok(Parity { forward, training })
}

fn failed(error: &dyn std::fmt::Display) -> ParityError {
    ParityError::Failed(error.to_string())
}

fn numbers(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// Returns waves of all lengths, about as strong as normalised pictures.
fn pictures(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.37).sin() + (i as f32 * 0.011).cos()).collect()
}

fn largest(
    what: &'static str,
    [expected, found]: [&[f64]; 2],
    scale: f64,
    allowed: f64,
) -> Result<f64, ParityError> {
    if found.len() != expected.len() || found.iter().any(|v| !v.is_finite()) {
        return Err(ParityError::NotFinite { what });
    }
    let differences = expected.iter().zip(found).map(|(a, b)| (a - b).abs() / scale);
    let found = differences.fold(0.0, f64::max);
    if found > allowed { Err(ParityError::Differs { what, found, allowed }) } else { Ok(found) }
}

/// Returns the losses of a training of plain LoRA and a head that separates even pictures from odd
/// ones.
fn losses(backbone: &Backbone, tokens: &TokenCache) -> Result<Vec<f64>, TrainError> {
    let rows: Vec<usize> = (0..tokens.len()).collect();
    let labels: Vec<usize> = rows.iter().map(|row| row % 2).collect();
    let examples =
        Examples::new(tokens, &rows, &labels).map_err(|e| TrainError::Device(e.to_string()))?;
    let vit = backbone.vit_config();
    let device = backbone.device();
    let layers = AdapterConfig { rank: 4, ..AdapterConfig::default() };
    let places = layers.places(backbone.config().first_adapted_block, vit);
    let mut parameters = Parameters::new(0.0);
    let pairs = add_lora(&mut parameters, &places, layers.rank, vit, 0, device);
    let head = add_head(&mut parameters, backbone.d_feature(), 2, device);
    let config = TrainingConfig {
        epochs: STEPS,
        batch_size: rows.len(),
        patience: None,
        ..TrainingConfig::default()
    };
    let mut build = |leaves: &Leaves, _: f64| {
        let branches = lora_branches(leaves, &pairs);
        Built { branches, penalty: None }
    };
    let mut watch = |_| ControlFlow::Continue(());
    let head = TrainingHead::Trained(head);
    train(backbone, &examples, &mut parameters, &head, &config, &mut build, &mut watch)
}
