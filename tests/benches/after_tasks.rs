//! What a prediction costs after 1 and after 100 tasks: the tasks are folded into the weights, so the same.
//!
//! `cargo bench -p fmlora-tests --bench after_tasks`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fmlora_learner::format::decode_base;
use fmlora_learner::{
    Adapter, AdapterConfig, Class, ClassName, HeadChoice, Matrix, Predictor, SharedBases,
    SharedBasis, TaskFactors, TaskUpdate, fit_head,
};
use fmlora_models::{Backbone, Place};

/// Pictures of a pass.
const BATCH: usize = 8;
const RANK: usize = 16;
const PROMPT_TOKENS: usize = 8;

fn embedded_network() -> Backbone {
    let path = "../models/base/vit_small6_patch14_112.fmlb";
    let file = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the base");
    let (base, _) = decode_base(&file).expect("a sound base");
    Backbone::new(&base.weights, base.backbone, &Device::flex()).expect("a sound base")
}

fn wave(rows: usize, columns: usize, step: f32) -> Matrix {
    Matrix::from_fn(rows, columns, |i, j| 0.05 * ((i * columns + j) as f32 * step).sin())
}

fn adapter_after(n_tasks: usize, backbone: &Backbone) -> Adapter {
    let vit = backbone.vit_config();
    let layers = AdapterConfig { rank: RANK, ..AdapterConfig::default() };
    let places = layers.places(backbone.config().first_adapted_block, vit);
    let of_layer = |&place: &Place| {
        let (d_in, d_out) = (place.site.d_in(vit), place.site.d_out(vit));
        (place, SharedBasis { a: wave(d_out, RANK, 1.3), b: wave(d_in, RANK, 0.7) })
    };
    let bases = SharedBases::new(RANK, places.iter().map(of_layer).collect());
    let prompt = wave(PROMPT_TOKENS, vit.d_model, 0.9);
    (0..n_tasks).fold(Adapter::new(Arc::new(bases), Some(prompt)), |adapter, task| {
        let step = 0.3 + 0.01 * task as f32;
        let factors = || TaskFactors { m: wave(RANK, RANK, step), n: wave(RANK, RANK, 1.7 * step) };
        let factors: BTreeMap<_, _> = places.iter().map(|&place| (place, factors())).collect();
        // All tasks together move the network as far as one: attention that is driven to its limits makes
        // denormal numbers, which cost time of their own.
        adapter.merge(&TaskUpdate { rank: RANK, factors, prompt_step: None }, 1.0 / n_tasks as f32)
    })
}

/// Ten classes of five shots.
fn predictor(d: usize) -> Predictor {
    let class = |c: usize| {
        let shot = |s: usize| (0..d).map(|i| ((i * (c + 2) + 31 * s) as f32).sin()).collect();
        let shots: Vec<Vec<f32>> = (0..5).map(shot).collect();
        let name = ClassName::new(&format!("class {c}")).expect("a sound name");
        Arc::new(Class::from_shots(name, &shots).expect("sound shots"))
    };
    let classes: Vec<Arc<Class>> = (0..10).map(class).collect();
    fit_head(&classes, d, HeadChoice::Auto, &[]).expect("a head").predictor
}

fn after_tasks(criterion: &mut Criterion) {
    let backbone = embedded_network();
    let pixels: Vec<f32> = (0..BATCH * backbone.n_pixels()).map(|i| (i as f32).sin()).collect();
    let predictor = predictor(backbone.d_feature());
    let mut group = criterion.benchmark_group("prediction");
    group.throughput(Throughput::Elements(BATCH as u64));
    for n_tasks in [1, 100] {
        let adapter = adapter_after(n_tasks, &backbone);
        let folded = backbone.folded(&adapter.side_branches(backbone.device()));
        group.bench_function(format!("after {n_tasks} tasks"), |bencher| {
            bencher.iter(|| {
                let features = folded.features(black_box(pixels.clone())).expect("the CPU works");
                features.iter().map(|feature| predictor.predict(feature, 1)).collect::<Vec<_>>()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, after_tasks);
criterion_main!(benches);
