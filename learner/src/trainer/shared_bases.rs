//! Task 1: trains the shared bases as plain LoRA of the largest rank, then makes them orthonormal.
//!
//! A workstation uses it to train factory bases on a broad task, a benchmark for the first task of
//! its stream. A device never calls it.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use fmlora_models::{Backbone, Place, SideBranch, SideBranches, VitConfig};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

use super::{
    Built, ClassMeans, Examples, Leaves, ParameterId, Parameters, TaskHead, TrainError,
    TrainedHead, TrainingConfig, Watcher, train,
};
use crate::adapter::orthonormalise;
use crate::{Adapter, AdapterConfig, Matrix, SharedBases, SharedBasis};

/// Factor on the learning rate for the linear head.
pub(crate) const HEAD_RATE: f64 = 1.0;

/// Pictures sampled for the Gram matrices of the layers' inputs: at least this number if available,
/// and less than twice as many.
const MEASURED: usize = 512;

/// Most examples of a class in its initial mean.
const MEASURED_A_CLASS: usize = 4;

/// Batch size of a forward pass without gradients, in pictures.
const PASS: usize = 32;

/// Plain LoRA in one layer: `down` `[d_in, r]`, `up` `[r, d_out]`.
#[derive(Debug, Clone, Copy)]
pub struct LoraPair {
    /// Id of the matrix from the layer's input to the `r` directions.
    pub down: ParameterId,
    /// Id of the matrix from these to the layer's output; zero at the start.
    pub up: ParameterId,
}

/// Result of the training of shared bases.
#[derive(Debug)]
pub struct TrainedBases {
    /// Bases, with the task's own update as merged state.
    pub adapter: Adapter,
    /// Mean cross-entropy of each epoch, in nats.
    pub losses: Vec<f64>,
    /// Number of trained parameters, without the head's.
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

/// Builds the side branches of plain LoRA, with the unit matrix between `down` and `up`.
pub fn lora_branches(leaves: &Leaves, pairs: &BTreeMap<Place, LoraPair>) -> SideBranches {
    let branch = |(&place, pair): (&Place, &LoraPair)| {
        let (down, up) = (leaves.get(pair.down), leaves.get(pair.up));
        let core = Tensor::eye(down.dims()[1], &down.device());
        (place, SideBranch { down, core, up })
    };
    SideBranches { branches: pairs.iter().map(branch).collect(), prompt: None }
}

/// Trains shared bases and prompt on a task.
///
/// The training starts from `A = 0`, `B` random orthonormal, `M = N = I`, that is LoRA of rank `r`.
/// Then the learned update is factored into orthonormal `A` and `B` and the merged state `S`.
///
/// # Errors
///
/// [`TrainError`].
pub fn train_bases(
    backbone: &Backbone,
    examples: &Examples<'_>,
    head: TaskHead,
    config: &AdapterConfig,
    training: &TrainingConfig,
    watch: Watcher<'_>,
) -> Result<TrainedBases, TrainError> {
    let vit = backbone.vit_config();
    let places = config.places(backbone.config().first_adapted_block, vit);
    let prompt = match config.n_prompt_tokens {
        0 => Prompt::None,
        m => Prompt::Learns(initial_prompt(m, vit, training.seed)),
    };
    let start = LoraStart { places: &places, rank: config.rank, prompt };
    let lora = train_lora(backbone, examples, head, start, training, watch)?;
    let found = lora.orthonormalised(backbone, examples)?;
    let bases = found.iter().map(|(&place, (basis, _))| (place, basis.clone())).collect();
    let merged = found.into_iter().map(|(place, (_, state))| (place, state)).collect();
    let prompt =
        lora.branches.prompt.map(Matrix::from_tensor).transpose().map_err(TrainError::Device)?;
    let mut adapter = Adapter::new(Arc::new(SharedBases::new(config.rank, bases)), prompt);
    adapter.state.merged = merged;
    let adapter = with_measured_inputs(backbone, examples, adapter)?;
    Ok(TrainedBases { adapter, losses: lora.losses, n_trained: lora.n_trained })
}

/// Extends shared bases with new directions, to `rank` in all.
///
/// Trains LoRA of rank `rank` on top of the present adapter and makes its leading directions
/// orthogonal to the old ones. The merged state is zero in the new directions, so the features stay
/// the same, and so does everything computed from them.
///
/// # Errors
///
/// [`TrainError`].
pub fn extend_bases(
    backbone: &Backbone,
    examples: &Examples<'_>,
    head: TaskHead,
    adapter: &Adapter,
    rank: usize,
    training: &TrainingConfig,
    watch: Watcher<'_>,
) -> Result<TrainedBases, TrainError> {
    let learnt = backbone.folded(&adapter.side_branches(backbone.device()));
    let places: Vec<Place> = adapter.bases().by_place().keys().copied().collect();
    let prompt = adapter.prompt().cloned().map_or(Prompt::None, Prompt::Stays);
    let start = LoraStart { places: &places, rank, prompt };
    let lora = train_lora(&learnt, examples, head, start, training, watch)?;
    let found = lora.orthonormalised(&learnt, examples)?;
    let more = found.into_iter().map(|(place, (basis, _))| (place, basis)).collect();
    let bases = adapter.bases().extended(&more, rank);
    let mut extended = Adapter::new(Arc::new(bases), adapter.prompt().cloned());
    for (place, state) in &mut extended.state.merged {
        let before = &adapter.state.merged[place];
        let [r, _] = before.shape();
        let at = |i: usize, j: usize| if i.max(j) < r { before.at(i, j) } else { 0.0 };
        *state = Matrix::from_fn(rank, rank, at);
    }
    let adapter = with_measured_inputs(backbone, examples, extended)?;
    Ok(TrainedBases { adapter, losses: lora.losses, n_trained: lora.n_trained })
}

/// Prompt during the training of LoRA: none, trained from initial tokens, or constant.
enum Prompt {
    None,
    Learns(Matrix),
    Stays(Matrix),
}

/// Layers, rank and prompt at the start of a LoRA training.
struct LoraStart<'a> {
    places: &'a [Place],
    rank: usize,
    prompt: Prompt,
}

/// Trained LoRA: a branch for each layer, with the unit matrix between `down` and `up`.
struct TrainedLora {
    branches: SideBranches,
    losses: Vec<f64>,
    n_trained: usize,
}

fn train_lora(
    backbone: &Backbone,
    examples: &Examples<'_>,
    head: TaskHead,
    start: LoraStart<'_>,
    training: &TrainingConfig,
    watch: Watcher<'_>,
) -> Result<TrainedLora, TrainError> {
    let vit = backbone.vit_config();
    let device = backbone.device();
    let LoraStart { places, rank, prompt } = start;
    let mut parameters = Parameters::new(training.weight_decay);
    let pairs = add_lora(&mut parameters, places, rank, vit, training.seed, device);
    let (learning, still) = match prompt {
        Prompt::None => (None, None),
        Prompt::Learns(start) => (Some(parameters.add(start.to_tensor(device), 1.0)), None),
        Prompt::Stays(prompt) => (None, Some(prompt.to_tensor(device))),
    };
    let n_trained = parameters.n_numbers();
    let head = head.add(&mut parameters, backbone.d_feature(), device);
    let mut build = |leaves: &Leaves, _: f64| {
        let mut branches = lora_branches(leaves, &pairs);
        branches.prompt = learning.map(|p| leaves.get(p)).or_else(|| still.clone());
        Built { branches, penalty: None }
    };
    let losses = train(backbone, examples, &mut parameters, &head, training, &mut build, watch)?;
    let branch = |(&place, pair): (&Place, &LoraPair)| {
        let (down, up) = (parameters.value(pair.down), parameters.value(pair.up));
        (place, SideBranch { down, core: Tensor::eye(rank, device), up })
    };
    let prompt = learning.map(|p| parameters.value(p)).or(still);
    let branches = SideBranches { branches: pairs.iter().map(branch).collect(), prompt };
    Ok(TrainedLora { branches, losses, n_trained })
}

impl TrainedLora {
    /// Computes the orthonormal basis of each layer, and the state `S` of the trained LoRA in it.
    fn orthonormalised(
        &self,
        backbone: &Backbone,
        examples: &Examples<'_>,
    ) -> Result<BTreeMap<Place, (SharedBasis, Matrix)>, TrainError> {
        let grams = input_grams(backbone, examples, &self.branches)?;
        let number =
            |tensor: &Tensor<2>| Matrix::from_tensor(tensor.clone()).map_err(TrainError::Device);
        let basis = |(&place, branch): (&Place, &SideBranch)| {
            let (down, up) = (number(&branch.down)?, number(&branch.up)?);
            let found = orthonormalise(&down, &up, &grams[&place])
                .ok_or(TrainError::Diverged { step: 0, loss: f64::NAN })?;
            Ok((place, found))
        };
        self.branches.branches.iter().map(basis).collect()
    }
}

/// Adds the Gram matrices of the layers' inputs to an adapter and rounds it to f16, as in files.
fn with_measured_inputs(
    backbone: &Backbone,
    examples: &Examples<'_>,
    mut adapter: Adapter,
) -> Result<Adapter, TrainError> {
    let branches = adapter.side_branches(backbone.device());
    let grams = input_grams(backbone, examples, &branches)?;
    adapter.remember(&grams, examples.len() as u64);
    adapter.rounded().map_err(|e| TrainError::Device(e.to_string()))
}

/// Computes the mean feature of the first examples of each class, with `backbone` as given.
///
/// # Errors
///
/// [`TrainError::Device`].
pub fn class_means(
    backbone: &Backbone,
    examples: &Examples<'_>,
    n_classes: usize,
) -> Result<ClassMeans, TrainError> {
    let mut taken = vec![0; n_classes];
    let mut first = Vec::new();
    for (i, &label) in examples.labels.iter().enumerate() {
        taken[label] += 1;
        if taken[label] <= MEASURED_A_CLASS {
            first.push(i);
        }
    }
    let mut means = ClassMeans::new(n_classes, backbone.d_feature());
    for batch in first.chunks(PASS) {
        let tokens = examples.tokens.batch(&examples.rows(batch), backbone.device());
        let features = backbone.suffix(tokens);
        let data = features.try_into_data().map_err(|e| TrainError::Device(e.to_string()))?;
        let numbers = data.try_into_vec::<f32>().map_err(|e| TrainError::Device(e.to_string()))?;
        let features = numbers.chunks_exact(backbone.d_feature());
        features.zip(batch).for_each(|(feature, &i)| means.push(examples.labels[i], feature));
    }
    Ok(means)
}

/// Computes the Gram matrix of each adapted layer: the mean of `z z^T`, `z = down^T x`, over its
/// inputs `x`: `[r, r]`.
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

/// Draws `n` random orthonormal columns of `d` numbers.
fn random_orthonormal(d: usize, n: usize, rng: &mut StdRng) -> Matrix {
    let normal: Vec<f64> = (0..d * n).map(|_| StandardNormal.sample(rng)).collect();
    let random = faer::Mat::from_fn(d, n, |i, j| normal[i * n + j]);
    Matrix::from_faer(random.qr().compute_thin_Q().as_ref())
}

/// Draws `m` prompt tokens, uniform in plus or minus `sqrt(6 / (3 p^2 + d))`, as VPT does
/// (arXiv:2203.12119).
fn initial_prompt(m: usize, vit: &VitConfig, seed: u64) -> Matrix {
    // Another random stream than that of the bases.
    let mut rng = StdRng::seed_from_u64(seed ^ 0x0070_726f_6d70_7400);
    let d = vit.d_model;
    let p = vit.patch_size;
    let bound = (6.0 / (3 * p * p + d) as f32).sqrt();
    let values: Vec<f32> = (0..m * d).map(|_| rng.random_range(-bound..bound)).collect();
    Matrix::from_fn(m, d, |i, j| values[i * d + j])
}
