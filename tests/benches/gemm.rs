//! One large product, as a reference for the speed of forward passes, and the products of a block
//! in training with numbers of 32 and of 8 bits. The first is not an upper bound: a forward pass
//! with factors that stay in the caches is a little faster (docs/performance.md).
//!
//! `cargo bench --workspace --bench gemm`; criterion's "elements" are operations.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix, QuantParams};
use rten_tensor::NdTensorView;

/// Rows and columns of both factors.
const SIDE: usize = 1024;

/// Rows that pass a block together in training: two pictures of 65 tokens and 8 prompt tokens.
const ROWS: usize = 146;

/// Width of the embedded base.
const D: usize = 384;

/// Inputs and outputs of a block's products: forwards, then backwards.
const PRODUCTS: [[usize; 2]; 8] =
    [[D, 3 * D], [D, D], [D, 4 * D], [4 * D, D], [D, 4 * D], [4 * D, D], [D, D], [3 * D, D]];

/// Zero point of a row of 8 bits.
const ZERO: u8 = 128;

fn wave(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.37).sin()).collect()
}

fn gemm(criterion: &mut Criterion) {
    let wave = wave(SIDE * SIDE);
    let factor = NdTensorView::from_data([SIDE, SIDE], &wave[..]);
    let products = GemmExecutor::<f32, f32, f32>::default();
    let packed = products.prepack_b(factor);
    let mut output = vec![0.0; SIDE * SIDE];
    let mut group = criterion.benchmark_group("gemm");
    group.throughput(Throughput::Elements(2 * (SIDE as u64).pow(3)));
    group.bench_function(SIDE.to_string(), |bencher| {
        bencher.iter(|| {
            let left = GemmInputA::Unpacked(factor);
            let right = GemmInputB::Packed(&packed);
            products
                .gemm(black_box(&mut output), left, right, GemmOptions::default())
                .expect("square");
        });
    });
    group.finish();
}

/// Rows of 8 bits, each scaled by its largest number.
struct Quantised {
    rows: Vec<u8>,
    scales: Vec<f32>,
}

impl Quantised {
    fn new(input: &[f32], width: usize) -> Self {
        let mut quantised = Self { rows: vec![ZERO; input.len()], scales: Vec::new() };
        for (row, to) in input.chunks_exact(width).zip(quantised.rows.chunks_exact_mut(width)) {
            let largest = row.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
            let gain = f32::from(i8::MAX) / largest;
            to.iter_mut().zip(row).for_each(|(q, x)| *q = (x * gain + 128.5) as u8);
            quantised.scales.push(1.0 / gain);
        }
        quantised
    }

    fn times(&self, weight: &PackedBMatrix<i8>, width: usize, sums: &mut [i32]) {
        let rows = NdTensorView::from_data([ROWS, width], &self.rows[..]);
        let zeros = [ZERO; ROWS];
        let options = GemmOptions {
            a_quant: Some(QuantParams { zero_point: &zeros }),
            ..GemmOptions::default()
        };
        GemmExecutor::<u8, i8, i32>::default()
            .gemm(sums, GemmInputA::Unpacked(rows), GemmInputB::Packed(weight), options)
            .expect("the sizes agree");
    }

    fn widen(&self, sums: &[i32], width: usize, output: &mut [f32]) {
        let rows = output.chunks_exact_mut(width).zip(sums.chunks_exact(width));
        for ((row, sums), scale) in rows.zip(&self.scales) {
            row.iter_mut().zip(sums).for_each(|(y, sum)| *y = *sum as f32 * scale);
        }
    }
}

fn block(criterion: &mut Criterion) {
    let operations: usize = PRODUCTS.iter().map(|[k, n]| 2 * ROWS * k * n).sum();
    let inputs = PRODUCTS.map(|[k, _]| wave(ROWS * k));
    let weights = PRODUCTS.map(|[k, n]| wave(k * n));
    let bytes = weights.each_ref().map(|w| w.iter().map(|x| (127.0 * x) as i8).collect::<Vec<_>>());
    let floats = GemmExecutor::<f32>::default();
    let integers = GemmExecutor::<u8, i8, i32>::default();
    let shaped = || PRODUCTS.into_iter().enumerate();
    let packed: Vec<_> = shaped()
        .map(|(i, shape)| floats.prepack_b(NdTensorView::from_data(shape, &weights[i][..])))
        .collect();
    let packed_bytes: Vec<_> = shaped()
        .map(|(i, shape)| integers.prepack_b(NdTensorView::from_data(shape, &bytes[i][..])))
        .collect();
    let quantised: Vec<_> = shaped().map(|(i, [k, _])| Quantised::new(&inputs[i], k)).collect();
    let mut output = vec![0.0; 4 * D * ROWS];
    let mut sums = vec![0; 4 * D * ROWS];
    let mut group = criterion.benchmark_group("block");
    group.throughput(Throughput::Elements(operations as u64));
    group.bench_function("f32", |bencher| {
        bencher.iter(|| {
            for (i, [k, n]) in shaped() {
                let left = GemmInputA::Unpacked(NdTensorView::from_data([ROWS, k], &inputs[i][..]));
                let output = &mut output[..ROWS * n];
                let right = GemmInputB::Packed(&packed[i]);
                floats.gemm(output, left, right, GemmOptions::default()).expect("the sizes agree");
            }
        });
    });
    group.bench_function("int8, products alone", |bencher| {
        bencher.iter(|| {
            for (i, [k, n]) in shaped() {
                quantised[i].times(&packed_bytes[i], k, &mut sums[..ROWS * n]);
            }
        });
    });
    group.bench_function("int8, from f32 to f32", |bencher| {
        bencher.iter(|| {
            for (i, [k, n]) in shaped() {
                let quantised = Quantised::new(&inputs[i], k);
                quantised.times(&packed_bytes[i], k, &mut sums[..ROWS * n]);
                quantised.widen(&sums[..ROWS * n], n, &mut output[..ROWS * n]);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, gemm, block);
criterion_main!(benches);
