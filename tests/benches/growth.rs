//! Growth of the cost of a prediction: with tasks (constant, because they are folded into the
//! weights), with classes, and with the size of the picture.
//!
//! `cargo bench --workspace --bench growth`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fmlora_learner::{
    Adapter, Class, ClassName, HeadChoice, Predictor, TaskFactors, TaskUpdate, fit_head,
};
use fmlora_models::{Backbone, Place};
use fmlora_tests::{blank_adapter, embedded_network, random_network, wave_matrix, wave_pixels};

/// The allocator of the programs.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Pictures in one forward pass.
const BATCH: usize = 8;
const RANK: usize = 16;
const PROMPT_TOKENS: usize = 8;
/// Shots of each class.
const SHOTS: usize = 5;

fn adapter_after(n_tasks: usize, backbone: &Backbone) -> Adapter {
    let blank = blank_adapter(backbone, RANK, PROMPT_TOKENS);
    let places: Vec<Place> = blank.bases().by_place().keys().copied().collect();
    (0..n_tasks).fold(blank, |adapter, task| {
        let step = 0.3 + 0.01 * task as f32;
        let matrix = |step| wave_matrix(RANK, RANK, step);
        let factors = || TaskFactors { m: matrix(step), n: matrix(1.7 * step) };
        let factors: BTreeMap<_, _> = places.iter().map(|&place| (place, factors())).collect();
        // All tasks together move the network as far as one task: attention at its limits produces
        // denormal numbers, which would cost time of their own.
        adapter.merge(&TaskUpdate { rank: RANK, factors, prompt_step: None }, 1.0 / n_tasks as f32)
    })
}

fn predictor(n_classes: usize, d: usize) -> Predictor {
    let class = |c: usize| {
        let shot = |s: usize| (0..d).map(|i| ((i * (c + 2) + 31 * s) as f32).sin()).collect();
        let shots: Vec<Vec<f32>> = (0..SHOTS).map(shot).collect();
        let name = ClassName::new(&format!("class {c}")).expect("a sound name");
        Arc::new(Class::from_shots(name, &shots).expect("sound shots"))
    };
    let classes: Vec<Arc<Class>> = (0..n_classes).map(class).collect();
    fit_head(&classes, d, None, HeadChoice::Auto, &[]).expect("a head").predictor
}

fn tasks(criterion: &mut Criterion) {
    let backbone = embedded_network();
    let pixels = wave_pixels(&backbone, BATCH);
    let predictor = predictor(10, backbone.d_feature());
    let mut group = criterion.benchmark_group("tasks");
    group.throughput(Throughput::Elements(BATCH as u64));
    for n_tasks in [1, 10, 100] {
        let adapter = adapter_after(n_tasks, &backbone);
        let folded = backbone.folded(&adapter.side_branches(backbone.device()));
        group.bench_function(n_tasks.to_string(), |bencher| {
            bencher.iter(|| {
                let features = folded.features(black_box(pixels.clone())).expect("the CPU works");
                features.iter().map(|feature| predictor.predict(feature, 1)).collect::<Vec<_>>()
            });
        });
    }
    group.finish();
}

/// The head alone: the cost of classes on top of the forward pass.
fn classes(criterion: &mut Criterion) {
    let d = 1536;
    let feature: Vec<f32> = (0..d).map(|i| (i as f32 * 0.7).sin()).collect();
    let mut group = criterion.benchmark_group("classes");
    group.throughput(Throughput::Elements(1));
    for n_classes in [10, 100, 1000] {
        let predictor = predictor(n_classes, d);
        group.bench_function(n_classes.to_string(), |bencher| {
            bencher.iter(|| predictor.predict(black_box(&feature), 3));
        });
    }
    group.finish();
}

fn image_size(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("image size");
    group.sample_size(20).throughput(Throughput::Elements(BATCH as u64));
    for size in [56, 112, 168, 224] {
        let backbone = random_network("vit_small6_patch14_112", Some(size));
        let pixels = wave_pixels(&backbone, BATCH);
        group.bench_function(size.to_string(), |bencher| {
            bencher.iter(|| backbone.features(black_box(pixels.clone())).expect("the CPU works"));
        });
    }
    group.finish();
}

criterion_group!(benches, tasks, classes, image_size);
criterion_main!(benches);
