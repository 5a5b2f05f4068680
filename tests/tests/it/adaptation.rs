//! Adaptation to whole tasks: complexity, drift map of old statistics, and the keep decision.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use burn::tensor::Device;
use fmlora_learner::{
    AdaptationConfig, AdapterConfig, Class, ClassName, ClassStatistics, Complexity, DriftMap,
    Objective, Step, Task, TaskClass, TaskConfig, TokenCache, TrainingConfig, adapt, adapt_first,
    adapted_features, with_task,
};
use fmlora_models::Backbone;
use fmlora_tests::{GaussianClasses, on_every_device, toy_backbone_on, toy_tokens};

on_every_device!(
    a_kept_task_brings_its_own_features_and_a_refused_one_nothing,
    old_classes_move_with_the_features_and_none_is_lost,
    few_shots_are_left_to_the_head,
    a_task_is_trained_by_angles_on_shots_and_views,
);

fn on(_: Step) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Draws shots of Gaussian classes. Their means lie `distance` from the centre in each direction.
fn gaussian_task(distance: f32, seed: u64) -> Vec<Vec<Vec<f32>>> {
    let mut source = GaussianClasses::new(6, 40, distance, seed);
    (0..6).map(|class| source.shots(class, 30)).collect()
}

fn complexity(task: &[Vec<Vec<f32>>], known: &[Vec<f32>]) -> Complexity {
    Complexity::of(&task.iter().map(Vec::as_slice).collect::<Vec<_>>(), known)
}

fn means(task: &[Vec<Vec<f32>>]) -> Vec<Vec<f32>> {
    let of =
        |shots: &Vec<Vec<f32>>| ClassStatistics::from_shots(shots).expect("sound shots").mean();
    task.iter().map(of).collect()
}

#[test]
fn harder_and_newer_tasks_are_more_complex() {
    let easy = gaussian_task(1.0, 1);
    let hard = gaussian_task(0.1, 1);
    let of_easy = complexity(&easy, &[]);
    let of_hard = complexity(&hard, &[]);
    assert!(of_easy.difficulty < 0.1 && of_hard.difficulty > 0.4, "{of_easy:?} {of_hard:?}");
    assert!((of_easy.novelty - 1.0).abs() < 1e-12, "everything is new to whom nothing is known");
    let again = complexity(&easy, &means(&easy));
    assert!(again.novelty < 1e-6, "classes that are known are not new: {again:?}");
    let other = complexity(&gaussian_task(1.0, 2), &means(&easy));
    assert!(other.novelty > 0.5, "other directions are new: {other:?}");
    assert!(again.h() < other.h() && other.h() < of_hard.h());
}

#[test]
fn the_drift_map_finds_where_features_went() {
    let mut source = GaussianClasses::new(3, 12, 1.0, 4);
    let before: Vec<Vec<f32>> = (0..3).flat_map(|c| source.shots(c, 40)).collect();
    // A shift and a shear of all features.
    let went = |x: &[f32]| -> Vec<f32> {
        (0..12).map(|i| x[i] + 0.3 * x[(i + 1) % 12] + 0.1 * i as f32).collect()
    };
    let after: Vec<Vec<f32>> = before.iter().map(|x| went(x)).collect();
    let map = DriftMap::fit(&before, &after, 1e-9).expect("sound features");
    let old = source.shots(1, 25);
    let statistics = ClassStatistics::from_shots(&old).expect("sound shots");
    let moved = map.transport(&statistics).expect("finite");
    let truth: Vec<Vec<f32>> = old.iter().map(|x| went(x)).collect();
    let truth = ClassStatistics::from_shots(&truth).expect("sound shots");
    assert_eq!(moved.count(), truth.count());
    for (a, b) in moved.mean().iter().zip(truth.mean()) {
        // Means are stored in f16.
        assert!((a - b).abs() < 4e-3, "{a} {b}");
    }
    let energy = |s: &ClassStatistics| s.scatter().rows().iter().map(|v| v * v).sum::<f32>();
    assert!((energy(&moved) / energy(&truth) - 1.0).abs() < 5e-3);
    let still = DriftMap::fit(&before, &before, 0.1).expect("sound features");
    assert_eq!(still.apply(&before[0]), before[0], "what did not move stays to the bit");
}

struct Toy {
    backbone: Backbone,
    tokens: TokenCache,
    features: Vec<Vec<f32>>,
    classes: Vec<TaskClass>,
}

impl Toy {
    fn new(device: &Device, shots: usize, seed: u64) -> Self {
        let backbone = toy_backbone_on(device);
        let (tokens, labels) = toy_tokens(&backbone, 4, shots, seed);
        let rows: Vec<usize> = (0..labels.len()).collect();
        let found = backbone.suffix(tokens.batch(&rows, backbone.device()));
        let found = found.into_data().try_into_vec::<f32>().expect("f32");
        let features = found.chunks_exact(backbone.d_feature()).map(<[f32]>::to_vec).collect();
        let class = |label: usize| TaskClass {
            name: ClassName::new(&format!("class {label}")).expect("a sound name"),
            rows: rows.iter().copied().filter(|&row| labels[row] == label).collect(),
        };
        Self { classes: (0..4).map(class).collect(), backbone, tokens, features }
    }

    fn task(&self) -> Task<'_> {
        self.seen_as(&self.features)
    }

    /// Returns the task with the features of an adapted network.
    fn seen_as<'a>(&'a self, features: &'a [Vec<f32>]) -> Task<'a> {
        let Self { classes, tokens, .. } = self;
        Task { classes, views: &[], tokens, features, prior: None }
    }
}

fn config(margin: f64) -> AdaptationConfig {
    let training = TrainingConfig {
        epochs: 4,
        batch_size: 8,
        learning_rate: 0.02,
        seed: 2,
        ..TrainingConfig::default()
    };
    let task = TaskConfig { training, ..TaskConfig::default() };
    AdaptationConfig { task, margin, ..AdaptationConfig::default() }
}

/// Returns [`config`] with a fixed rank. DRS would select rank 0 for so few shots.
fn at_any_rank(margin: f64) -> AdaptationConfig {
    AdaptationConfig { fixed_rank: Some(4), ..config(margin) }
}

fn layers() -> AdapterConfig {
    AdapterConfig { rank: 4, n_prompt_tokens: 1, ..AdapterConfig::default() }
}

/// The features of a kept update are those of its adapter. The blank adapter leaves the features of
/// the base. A refused update has no `kept`.
fn a_kept_task_brings_its_own_features_and_a_refused_one_nothing(device: &Device) {
    let toy = Toy::new(device, 10, 1);
    let (blank, outcome) =
        adapt_first(&toy.backbone, toy.task(), &layers(), &at_any_rank(f64::NEG_INFINITY), &mut on)
            .expect("learnt");
    let kept = outcome.kept.expect("everything is kept at this margin");
    let again = adapted_features(&toy.backbone, &kept.adapter, &toy.tokens).expect("computed");
    assert_eq!(again, kept.features);
    let unchanged = adapted_features(&toy.backbone, &blank, &toy.tokens).expect("computed");
    for (a, b) in unchanged.iter().flatten().zip(toy.features.iter().flatten()) {
        // The merged state is empty: the same network, up to rounding.
        assert!((a - b).abs() < 1e-5);
    }
    let (_, refused) =
        adapt_first(&toy.backbone, toy.task(), &layers(), &at_any_rank(f64::INFINITY), &mut on)
            .expect("learnt");
    assert!(refused.kept.is_none() && !refused.judgements.is_empty());
}

fn old_classes_move_with_the_features_and_none_is_lost(device: &Device) {
    let toy = Toy::new(device, 10, 1);
    let keep = at_any_rank(f64::NEG_INFINITY);
    let (_, first) =
        adapt_first(&toy.backbone, toy.task(), &layers(), &keep, &mut on).expect("learnt");
    let first = first.kept.expect("kept");
    let known = with_task(&[], &toy.seen_as(&first.features), |_| true).expect("sound shots");
    let next = Toy::new(device, 10, 9);
    let renamed: Vec<TaskClass> = next
        .classes
        .iter()
        .map(|c| TaskClass {
            name: ClassName::new(&format!("new {}", c.name)).expect("a sound name"),
            rows: c.rows.clone(),
        })
        .collect();
    let features =
        adapted_features(&next.backbone, &first.adapter, &next.tokens).expect("computed");
    let task = Task { classes: &renamed, ..next.seen_as(&features) };
    let config = AdaptationConfig { fixed_rank: Some(4), ..keep };
    let outcome =
        adapt(&next.backbone, &first.adapter, &known, task, &config, &mut on).expect("learnt");
    let kept = outcome.kept.expect("kept");
    let names = |classes: &[Arc<Class>]| classes.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&known), names(&kept.classes));
    // The true means in the new features are closer to the moved means than to the old ones.
    let truth = adapted_features(&toy.backbone, &kept.adapter, &toy.tokens).expect("computed");
    let truth = with_task(&[], &toy.seen_as(&truth), |_| true).expect("sound shots");
    let distance = |a: &[Arc<Class>]| -> f32 {
        let pairs = a.iter().zip(&truth);
        let squares = pairs.flat_map(|(a, b)| {
            let numbers = a.modes[0].mean().into_iter().zip(b.modes[0].mean());
            numbers.map(|(a, b)| (a - b).powi(2)).collect::<Vec<_>>()
        });
        squares.sum()
    };
    let moved = distance(&kept.classes);
    let stale = distance(&known);
    assert!(moved < stale, "moved statistics miss by {moved}, stale ones by {stale}");
}

/// A second set of tokens stands for one view of each shot.
fn a_task_is_trained_by_angles_on_shots_and_views(device: &Device) {
    let toy = Toy::new(device, 6, 1);
    let other = Toy::new(device, 6, 2);
    let n_shots = toy.tokens.len();
    let mut tokens = toy.tokens.clone();
    tokens.append(&other.tokens).expect("the same shape");
    let views: Vec<Range<usize>> =
        (0..n_shots).map(|shot| n_shots + shot..n_shots + shot + 1).collect();
    let features: Vec<Vec<f32>> = toy.features.iter().chain(&other.features).cloned().collect();
    let task = Task { views: &views, tokens: &tokens, ..toy.seen_as(&features) };
    let keep = at_any_rank(f64::NEG_INFINITY);
    let layers = layers();
    let (blank, _) = adapt_first(&toy.backbone, task, &layers, &keep, &mut on).expect("learned");
    let mut config = keep;
    config.task.objective = Objective::OwnAngles;
    let mut steps = 0;
    let mut count = |step: Step| {
        steps = step.of;
        ControlFlow::Continue(())
    };
    let outcome = adapt(&toy.backbone, &blank, &[], task, &config, &mut count).expect("learned");
    // Of the six shots of each of four classes one is held out, with its view: 40 examples in
    // batches of 8, four epochs.
    assert_eq!(steps, 4 * 5);
    assert!(outcome.losses[3] < outcome.losses[0], "{:?}", outcome.losses);
    let kept = outcome.kept.expect("every update is kept at this margin");
    assert_eq!(kept.features.len(), 2 * n_shots, "views are seen by the new network too");
    let after = Task { features: &kept.features, ..task };
    let classes = with_task(&[], &after, |_| true).expect("sound shots");
    assert_eq!(classes[0].count(), 6, "a view is no shot");
}

/// Few shots: with ten shots of each class the first task's update is dropped. With two of each DRS
/// selects rank 0 and nothing is trained.
fn few_shots_are_left_to_the_head(device: &Device) {
    let toy = Toy::new(device, 10, 1);
    let keep = config(f64::NEG_INFINITY);
    let (blank, first) =
        adapt_first(&toy.backbone, toy.task(), &layers(), &keep, &mut on).expect("learnt");
    assert!(first.kept.is_none() && first.rank == 0, "ten shots a class are no reason to move");
    let few = Toy::new(device, 2, 5);
    let outcome = adapt(&few.backbone, &blank, &[], few.task(), &keep, &mut on).expect("learnt");
    assert_eq!((outcome.rank, outcome.n_trained), (0, 0));
    assert!(outcome.kept.is_none());
}
