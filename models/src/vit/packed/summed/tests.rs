//! The block with sums computes the same as the whole block, forward and backward.

use burn::tensor::{Device, Tensor, TensorData};

use super::super::{BranchSizes, PackedBlock, Wanted, run, run_with};
use crate::side_branch::Site;
use crate::vit::Vit;
use crate::{VitConfig, VitWeights};

/// The same terms, summed in another order.
const TOLERANCE: f32 = 1e-5;

const PATCHES: usize = 25;
const RANK: usize = 3;

/// Numbers of pictures in a batch: fewer than cores, one per core, uneven, and several groups.
const BATCHES: [usize; 4] = [1, 2, 3, 8];

/// Registers and prompt between the class token and the patches.
const BETWEEN: [usize; 3] = [0, 1, 7];

fn config(layer_scale: bool) -> VitConfig {
    VitConfig {
        image_size: 40,
        patch_size: 8,
        d_model: 24,
        depth: 1,
        n_heads: 3,
        d_mlp: 40,
        n_registers: 0,
        n_prefix_positions: 1,
        layer_scale,
    }
}

fn block(config: &VitConfig) -> PackedBlock {
    let weights = VitWeights::random(config.clone(), 5).expect("a sound shape");
    PackedBlock::new(&Vit::new(&weights, &Device::flex()).blocks[0], config)
}

fn wave<const D: usize>(shape: [usize; D], step: f32) -> Tensor<D> {
    let n = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| (i as f32 * step).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// Returns class token and mean of the patches of all tokens.
fn summed(tokens: &Tensor<3>) -> Tensor<3> {
    let n = tokens.dims()[1];
    let mean = tokens.clone().narrow(1, n - PATCHES, PATCHES).mean_dim(1);
    Tensor::cat(vec![tokens.clone().narrow(1, 0, 1), mean], 1)
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec::<f32>().expect("f32 on the CPU")
}

/// Returns the largest difference, as a share of the largest number.
fn apart(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f32, |l, v| l.max(v.abs()));
    assert!(largest > 1e-6, "nothing to compare");
    found.iter().zip(expected).fold(0.0f32, |l, (f, e)| l.max((f - e).abs())) / largest
}

#[test]
fn class_token_and_mean_are_those_of_the_whole_block() {
    let mut failures = Vec::new();
    for layer_scale in [false, true] {
        let config = config(layer_scale);
        let block = block(&config);
        for (batch, between) in BATCHES.iter().flat_map(|&b| BETWEEN.map(|n| (b, n))) {
            let tokens = wave([batch, 1 + between + PATCHES, config.d_model], 0.37);
            let expected = summed(&run(&block, tokens.clone(), Wanted::Tokens));
            let found = run(&block, tokens, Wanted::ClassAndMean { n_patches: PATCHES });
            assert_eq!(found.dims(), [batch, 2, config.d_model]);
            let apart = apart(&numbers(found), &numbers(expected));
            if apart.is_nan() || apart > TOLERANCE {
                failures.push(format!(
                    "{batch} pictures, {between} between, scales {layer_scale}: {apart:.1e}"
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Returns the output and the gradients of tokens and branches.
fn step(block: &PackedBlock, config: &VitConfig, shape: [usize; 3], short: bool) -> [Vec<f32>; 4] {
    let mut sizes = BranchSizes::default();
    let mut lefts = 0;
    let mut rights = 0;
    for site in Site::ALL {
        sizes.push(site, RANK, config);
        lefts += site.d_in(config) * RANK;
        rights += RANK * site.d_out(config);
    }
    let leaf = |t: Tensor<1>| t.mul_scalar(0.2).autodiff().require_grad();
    let lefts = leaf(wave([lefts], 0.71));
    let rights = leaf(wave([rights], 0.53));
    let tokens = wave(shape, 0.37).autodiff().require_grad();
    let wanted = if short { Wanted::ClassAndMean { n_patches: PATCHES } } else { Wanted::Tokens };
    let l = lefts.clone();
    let r = rights.clone();
    let output = run_with(block, tokens.clone(), l, r, sizes, wanted, 0..shape[1]);
    let output = if short { output } else { summed(&output) };
    let gradients = (output.clone() * wave(output.dims(), 0.19)).sum().backward();
    let of_tokens = tokens.grad(&gradients).expect("a gradient of the tokens");
    let of_lefts = lefts.grad(&gradients).expect("a gradient of the lefts");
    let of_rights = rights.grad(&gradients).expect("a gradient of the rights");
    [
        numbers(output.inner()),
        numbers(of_tokens.inner()),
        numbers(of_lefts.inner()),
        numbers(of_rights.inner()),
    ]
}

#[test]
fn gradients_are_those_of_the_whole_block() {
    let mut failures = Vec::new();
    for layer_scale in [false, true] {
        let config = config(layer_scale);
        let block = block(&config);
        for (batch, between) in BATCHES.iter().flat_map(|&b| BETWEEN.map(|n| (b, n))) {
            let shape = [batch, 1 + between + PATCHES, config.d_model];
            let expected = step(&block, &config, shape, false);
            let found = step(&block, &config, shape, true);
            let names = ["output", "tokens", "lefts", "rights"];
            for (name, (found, expected)) in names.iter().zip(found.iter().zip(&expected)) {
                let apart = apart(found, expected);
                if apart.is_nan() || apart > TOLERANCE {
                    failures.push(format!(
                        "{name}, {batch} pictures, {between} between, scales {layer_scale}: {apart:.1e}"
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
