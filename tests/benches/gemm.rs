//! One large product, to hold the speed of forward passes against. Not a bound: a forward pass whose factors stay
//! in the caches does a little better (docs/performance.md).
//!
//! `cargo bench --workspace --bench gemm`; criterion's "elements" are floating point operations.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;

/// Rows and columns of both factors.
const SIDE: usize = 1024;

fn gemm(criterion: &mut Criterion) {
    let wave: Vec<f32> = (0..SIDE * SIDE).map(|i| (i as f32 * 0.37).sin()).collect();
    let factor = NdTensorView::from_data([SIDE, SIDE], &wave[..]);
    let products = GemmExecutor::<f32, f32, f32>::default();
    let packed = products.prepack_b(factor);
    let mut output = vec![0.0; SIDE * SIDE];
    let mut group = criterion.benchmark_group("gemm");
    group.throughput(Throughput::Elements(2 * (SIDE as u64).pow(3)));
    group.bench_function(SIDE.to_string(), |bencher| {
        bencher.iter(|| {
            let (left, right) = (GemmInputA::Unpacked(factor), GemmInputB::Packed(&packed));
            products
                .gemm(black_box(&mut output), left, right, GemmOptions::default())
                .expect("square");
        });
    });
    group.finish();
}

criterion_group!(benches, gemm);
criterion_main!(benches);
