//! Training of tasks after the first: `M_t` and `N_t` in frozen bases, under the rank mask.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use fmlora_models::{Backbone, Place, SideBranch, SideBranches};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::shared_bases::{add_head, input_grams};
use super::{
    Built, ClassMeans, CosineHead, Examples, FixedHead, Leaves, ParameterId, Parameters,
    TrainError, TrainingConfig, TrainingHead, Watcher, train,
};
use crate::rank_selector::SOFT_SHARE;
use crate::{Adapter, Matrix, RankSelector, TaskFactors, TaskUpdate};

/// Factor on the learning rate for the class vectors of a cosine head. Their initial length is 1.
const COSINE_RATE: f64 = 0.3;

/// Training objective of a task's features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objective {
    /// Separates the task's own classes with a linear head, which is trained with the factors and
    /// then dropped.
    OwnClasses,
    /// Separates the task's own classes with a cosine head, which starts at the class means, is
    /// trained with the factors and then dropped.
    OwnAngles,
    /// Separates the task's classes from all known classes with the analytic head, held constant.
    AnalyticHead,
}

/// Classifier head of a task's training.
#[derive(Debug, Clone)]
pub enum TaskHead {
    /// Linear head over this number of the task's own classes. It is trained and then dropped.
    Own(usize),
    /// Cosine head that starts at the class means. It is trained and then dropped.
    Cosine(Box<ClassMeans>),
    /// Analytic head over all classes, held constant. Labels are its columns.
    Analytic(Box<FixedHead>),
}

impl TaskHead {
    /// Adds the trainable matrices of the head to `parameters`.
    pub(super) fn add(
        self,
        parameters: &mut Parameters,
        d_feature: usize,
        device: &Device,
    ) -> TrainingHead {
        match self {
            Self::Own(n) => TrainingHead::Trained(add_head(parameters, d_feature, n, device)),
            Self::Cosine(means) => {
                let head = CosineHead::add(parameters, &means, COSINE_RATE, device);
                TrainingHead::Cosine(Box::new(head))
            }
            Self::Analytic(head) => TrainingHead::Fixed(head),
        }
    }
}

/// Configuration of a task's training: objective, loop, and weights of the regularisation terms.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskConfig {
    /// Training objective.
    pub objective: Objective,
    /// Weight of the mean squared distance of the task's features from those before, with
    /// [`Objective::AnalyticHead`]. Holding the features of the task's pictures holds those of
    /// similar pictures too.
    pub feature_pull: f64,
    /// Training loop.
    pub training: TrainingConfig,
    /// Weight of `L_orth`, the effect of the update on old inputs.
    pub orthogonality: f64,
    /// Weight of the expected rank as a share of the largest rank.
    pub rank_cost: f64,
    /// Factor on the learning rate for the prompt. A large change of the prompt would move the
    /// features of every old class.
    pub prompt_rate: f64,
    /// Weight of the squared distance of the prompt from its value before the task.
    pub prompt_pull: f64,
}

/// Result of a task's training.
#[derive(Debug)]
pub struct TrainedTask {
    /// Factors to merge into the adapter.
    pub update: TaskUpdate,
    /// Mean cross-entropy of each epoch, in nats.
    pub losses: Vec<f64>,
    /// Number of trained parameters, without the rank logits and the head.
    pub n_trained: usize,
    /// Mean `z z^T` of the task's pictures at each adapted layer, for [`Adapter`]'s memory.
    pub(crate) grams: BTreeMap<Place, Matrix>,
}

impl Default for TaskConfig {
    fn default() -> Self {
        Self {
            objective: Objective::AnalyticHead,
            feature_pull: 0.2,
            training: TrainingConfig::default(),
            orthogonality: 0.3,
            rank_cost: 0.01,
            prompt_rate: 0.1,
            prompt_pull: 1.0,
        }
    }
}

/// Ids of a task's parameters.
struct Trained {
    factors: BTreeMap<Place, (ParameterId, ParameterId)>,
    prompt: Option<ParameterId>,
    logits: ParameterId,
}

/// Trains `M_t` and `N_t`, starting from `dW_t = 0` on top of the adapter.
///
/// The loss is the cross-entropy of `head` plus `L_orth = tr(M N^T G_old N M^T) / tr(G_old)`, the
/// cost of the rank and the penalty on the change of the prompt.
///
/// # Errors
///
/// [`TrainError`].
pub fn train_task(
    backbone: &Backbone,
    examples: &Examples<'_>,
    head: TaskHead,
    adapter: &Adapter,
    selector: &RankSelector,
    config: &TaskConfig,
    watch: Watcher<'_>,
) -> Result<TrainedTask, TrainError> {
    let device = backbone.device();
    let r = adapter.bases().rank();
    let mut parameters = Parameters::new(config.training.weight_decay);
    let factors = adapter.bases().by_place().keys().map(|&place| {
        let m = parameters.add(Tensor::zeros([r, r], device), 1.0);
        (place, (m, parameters.add(Tensor::eye(r, device), 1.0)))
    });
    let factors = factors.collect();
    let prompt = adapter.prompt().map(|p| p.to_tensor(device));
    let prompt = prompt.map(|p| parameters.add(p, config.prompt_rate));
    let logits: Vec<f32> = selector.logits().iter().map(|&l| l as f32).collect();
    let logits = Matrix::from_fn(1, logits.len(), |_, k| logits[k]);
    let n_trained = parameters.n_numbers();
    let logits = parameters.add(logits.to_tensor(device), 1.0);
    let trained = Trained { factors, prompt, logits };
    let head = head.add(&mut parameters, backbone.d_feature(), device);

    let old = adapter.side_branches(device);
    let grams = normalised_grams(adapter);
    let grams: BTreeMap<Place, Tensor<2>> =
        grams.iter().map(|(&place, g)| (place, g.to_tensor(device))).collect();
    let mut rng = StdRng::seed_from_u64(config.training.seed ^ 0x0067_756d_6265_6c00);
    let masks = selector.masks(r, device);
    let costs = selector.costs(r, device);
    let mut hard: Option<Tensor<2>> = None;
    let mut build = |leaves: &Leaves, progress: f64| {
        let mut penalty = Tensor::<1>::zeros([1], device);
        let mask = if progress < SOFT_SHARE {
            let weights = selector.draw(leaves.get(trained.logits), progress, &mut rng);
            let cost = weights.clone().matmul(costs.clone()).sum();
            penalty = penalty + cost.mul_scalar(config.rank_cost);
            weights.matmul(masks.clone())
        } else {
            hard.get_or_insert_with(|| {
                let logits = leaves.get(trained.logits).inner().into_data();
                let logits = logits.iter::<f64>().collect::<Vec<_>>();
                let rank = selector.rank_of(&logits);
                Matrix::from_fn(1, r, |_, j| f32::from(u8::from(j < rank))).to_tensor(device)
            })
            .clone()
        };
        let mut branches = SideBranches::default();
        for (&place, &(m, n)) in &trained.factors {
            // Vectors are rows: the update of z is z (N diag(mask) M^T).
            let step = (leaves.get(n) * mask.clone()).matmul(leaves.get(m).transpose());
            if let Some(gram) = grams.get(&place) {
                let moved = (gram.clone().matmul(step.clone()) * step.clone()).sum();
                penalty = penalty.clone() + moved.mul_scalar(config.orthogonality);
            }
            let SideBranch { down, core, up } = old.branches[&place].clone();
            branches.branches.insert(place, SideBranch { down, core: core + step, up });
        }
        if let (Some(id), Some(before)) = (trained.prompt, &old.prompt) {
            let prompt = leaves.get(id);
            let moved = (prompt.clone() - before.clone()).square().sum();
            penalty = penalty + moved.mul_scalar(config.prompt_pull);
            branches.prompt = Some(prompt);
        }
        Built { branches, penalty: Some(penalty) }
    };
    let losses =
        train(backbone, examples, &mut parameters, &head, &config.training, &mut build, watch)?;
    let update = read_update(&parameters, &trained, adapter, selector)?;
    let grams = input_grams(backbone, examples, &old)?;
    Ok(TrainedTask { update, losses, n_trained, grams })
}

/// Computes `G_old / tr(G_old)` of each layer. Layers with a zero trace, without inputs so far, are
/// left out.
fn normalised_grams(adapter: &Adapter) -> BTreeMap<Place, Matrix> {
    let normalised = |(&place, gram): (&Place, &Matrix)| {
        let [r, _] = gram.shape();
        let trace: f32 = (0..r).map(|i| gram.at(i, i)).sum();
        (trace > 0.0).then(|| (place, Matrix::zeros(r, r).plus(1.0 / trace, gram)))
    };
    adapter.state.grams.iter().filter_map(normalised).collect()
}

/// Reads the trained factors and the change of the prompt, cut to the selected rank.
fn read_update(
    parameters: &Parameters,
    trained: &Trained,
    adapter: &Adapter,
    selector: &RankSelector,
) -> Result<TaskUpdate, TrainError> {
    let value = |id| Matrix::from_tensor(parameters.value(id)).map_err(TrainError::Device);
    // Rounded to f16 as in files: the measured update is the stored one.
    let stored = |matrix: Matrix| matrix.rounded().map_err(|e| TrainError::Device(e.to_string()));
    let logits: Vec<f64> = value(trained.logits)?.values().iter().map(|&v| f64::from(v)).collect();
    let rank = selector.rank_of(&logits);
    let mut factors = BTreeMap::new();
    for (&place, &(m, n)) in &trained.factors {
        let m = stored(value(m)?.leading_columns(rank))?;
        let n = stored(value(n)?.leading_columns(rank))?;
        factors.insert(place, TaskFactors { m, n });
    }
    let prompt_step = match (trained.prompt, adapter.prompt()) {
        (Some(id), Some(before)) if rank > 0 => Some(stored(value(id)?.plus(-1.0, before))?),
        _ => None,
    };
    Ok(TaskUpdate { rank, factors, prompt_step })
}
