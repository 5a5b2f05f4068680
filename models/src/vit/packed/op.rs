//! Packed blocks as operations on Burn's tensors, without gradients. With gradients:
//! [`super::step`].

use burn::backend::{BackendTypes, Flex};
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use super::split::SplitScratch;
use super::summed::{SUMMED_ROWS, Summing, Sums};
use super::{Activations, PackedBlock, Purpose};

/// A tensor of the CPU backend.
pub(super) type OnCpu = <Flex as BackendTypes>::FloatTensorPrimitive;

/// Rows that keep the kernel of a product busy; each picture has as many as it has tokens.
const ROWS: usize = 128;

/// The requested part of a block's output.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    /// All tokens: `[batch, tokens, d]`.
    Tokens,
    /// Class token and mean of the last tokens, which are patches: `[batch, 2, d]`.
    ClassAndMean {
        /// Number of patches.
        n_patches: usize,
    },
}

/// Runs the block on tokens without gradients.
///
/// # Shapes
///
/// - `tokens`: `[batch, tokens, d]`, on the CPU
/// - output: in the shape of [`Wanted`], on the CPU
pub(in crate::vit) fn run(block: &PackedBlock, tokens: Tensor<3>, wanted: Wanted) -> Tensor<3> {
    let [batch, n_tokens, d] = tokens.dims();
    let tokens = tokens.try_into_primitive::<Flex>().expect("the block is packed for the CPU");
    let tokens = tokens.to_contiguous();
    let (output, rows) = match wanted {
        Wanted::Tokens => (all_tokens(block, n_tokens, values(&tokens)), n_tokens),
        Wanted::ClassAndMean { n_patches } => {
            (class_and_mean(block, Summing { n_tokens, n_patches }, values(&tokens)), SUMMED_ROWS)
        }
    };
    Tensor::from_data(TensorData::new(output, [batch, rows, d]), &Device::flex())
}

fn all_tokens(block: &PackedBlock, n_tokens: usize, tokens: &[f32]) -> Vec<f32> {
    let picture = n_tokens * block.d_model;
    let mut output = vec![0.0; tokens.len()];
    match at_once_of(tokens.len() / picture, n_tokens) {
        AtOnce::Part { n_threads } => {
            let mut scratch = SplitScratch::default();
            let pictures = output.chunks_mut(picture).zip(tokens.chunks(picture));
            for (output, tokens) in pictures {
                block.forward_split(n_threads, tokens, output, &mut scratch);
            }
        }
        AtOnce::Pictures(n) => {
            let pictures = output.par_chunks_mut(n * picture).zip(tokens.par_chunks(n * picture));
            pictures.for_each_init(Activations::default, |scratch, (output, tokens)| {
                block.forward(n_tokens, tokens, output, scratch, Purpose::Inference);
            });
        }
    }
    output
}

fn class_and_mean(block: &PackedBlock, summing: Summing, tokens: &[f32]) -> Vec<f32> {
    let picture = summing.n_tokens * block.d_model;
    let mut sums = Sums::new(block, tokens.len() / picture);
    match at_once_of(tokens.len() / picture, summing.n_tokens) {
        AtOnce::Part { n_threads } => {
            let mut scratch = SplitScratch::default();
            for (sums, tokens) in sums.chunks_mut(block, 1).zip(tokens.chunks(picture)) {
                block.split_to_sums(n_threads, summing, tokens, sums, &mut scratch);
            }
        }
        AtOnce::Pictures(n) => {
            let pictures = sums.par_chunks_mut(block, n).zip(tokens.par_chunks(n * picture));
            pictures.for_each_init(Activations::default, |scratch, (sums, tokens)| {
                block.forward_to_sums(summing, tokens, sums, scratch, Purpose::Inference);
            });
        }
    }
    block.forward_from_sums(&sums)
}

/// Unit of work of one core.
enum AtOnce {
    /// A part of a picture, if there are more cores than pictures.
    Part { n_threads: usize },
    /// A number of pictures.
    Pictures(usize),
}

fn at_once_of(batch: usize, n_tokens: usize) -> AtOnce {
    let n_threads = rayon::current_num_threads();
    if batch < n_threads {
        return AtOnce::Part { n_threads };
    }
    // Bounded so that no thread waits for pictures that another thread has taken.
    AtOnce::Pictures(at_once(n_tokens).min(batch / n_threads).max(1))
}

/// Returns the number of pictures that pass a block together.
pub(super) fn at_once(n_tokens: usize) -> usize {
    ROWS.div_ceil(n_tokens.max(1))
}

pub(super) fn values(tensor: &OnCpu) -> &[f32] {
    tensor.as_slice::<f32>().expect("tokens and branches on the CPU are f32, made contiguous")
}

pub(super) fn on_cpu<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> OnCpu {
    let tensor = Tensor::<D>::from_data(TensorData::new(values, shape), &Device::flex());
    tensor.try_into_primitive::<Flex>().expect("it was just put on the CPU")
}
