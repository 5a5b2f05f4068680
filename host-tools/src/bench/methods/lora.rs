//! Baselines that train LoRA with a linear head: sequentially, jointly, and SD-LoRA.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anyhow::{Context, Result, anyhow};
use burn::tensor::Tensor;
use fmlora_learner::{
    Built, Examples, Leaves, LoraPair, ParameterId, Parameters, TrainedHead, TrainingConfig,
    TrainingHead, add_head, add_lora, lora_branches, train,
};
use fmlora_models::{Place, SideBranch, SideBranches};
use indicatif::ProgressBar;

use super::{Learned, Method, World};
use crate::bench::prepared::features_of;
use crate::bench::stream::TaskRows;

/// Weights `[d, classes]` and biases `[1, classes]` of a linear head.
type Head = (Tensor<2>, Tensor<2>);

/// One LoRA and one linear head with a softmax over all classes seen, trained on each task as it
/// comes: a lower bound if tasks come one by one, an upper bound if all come at once.
#[derive(Default)]
pub(super) struct Lora {
    labels: Vec<usize>,
    branches: SideBranches,
    head: Option<Head>,
    joint: bool,
}

impl Lora {
    pub(super) fn sequential() -> Self {
        Self::default()
    }

    pub(super) fn joint() -> Self {
        Self { joint: true, ..Self::default() }
    }
}

fn training(world: &World<'_>, joint: bool) -> TrainingConfig {
    let mut training = world.settings.training(world.seed);
    if joint {
        training.epochs = world.settings.joint_epochs;
    }
    training
}

/// Runs the training loop on the rows of a task; `position` gives the column of a label.
fn run(
    world: &World<'_>,
    task: &TaskRows,
    position: impl Fn(usize) -> Option<usize>,
    parameters: &mut Parameters,
    head: TrainedHead,
    training: &TrainingConfig,
    build: &mut dyn FnMut(&Leaves, f64) -> Built,
) -> Result<()> {
    let part = &world.arena.prepared.train;
    let rows = part.rows(&task.train, task.views);
    let columns: Option<Vec<usize>> = rows.iter().map(|&row| position(part.labels[row])).collect();
    let labels = columns.ok_or_else(|| anyhow!("a picture of a class that is not in the task"))?;
    let examples = Examples::new(&part.tokens, &rows, &labels)?;
    let mut watch = |_| {
        (world.on_step)();
        ControlFlow::Continue(())
    };
    let head = TrainingHead::Trained(head);
    train(&world.arena.backbone, &examples, parameters, &head, training, build, &mut watch)?;
    Ok(())
}

/// Computes features of test pictures, with the branches folded into the network.
fn test_features(
    world: &World<'_>,
    branches: &SideBranches,
    rows: &[usize],
) -> Result<Vec<Vec<f32>>> {
    let backbone = world.arena.backbone.folded(branches);
    features_of(&backbone, &world.arena.prepared.test.tokens, rows, &ProgressBar::hidden())
}

/// Computes the scores of a head's classes for each feature.
fn scores(features: &[Vec<f32>], head: &Head, world: &World<'_>) -> Result<Vec<Vec<f32>>> {
    let d = world.arena.backbone.d_feature();
    let data = burn::tensor::TensorData::new(features.concat(), [features.len(), d]);
    let features = Tensor::<2>::from_data(data, world.arena.backbone.device());
    let logits = features.matmul(head.0.clone()) + head.1.clone();
    let [_, classes] = logits.dims();
    let numbers = logits.into_data().try_into_vec::<f32>().map_err(|e| anyhow!("{e}"))?;
    Ok(numbers.chunks_exact(classes).map(<[f32]>::to_vec).collect())
}

fn numbers_of(branches: &SideBranches) -> usize {
    let of = |b: &SideBranch| {
        b.down.dims().iter().product::<usize>() + b.up.dims().iter().product::<usize>()
    };
    branches.branches.values().map(of).sum()
}

impl Method for Lora {
    fn learn(&mut self, world: &World<'_>, task: &TaskRows) -> Result<Learned> {
        let settings = world.settings;
        let backbone = &world.arena.backbone;
        let device = backbone.device();
        let vit = backbone.vit_config();
        let before = self.n_bytes();
        let new: Vec<usize> =
            task.classes.iter().copied().filter(|c| !self.labels.contains(c)).collect();
        let n_new = new.len();
        self.labels.extend(new);
        let mut parameters = Parameters::new(0.0);
        let pairs: BTreeMap<Place, LoraPair> = if self.branches.branches.is_empty() {
            let places = settings.layers().places(backbone.config().first_adapted_block, vit);
            add_lora(&mut parameters, &places, settings.rank, vit, world.seed, device)
        } else {
            let old = self.branches.branches.iter();
            let mut add = |tensor: &Tensor<2>| parameters.add(tensor.clone(), 1.0);
            old.map(|(&place, b)| (place, LoraPair { down: add(&b.down), up: add(&b.up) }))
                .collect()
        };
        let n_trained = parameters.n_numbers();
        let head = match &self.head {
            None => add_head(&mut parameters, backbone.d_feature(), self.labels.len(), device),
            Some((weights, biases)) => {
                let grown = |old: &Tensor<2>| {
                    let rows = old.dims()[0];
                    let room = Tensor::zeros([rows, n_new], device);
                    if n_new == 0 { old.clone() } else { Tensor::cat(vec![old.clone(), room], 1) }
                };
                let weights = parameters.add(grown(weights), 1.0);
                TrainedHead { weights, biases: parameters.add(grown(biases), 1.0) }
            }
        };
        let labels = self.labels.clone();
        let position = |label: usize| labels.iter().position(|&l| l == label);
        let mut build =
            |leaves: &Leaves, _| Built { branches: lora_branches(leaves, &pairs), penalty: None };
        let training = training(world, self.joint);
        run(world, task, position, &mut parameters, head, &training, &mut build)?;
        let value = |id: ParameterId| parameters.value(id);
        let branch = |(&place, pair): (&Place, &LoraPair)| {
            let core = Tensor::eye(settings.rank, device);
            (place, SideBranch { down: value(pair.down), core, up: value(pair.up) })
        };
        self.branches.branches = pairs.iter().map(branch).collect();
        self.head = Some((value(head.weights), value(head.biases)));
        let n_bytes = self.n_bytes().saturating_sub(before);
        Ok(Learned { rank: settings.rank, n_trained, n_bytes, ..Learned::default() })
    }

    fn labels(&self, _: &World<'_>) -> Result<Vec<usize>> {
        Ok(self.labels.clone())
    }

    fn scores(&mut self, world: &World<'_>, rows: &[usize]) -> Result<Vec<Vec<f32>>> {
        let head = self.head.as_ref().context("nothing was learned yet")?;
        scores(&test_features(world, &self.branches, rows)?, head, world)
    }

    fn n_bytes(&self) -> usize {
        let head = self.head.as_ref().map_or(0, |(w, b)| w.dims()[0] * w.dims()[1] + b.dims()[1]);
        size_of::<f32>() * (numbers_of(&self.branches) + head)
    }

    fn at_once(&self) -> bool {
        self.joint
    }
}

/// SD-LoRA (arXiv:2501.13198): `W_0 + sum_k a_k D_k`. The directions `D_k` have unit norm and are
/// frozen after their task; all magnitudes `a_k` are trained further. Each task has one head,
/// trained on its own classes; at test time all heads are used side by side.
#[derive(Default)]
pub(super) struct SdLora {
    /// Directions so far: `[d_in, k r]` and `[k r, d_out]`.
    directions: BTreeMap<Place, (Tensor<2>, Tensor<2>)>,
    /// Magnitude of each task's direction in each layer.
    magnitudes: BTreeMap<Place, Vec<f32>>,
    heads: Vec<(Vec<usize>, Head)>,
}

impl SdLora {
    /// Builds one branch per layer from directions and magnitudes.
    fn branches(&self, rank: usize, device: &burn::tensor::Device) -> SideBranches {
        let branch = |(&place, (down, up)): (&Place, &(Tensor<2>, Tensor<2>))| {
            let core = diagonal(row(&self.magnitudes[&place], device), rank);
            (place, SideBranch { down: down.clone(), core, up: up.clone() })
        };
        SideBranches { branches: self.directions.iter().map(branch).collect(), prompt: None }
    }
}

/// Returns numbers as a tensor `[1, n]`.
fn row(values: &[f32], device: &burn::tensor::Device) -> Tensor<2> {
    let data = burn::tensor::TensorData::new(values.to_vec(), [1, values.len()]);
    Tensor::from_data(data, device)
}

/// Builds a diagonal matrix with each of `[1, k]` magnitudes `rank` times: `[k rank, k rank]`.
fn diagonal(magnitudes: Tensor<2>, rank: usize) -> Tensor<2> {
    let k = magnitudes.dims()[1];
    let repeated = magnitudes.reshape([k, 1]).expand([k, rank]).reshape([1, k * rank]);
    Tensor::eye(k * rank, &repeated.device()) * repeated
}

impl Method for SdLora {
    fn learn(&mut self, world: &World<'_>, task: &TaskRows) -> Result<Learned> {
        let settings = world.settings;
        let backbone = &world.arena.backbone;
        let device = backbone.device();
        let vit = backbone.vit_config();
        let rank = settings.rank;
        let before = self.n_bytes();
        let places = settings.layers().places(backbone.config().first_adapted_block, vit);
        let mut parameters = Parameters::new(0.0);
        let seed = world.seed + self.heads.len() as u64;
        let pairs = add_lora(&mut parameters, &places, rank, vit, seed, device);
        let magnitudes: BTreeMap<Place, ParameterId> = self
            .magnitudes
            .iter()
            .map(|(&place, values)| (place, parameters.add(row(values, device), 1.0)))
            .collect();
        let n_trained = parameters.n_numbers();
        let head = add_head(&mut parameters, backbone.d_feature(), task.classes.len(), device);
        let directions = self.directions.clone();
        let mut build = |leaves: &Leaves, _| {
            let mut branches = lora_branches(leaves, &pairs);
            for (place, (down, up)) in &directions {
                let old = diagonal(leaves.get(magnitudes[place]), rank).matmul(up.clone());
                let Some(branch) = branches.branches.get_mut(place) else { continue };
                branch.down = Tensor::cat(vec![down.clone().autodiff(), branch.down.clone()], 1);
                branch.up = Tensor::cat(vec![old, branch.up.clone()], 0);
                branch.core = Tensor::eye(branch.up.dims()[0], device);
            }
            Built { branches, penalty: None }
        };
        let position = |label: usize| task.classes.iter().position(|&l| l == label);
        let training = training(world, false);
        run(world, task, position, &mut parameters, head, &training, &mut build)?;
        for (&place, pair) in &pairs {
            let down = parameters.value(pair.down);
            let up = parameters.value(pair.up);
            let squares = down.clone().matmul(up.clone()).square().sum();
            let norm = squares.try_into_scalar::<f32>().map_err(|e| anyhow!("{e}"))?.sqrt();
            let up = up.div_scalar(norm.max(f32::MIN_POSITIVE));
            let known = self.magnitudes.entry(place).or_default();
            if let Some(&id) = magnitudes.get(&place) {
                let values = parameters.value(id).into_data();
                *known = values.try_into_vec::<f32>().map_err(|e| anyhow!("{e}"))?;
            }
            known.push(norm);
            let all = match self.directions.remove(&place) {
                Some((a, b)) => (Tensor::cat(vec![a, down], 1), Tensor::cat(vec![b, up], 0)),
                None => (down, up),
            };
            self.directions.insert(place, all);
        }
        let trained = (parameters.value(head.weights), parameters.value(head.biases));
        self.heads.push((task.classes.clone(), trained));
        Ok(Learned { rank, n_trained, n_bytes: self.n_bytes() - before, ..Learned::default() })
    }

    fn labels(&self, _: &World<'_>) -> Result<Vec<usize>> {
        Ok(self.heads.iter().flat_map(|(classes, _)| classes.clone()).collect())
    }

    fn scores(&mut self, world: &World<'_>, rows: &[usize]) -> Result<Vec<Vec<f32>>> {
        let branches = self.branches(world.settings.rank, world.arena.backbone.device());
        let features = test_features(world, &branches, rows)?;
        let mut all = vec![Vec::new(); rows.len()];
        for (_, head) in &self.heads {
            let of_head = scores(&features, head, world)?;
            all.iter_mut().zip(of_head).for_each(|(all, scores)| all.extend(scores));
        }
        Ok(all)
    }

    fn n_bytes(&self) -> usize {
        let size = |t: &Tensor<2>| t.dims()[0] * t.dims()[1];
        let directions: usize = self.directions.values().map(|(a, b)| size(a) + size(b)).sum();
        let heads: usize = self.heads.iter().map(|(_, (w, b))| size(w) + size(b)).sum();
        let magnitudes: usize = self.magnitudes.values().map(Vec::len).sum();
        size_of::<f32>() * (directions + heads + magnitudes)
    }
}
