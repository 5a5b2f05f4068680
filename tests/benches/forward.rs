//! Forward passes from preprocessed pixels to features.
//!
//! `cargo bench --workspace --bench forward`; `against_pytorch.py` measures the same rows in
//! PyTorch.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fmlora_models::{Backbone, SideBranches};
use fmlora_tests::{embedded_network, random_network, wave_pixels};

/// The allocator of the programs.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn forward(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    group.sample_size(20);
    let mut row = |name: &str, backbone: &Backbone, batch: usize| {
        let pixels = wave_pixels(backbone, batch);
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("{name}/{batch}"), |bencher| {
            bencher.iter(|| backbone.features(black_box(pixels.clone())).expect("the CPU works"));
        });
    };
    let embedded = embedded_network();
    for batch in [1, 8, 32] {
        row("embedded", &embedded, batch);
    }
    for name in ["vit_tiny_patch16_224", "vit_small_patch16_224"] {
        row(name, &random_network(name, None), 8);
    }
    group.finish();
}

/// The suffix of eight pictures in packed blocks, as on the CPU, and tensor by tensor, as on every
/// other device.
fn both_ways(criterion: &mut Criterion) {
    let backbone = embedded_network();
    let tokens = backbone.tokens(wave_pixels(&backbone, 8));
    let mut group = criterion.benchmark_group("suffix");
    group.sample_size(20).throughput(Throughput::Elements(8));
    group.bench_function("packed", |bencher| {
        bencher.iter(|| backbone.suffix(black_box(tokens.clone())).into_data());
    });
    let none = SideBranches::default();
    group.bench_function("tensor by tensor", |bencher| {
        bencher.iter(|| {
            // A pass with an observer goes tensor by tensor.
            let mut ignore = |_, _| ();
            backbone.suffix_with(black_box(tokens.clone()), &none, Some(&mut ignore)).into_data()
        });
    });
    group.finish();
}

criterion_group!(benches, forward, both_ways);
criterion_main!(benches);
