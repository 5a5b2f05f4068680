//! F-LoRA in training and in inference: frozen parts stay the same, other changes are bounded.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use fmlora_learner::{
    Adapter, AdapterConfig, Complexity, Examples, RankSelector, Step, TaskConfig, TaskHead,
    TokenCache, TrainError, TrainedBases, TrainedTask, TrainingConfig, class_means, extend_bases,
    train_bases, train_task,
};
use fmlora_models::{Backbone, Place, SideBranch, SideBranches, Site};
use fmlora_tests::{on_every_device, toy_backbone_on, toy_tokens};

const RANK: usize = 4;

on_every_device!(
    folding_gives_what_the_side_branches_give,
    the_bases_of_task_1_are_orthonormal_and_hold_its_update,
    more_directions_leave_old_ones_and_features_as_they_are,
    a_cosine_head_starts_at_the_class_means,
    a_step_on_some_patches_learns_too,
    a_task_changes_only_its_own_matrices,
    a_hundred_tasks_take_the_room_of_one,
    the_rank_mask_bounds_what_is_stored_and_what_changes,
    the_orthogonality_term_holds_old_outputs_still,
    training_repeats_by_its_seed_and_stops_when_told,
);

struct Toy {
    backbone: Backbone,
    tokens: TokenCache,
    labels: Vec<usize>,
    rows: Vec<usize>,
}

impl Toy {
    fn new(device: &Device, seed: u64) -> Self {
        let backbone = toy_backbone_on(device);
        let (tokens, labels) = toy_tokens(&backbone, 4, 8, seed);
        Self { rows: (0..labels.len()).collect(), backbone, tokens, labels }
    }

    fn examples(&self) -> Examples<'_> {
        Examples::new(&self.tokens, &self.rows, &self.labels).expect("a label for every row")
    }

    fn features(&self, branches: &SideBranches) -> Vec<f32> {
        let tokens = self.tokens.batch(&self.rows, self.backbone.device());
        numbers(self.backbone.suffix_with(tokens, branches, None))
    }

    fn bases(&self, m: usize) -> TrainedBases {
        let layers = AdapterConfig { rank: RANK, n_prompt_tokens: m, ..AdapterConfig::default() };
        train_bases(
            &self.backbone,
            &self.examples(),
            TaskHead::Own(4),
            &layers,
            &training(6),
            &mut on,
        )
        .expect("trained")
    }

    fn task(&self, adapter: &Adapter, rank: usize, config: &TaskConfig) -> TrainedTask {
        let selector = RankSelector::fixed(rank);
        train_task(
            &self.backbone,
            &self.examples(),
            TaskHead::Own(4),
            adapter,
            &selector,
            config,
            &mut on,
        )
        .expect("trained")
    }
}

fn on(_: Step) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn training(epochs: usize) -> TrainingConfig {
    TrainingConfig {
        epochs,
        batch_size: 8,
        learning_rate: 0.02,
        seed: 3,
        ..TrainingConfig::default()
    }
}

fn task_config(epochs: usize) -> TaskConfig {
    TaskConfig { training: training(epochs), ..TaskConfig::default() }
}

fn numbers(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec::<f32>().expect("f32")
}

/// Returns the largest difference as a share of the largest number of `a`.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    let largest =
        |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |m: f32, v| m.max(v.abs()));
    largest(&mut a.iter().zip(b).map(|(a, b)| a - b)) / largest(&mut a.iter().copied())
}

/// Branches of every kind on every adapted layer, with a prompt.
fn all_sites(backbone: &Backbone) -> SideBranches {
    let vit = backbone.vit_config();
    let device = backbone.device();
    let wave = |rows: usize, columns: usize, step: f32| {
        let values: Vec<f32> = (0..rows * columns).map(|i| (i as f32 * step).sin()).collect();
        Tensor::<2>::from_data(burn::tensor::TensorData::new(values, [rows, columns]), device)
    };
    let mut branches = BTreeMap::new();
    for block in backbone.config().first_adapted_block..vit.depth {
        for site in Site::ALL {
            let (d_in, d_out) = (site.d_in(vit), site.d_out(vit));
            let down = wave(d_in, RANK, 1.3);
            let core = wave(RANK, RANK, 0.7);
            let up = wave(RANK, d_out, 2.1);
            branches.insert(Place { block, site }, SideBranch { down, core, up });
        }
    }
    SideBranches { branches, prompt: Some(wave(3, vit.d_model, 0.9)) }
}

fn folding_gives_what_the_side_branches_give(device: &Device) {
    let toy = Toy::new(device, 1);
    let branches = all_sites(&toy.backbone);
    let beside = toy.features(&branches);
    let tokens = toy.tokens.batch(&toy.rows, toy.backbone.device());
    let folded = numbers(toy.backbone.folded(&branches).suffix(tokens));
    assert!(
        apart(&beside, &toy.features(&SideBranches::default())) > 0.02,
        "the branches do nothing"
    );
    // The same sums in another order, through two blocks in f32.
    assert!(apart(&beside, &folded) < 1e-4, "{}", apart(&beside, &folded));
}

/// The bases represent the learned update: they are orthonormal, and a further task starts from the
/// same features.
fn the_bases_of_task_1_are_orthonormal_and_hold_its_update(device: &Device) {
    let toy = Toy::new(device, 2);
    let trained = toy.bases(2);
    assert!(
        trained.losses[5] < 0.7 * trained.losses[0],
        "nothing was learnt: {:?}",
        trained.losses
    );
    assert_orthonormal(&trained.adapter);
    // A training with learning rate 0 on top of the bases changes no feature: a task starts from
    // the learned update.
    let still = TaskConfig {
        training: TrainingConfig { learning_rate: 0.0, ..training(1) },
        ..TaskConfig::default()
    };
    let before = toy.features(&trained.adapter.side_branches(toy.backbone.device()));
    let update = toy.task(&trained.adapter, RANK, &still).update;
    let after = trained.adapter.merge(&update, 1.0);
    assert_eq!(
        before,
        toy.features(&after.side_branches(toy.backbone.device())),
        "dW = 0 at the start"
    );
}

fn assert_orthonormal(adapter: &Adapter) {
    let r = adapter.bases().rank();
    for (place, basis) in adapter.bases().by_place() {
        for (name, matrix) in [("A", &basis.a), ("B", &basis.b)] {
            let gram = matrix.transposed().times_transposed(&matrix.transposed());
            assert_eq!(gram.shape(), [r, r]);
            for i in 0..r {
                for j in 0..r {
                    let expected = f32::from(u8::from(i == j));
                    // Bases are stored in f16.
                    assert!((gram.at(i, j) - expected).abs() < 2e-3, "{name} of {place}: {i} {j}");
                }
            }
        }
    }
}

fn more_directions_leave_old_ones_and_features_as_they_are(device: &Device) {
    let toy = Toy::new(device, 2);
    let before = toy.bases(2).adapter;
    let extend = |rank: usize| {
        let examples = toy.examples();
        let head = TaskHead::Own(4);
        extend_bases(&toy.backbone, &examples, head, &before, rank, &training(2), &mut on)
            .expect("trained")
            .adapter
    };
    let after = extend(RANK + 3);
    assert_orthonormal(&after);
    assert_eq!(after.prompt(), before.prompt());
    for (place, old) in before.bases().by_place() {
        let new = &after.bases().by_place()[place];
        for (old, new) in [(&old.a, &new.a), (&old.b, &new.b)] {
            assert_eq!(new.leading_columns(RANK), *old, "{place}");
        }
    }
    let features = |adapter: &Adapter| toy.features(&adapter.side_branches(toy.backbone.device()));
    assert!(apart(&features(&before), &features(&after)) < 1e-5);
    // A task can use the new directions.
    let update = toy.task(&after, RANK + 3, &task_config(1)).update;
    assert_ne!(features(&after), features(&after.merge(&update, 1.0)));
}

/// The mean loss of the first epoch is below chance, because the class vectors start at the class
/// means.
fn a_cosine_head_starts_at_the_class_means(device: &Device) {
    let toy = Toy::new(device, 3);
    let adapter = toy.bases(0).adapter;
    let means = class_means(&toy.backbone, &toy.examples(), 4).expect("computed");
    let config = TaskConfig { training: training(4), ..TaskConfig::default() };
    let selector = RankSelector::fixed(RANK);
    let head = TaskHead::Cosine(Box::new(means));
    let examples = toy.examples();
    let trained = train_task(&toy.backbone, &examples, head, &adapter, &selector, &config, &mut on)
        .expect("trained");
    let blind = 4.0f64.ln();
    assert!(trained.losses[0] < blind, "it starts at {:?}, not at chance", trained.losses);
    assert!(trained.losses[3] < trained.losses[0], "{:?}", trained.losses);
}

fn a_step_on_some_patches_learns_too(device: &Device) {
    let toy = Toy::new(device, 2);
    let training = TrainingConfig { patch_share: 0.5, ..training(6) };
    let layers = AdapterConfig { rank: RANK, n_prompt_tokens: 1, ..AdapterConfig::default() };
    let examples = toy.examples();
    let head = TaskHead::Own(4);
    let trained =
        train_bases(&toy.backbone, &examples, head, &layers, &training, &mut on).expect("trained");
    assert!(trained.losses[5] < 0.8 * trained.losses[0], "{:?}", trained.losses);
}

fn a_task_changes_only_its_own_matrices(device: &Device) {
    let toy = Toy::new(device, 3);
    let plain = toy.features(&SideBranches::default());
    let adapter = toy.bases(2).adapter;
    let bases = Arc::clone(adapter.bases());
    let copy = adapter.clone();
    let trained = toy.task(&adapter, RANK, &task_config(4));
    assert!(trained.losses[3] < trained.losses[0], "{:?}", trained.losses);
    let next = adapter.merge(&trained.update, 1.0);
    // Network, bases and the adapter before the task are bit-identical.
    assert_eq!(plain, toy.features(&SideBranches::default()));
    assert_eq!(bases, *next.bases());
    assert_eq!(copy, adapter);
    let moved = toy.features(&next.side_branches(toy.backbone.device()));
    assert_ne!(moved, toy.features(&adapter.side_branches(toy.backbone.device())));
}

fn a_hundred_tasks_take_the_room_of_one(device: &Device) {
    let toy = Toy::new(device, 4);
    let adapter = toy.bases(2).adapter;
    let update = toy.task(&adapter, 2, &task_config(1)).update;
    let after = (0..100).fold(adapter.clone(), |sum, _| sum.merge(&update, 0.01));
    assert_eq!(adapter.n_bytes(), after.n_bytes());
    let shapes = |a: &Adapter| {
        let branches = a.side_branches(toy.backbone.device()).branches;
        branches.values().map(|b| (b.down.dims(), b.core.dims(), b.up.dims())).collect::<Vec<_>>()
    };
    assert_eq!(shapes(&adapter), shapes(&after), "a prediction costs the same");
}

fn the_rank_mask_bounds_what_is_stored_and_what_changes(device: &Device) {
    let toy = Toy::new(device, 5);
    let adapter = toy.bases(0).adapter;
    let r = adapter.bases().rank();
    for rank in [1, 2, RANK] {
        let update = toy.task(&adapter, rank, &task_config(2)).update;
        assert_eq!(update.rank, rank);
        for (place, factors) in &update.factors {
            assert_eq!([factors.m.shape(), factors.n.shape()], [[r, rank]; 2], "{place}");
        }
        assert_eq!(
            update.n_bytes(),
            2 * adapter.bases().n_task_numbers(rank),
            "2 r r_t numbers a layer"
        );
    }
}

/// `L_orth` penalises the effect of the update on inputs of earlier tasks. With a large weight
/// their features move less than half as far.
fn the_orthogonality_term_holds_old_outputs_still(device: &Device) {
    let toy = Toy::new(device, 6);
    let adapter = toy.bases(0).adapter;
    let start = toy.features(&adapter.side_branches(toy.backbone.device()));
    let moved = |weight: f64| {
        let config = TaskConfig { orthogonality: weight, ..task_config(4) };
        let next = adapter.merge(&toy.task(&adapter, RANK, &config).update, 1.0);
        apart(&start, &toy.features(&next.side_branches(toy.backbone.device())))
    };
    let free = moved(0.0);
    let held = moved(1e4);
    assert!(held < 0.5 * free, "moved {held} with the term and {free} without");
}

fn training_repeats_by_its_seed_and_stops_when_told(device: &Device) {
    let toy = Toy::new(device, 7);
    let adapter = toy.bases(1).adapter;
    let selector = RankSelector::new(RANK, &hard());
    let config = task_config(2);
    let examples = toy.examples();
    let run = |config: &TaskConfig| {
        train_task(&toy.backbone, &examples, TaskHead::Own(4), &adapter, &selector, config, &mut on)
            .expect("trained")
    };
    assert_eq!(run(&config).update, run(&config).update);
    let other =
        TaskConfig { training: TrainingConfig { seed: 4, ..training(2) }, ..task_config(2) };
    assert_ne!(run(&config).update, run(&other).update);
    let mut made = 0;
    let mut watch = |_: Step| {
        made += 1;
        if made == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let stopped = train_task(
        &toy.backbone,
        &examples,
        TaskHead::Own(4),
        &adapter,
        &selector,
        &config,
        &mut watch,
    );
    assert_eq!(stopped.err(), Some(TrainError::Stopped { steps: 3 }));
}

fn hard() -> Complexity {
    Complexity { difficulty: 1.0, novelty: 1.0, evidence: 1.0 }
}

#[test]
fn the_rank_rises_with_complexity_and_nothing_is_a_choice() {
    let rank = |h: f64, evidence: f64| {
        let complexity = Complexity { difficulty: h, novelty: h, evidence };
        RankSelector::new(16, &complexity).prior_rank()
    };
    let ranks: Vec<usize> = (0..=20).map(|i| rank(f64::from(i) / 20.0, 1.0)).collect();
    assert!(ranks.is_sorted(), "{ranks:?}");
    assert_eq!((ranks[0], ranks[20]), (0, 16));
    assert!(rank(0.6, 0.1) < rank(0.6, 0.9), "few shots must claim less");
}
