//! Task 1: the shared bases, trained as plain LoRA of the largest rank and then made orthonormal.
//!
//! The same function serves a workstation that trains factory bases on a broad task and a benchmark that
//! begins with whatever task comes first. A device never calls it.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use fmlora_models::{Backbone, Place, SideBranch, SideBranches, VitConfig};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

use super::{
    Built, Examples, Leaves, ParameterId, Parameters, TrainError, TrainedHead, TrainingConfig,
    TrainingHead, Watcher, train,
};
use crate::adapter::orthonormalise;
use crate::{Adapter, AdapterConfig, Matrix, SharedBases};

/// Learning rate of the local head, as a factor.
pub(crate) const HEAD_RATE: f64 = 1.0;

/// Pictures that the inputs of adapted layers are measured on.
const MEASURED: usize = 512;

/// Pictures of one pass without gradients.
const PASS: usize = 32;

/// Plain LoRA in one layer: `down` `[d_in, r]`, `up` `[r, d_out]`.
#[derive(Debug, Clone, Copy)]
pub struct LoraPair {
    /// From the layer's input.
    pub down: ParameterId,
    /// To the layer's output; zero at the start.
    pub up: ParameterId,
}

/// Bases that a first task gave.
#[derive(Debug)]
pub struct TrainedBases {
    /// Bases, and the task's own update in them.
    pub adapter: Adapter,
    /// Mean cross-entropy of each epoch, in nats.
    pub losses: Vec<f64>,
    /// Numbers that were trained.
    pub n_trained: usize,
}

/// Adds plain LoRA for every place: random orthonormal `down`, zero `up`.
pub fn add_lora(
    parameters: &mut Parameters,
    places: &[Place],
    rank: usize,
    vit: &VitConfig,
    seed: u64,
    device: &Device,
) -> BTreeMap<Place, LoraPair> {
    let mut rng = StdRng::seed_from_u64(seed);
    let pair = |&place: &Place| {
        let down = random_orthonormal(place.site.d_in(vit), rank, &mut rng).to_tensor(device);
        let up = Tensor::zeros([rank, place.site.d_out(vit)], device);
        (place, LoraPair { down: parameters.add(down, 1.0), up: parameters.add(up, 1.0) })
    };
    places.iter().map(pair).collect()
}

/// Adds a linear head that starts at zero.
pub fn add_head(
    parameters: &mut Parameters,
    d_feature: usize,
    n_classes: usize,
    device: &Device,
) -> TrainedHead {
    let weights = parameters.add(Tensor::zeros([d_feature, n_classes], device), HEAD_RATE);
    let biases = parameters.add(Tensor::zeros([1, n_classes], device), HEAD_RATE);
    TrainedHead { weights, biases }
}

/// The branches of plain LoRA.
pub fn lora_branches(leaves: &Leaves, pairs: &BTreeMap<Place, LoraPair>) -> SideBranches {
    let branch = |(&place, pair): (&Place, &LoraPair)| {
        let (down, up) = (leaves.get(pair.down), leaves.get(pair.up));
        let core = Tensor::eye(down.dims()[1], &down.device());
        (place, SideBranch { down, core, up })
    };
    SideBranches { branches: pairs.iter().map(branch).collect(), prompt: None }
}

/// Trains shared bases and prompt on a task: `A = 0`, `B` random orthonormal, `M = N = I`, that is LoRA of
/// rank `r`; then the update's singular vectors become `A` and `B` and its singular values `S`.
///
/// # Errors
///
/// [`TrainError`].
pub fn train_bases(
    backbone: &Backbone,
    examples: &Examples<'_>,
    n_classes: usize,
    config: &AdapterConfig,
    training: &TrainingConfig,
    watch: Watcher<'_>,
) -> Result<TrainedBases, TrainError> {
    let (vit, device) = (backbone.vit_config(), backbone.device());
    let places = config.places(backbone.config().first_adapted_block, vit);
    let mut parameters = Parameters::new(training.weight_decay);
    let pairs = add_lora(&mut parameters, &places, config.rank, vit, training.seed, device);
    let prompt = (config.n_prompt_tokens > 0).then(|| {
        let start = initial_prompt(config.n_prompt_tokens, vit, training.seed);
        parameters.add(start.to_tensor(device), 1.0)
    });
    let n_trained = parameters.n_numbers();
    let head = add_head(&mut parameters, backbone.d_feature(), n_classes, device);
    let mut build = |leaves: &Leaves, _: f64| {
        let mut branches = lora_branches(leaves, &pairs);
        branches.prompt = prompt.map(|p| leaves.get(p));
        Built { branches, penalty: None }
    };
    let losses = train(
        backbone,
        examples,
        &mut parameters,
        &TrainingHead::Trained(head),
        training,
        &mut build,
        watch,
    )?;
    let value =
        |id: ParameterId| Matrix::from_tensor(parameters.value(id)).map_err(TrainError::Device);
    let mut learnt = SideBranches::default();
    for (&place, pair) in &pairs {
        let (down, up) = (parameters.value(pair.down), parameters.value(pair.up));
        learnt
            .branches
            .insert(place, SideBranch { down, core: Tensor::eye(config.rank, device), up });
    }
    learnt.prompt = prompt.map(|p| parameters.value(p));
    let grams = input_grams(backbone, examples, &learnt)?;
    let (mut by_place, mut merged) = (BTreeMap::new(), BTreeMap::new());
    for (&place, pair) in &pairs {
        let found = orthonormalise(&value(pair.down)?, &value(pair.up)?, &grams[&place]);
        let (basis, state) = found.ok_or(TrainError::Diverged { step: 0, loss: f64::NAN })?;
        by_place.insert(place, basis);
        merged.insert(place, state);
    }
    let prompt = prompt.map(value).transpose()?;
    let mut adapter = Adapter::new(Arc::new(SharedBases::new(config.rank, by_place)), prompt);
    adapter.state.merged = merged;
    let grams = input_grams(backbone, examples, &adapter.side_branches(device))?;
    adapter.remember(&grams, examples.len() as u64);
    let adapter = adapter.rounded().map_err(|e| TrainError::Device(e.to_string()))?;
    Ok(TrainedBases { adapter, losses, n_trained })
}

/// Mean of `z z^T`, `z = down^T x`, over the inputs `x` of each adapted layer: `[r, r]`.
pub(crate) fn input_grams(
    backbone: &Backbone,
    examples: &Examples<'_>,
    branches: &SideBranches,
) -> Result<BTreeMap<Place, Matrix>, TrainError> {
    let mut sums: BTreeMap<Place, (Tensor<2>, usize)> = BTreeMap::new();
    let step = (examples.len() / MEASURED).max(1);
    let measured: Vec<usize> = (0..examples.len()).step_by(step).collect();
    for batch in measured.chunks(PASS) {
        let tokens = examples.tokens.batch(&examples.rows(batch), backbone.device());
        let mut observe = |place: Place, inner: Tensor<2>| {
            let rows = inner.dims()[0];
            let gram = inner.clone().transpose().matmul(inner);
            let sum = match sums.remove(&place) {
                Some((sum, n)) => (sum + gram, n + rows),
                None => (gram, rows),
            };
            sums.insert(place, sum);
        };
        let _ = backbone.suffix_with(tokens, branches, Some(&mut observe));
    }
    let mean = |(place, (sum, n)): (Place, (Tensor<2>, usize))| {
        let matrix = Matrix::from_tensor(sum.div_scalar(n as f32)).map_err(TrainError::Device)?;
        Ok((place, matrix))
    };
    sums.into_iter().map(mean).collect()
}

/// `n` orthonormal columns of `d` numbers.
fn random_orthonormal(d: usize, n: usize, rng: &mut StdRng) -> Matrix {
    let normal: Vec<f64> = (0..d * n).map(|_| StandardNormal.sample(rng)).collect();
    let random = faer::Mat::from_fn(d, n, |i, j| normal[i * n + j]);
    Matrix::from_faer(random.qr().compute_thin_Q().as_ref())
}

/// Uniform in plus or minus `sqrt(6 / (3 p^2 + d))`, as VPT does (arXiv:2203.12119).
fn initial_prompt(m: usize, vit: &VitConfig, seed: u64) -> Matrix {
    // Another stream than the one that draws the bases.
    let mut rng = StdRng::seed_from_u64(seed ^ 0x0070_726f_6d70_7400);
    let (d, p) = (vit.d_model, vit.patch_size);
    let bound = (6.0 / (3 * p * p + d) as f32).sqrt();
    let values: Vec<f32> = (0..m * d).map(|_| rng.random_range(-bound..bound)).collect();
    Matrix::from_fn(m, d, |i, j| values[i * d + j])
}
