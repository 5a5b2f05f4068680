//! A task of 200 pictures for ten epochs: prefix once, then `M_t`, `N_t` and the prompt on cached
//! tokens.
//!
//! `cargo bench --workspace --bench training`

use std::ops::ControlFlow;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use fmlora_learner::{
    Examples, RankSelector, TaskConfig, TaskHead, TokenCache, TrainingConfig, train_task,
};
use fmlora_models::Backbone;
use fmlora_tests::{blank_adapter, embedded_network, wave_pixels};

/// The allocator of the programs.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PICTURES: usize = 200;
const CLASSES: usize = 10;
const EPOCHS: usize = 10;
const RANK: usize = 16;
const PROMPT_TOKENS: usize = 8;
/// Pictures in one forward pass without gradients.
const PASS: usize = 32;

/// Returns the tokens at the input of the first adapted block.
fn prefix(backbone: &Backbone, pixels: &[f32]) -> TokenCache {
    let vit = backbone.vit_config();
    let mut cache = TokenCache::new(vit.n_tokens(), vit.d_model);
    for batch in pixels.chunks(PASS * backbone.n_pixels()) {
        let tokens = backbone.tokens(batch.to_vec()).into_data();
        cache.push(&tokens.try_into_vec::<f32>().expect("f32")).expect("whole pictures");
    }
    cache
}

fn training(criterion: &mut Criterion) {
    let backbone = embedded_network();
    let adapter = blank_adapter(&backbone, RANK, PROMPT_TOKENS);
    let pixels = wave_pixels(&backbone, PICTURES);
    let rows: Vec<usize> = (0..PICTURES).collect();
    let labels: Vec<usize> = rows.iter().map(|row| row % CLASSES).collect();
    let config = TaskConfig {
        training: TrainingConfig { epochs: EPOCHS, patience: None, ..TrainingConfig::default() },
        ..TaskConfig::default()
    };
    let mut group = criterion.benchmark_group("training");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements((PICTURES * EPOCHS) as u64));
    group.bench_function("200 pictures, 10 epochs, prefix once", |bencher| {
        bencher.iter(|| {
            let tokens = prefix(&backbone, &pixels);
            let examples = Examples::new(&tokens, &rows, &labels).expect("sound examples");
            let head = TaskHead::Own(CLASSES);
            let rank = RankSelector::fixed(RANK);
            let mut watch = |_| ControlFlow::Continue(());
            train_task(&backbone, &examples, head, &adapter, &rank, &config, &mut watch)
                .expect("a training that goes well")
        });
    });
    group.finish();
}

criterion_group!(benches, training);
criterion_main!(benches);
