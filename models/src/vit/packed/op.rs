//! Packed blocks as operations on Burn's tensors, with and without gradients.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, BackendTypes, Flex};
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use super::backward::Asked;
use super::split::SplitScratch;
use super::{Activations, BranchGradients, BranchSizes, BranchViews, PackedBlock, Purpose};

/// A tensor of the CPU backend.
type OnCpu = <Flex as BackendTypes>::FloatTensorPrimitive;

/// Rows of a product that keep its kernel busy: each picture brings as many as it has tokens.
const ROWS: usize = 128;

/// The block on tokens that carry no gradient.
///
/// # Shapes
///
/// - `tokens` and output: `[batch, tokens, d]`, on the CPU
pub(in crate::vit) fn run(block: &PackedBlock, tokens: Tensor<3>) -> Tensor<3> {
    let [batch, n_tokens, d] = tokens.dims();
    let tokens = tokens.try_into_primitive::<Flex>().expect("the block is packed for the CPU");
    let tokens = tokens.to_contiguous();
    let (n_threads, mut output) = (rayon::current_num_threads(), vec![0.0; batch * n_tokens * d]);
    let shape = [batch, n_tokens, d];
    if batch < n_threads {
        let mut scratch = SplitScratch::default();
        let pictures = output.chunks_mut(n_tokens * d).zip(values(&tokens).chunks(n_tokens * d));
        for (output, tokens) in pictures {
            block.forward_split(n_threads, tokens, output, &mut scratch);
        }
        return Tensor::from_data(TensorData::new(output, shape), &Device::flex());
    }
    // No thread shall wait for a picture that another has taken in.
    let size = n_tokens * d * at_once(n_tokens).min(batch / n_threads).max(1);
    let pictures = output.par_chunks_mut(size).zip(values(&tokens).par_chunks(size));
    pictures.for_each_init(Activations::default, |scratch, (output, tokens)| {
        block.forward(n_tokens, tokens, output, scratch, Purpose::Inference);
    });
    Tensor::from_data(TensorData::new(output, shape), &Device::flex())
}

/// Pictures that go through a block together.
fn at_once(n_tokens: usize) -> usize {
    ROWS.div_ceil(n_tokens.max(1))
}

/// The block with side branches, for tensors of which any may carry a gradient. The branches are added to the
/// weights for the whole batch at once; on the way back the pictures that went together give their part of the
/// gradients, and the parts are added in the order of the pictures, so that the sums repeat to the bit, however
/// many threads there are.
///
/// # Shapes
///
/// - `tokens` and output: `[batch, tokens, d]`, on the CPU
/// - `lefts`, `rights`: as [`BranchViews`] describes them
/// - `wanted`: tokens of each picture whose gradient anybody asks for; that of the others is not whole
pub(in crate::vit) fn run_with(
    block: &PackedBlock,
    tokens: Tensor<3>,
    lefts: Tensor<1>,
    rights: Tensor<1>,
    sizes: BranchSizes,
    wanted: Range<usize>,
) -> Tensor<3> {
    let on_cpu = "the block is packed for the CPU";
    let tokens = tokens.autodiff().try_into_primitive::<Autodiff<Flex>>().expect(on_cpu);
    let lefts = lefts.autodiff().try_into_primitive::<Autodiff<Flex>>().expect(on_cpu);
    let rights = rights.autodiff().try_into_primitive::<Autodiff<Flex>>().expect(on_cpu);
    let nodes = [tokens.node(), lefts.node(), rights.node()];
    let [tokens, lefts, rights] =
        [tokens, lefts, rights].map(|t| t.into_primitive().to_contiguous());
    let branches = BranchViews { sizes: &sizes, lefts: values(&lefts), rights: values(&rights) };
    let block = block.folded(&branches);
    let prepared = BlockStep.prepare::<NoCheckpointing>(nodes).compute_bound().stateful();
    let output = match prepared {
        OpsKind::Tracked(prepared) => {
            let (output, groups) = forward(&block, &tokens, &sizes);
            let state = Saved { block, tokens, lefts, rights, sizes, wanted, groups };
            prepared.finish(Arc::new(state), output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(forward(&block, &tokens, &sizes).0),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

/// A block's way back, as the autodiff backend knows it.
#[derive(Debug)]
struct BlockStep;

/// What the way back needs.
#[derive(Debug)]
struct Saved {
    block: PackedBlock,
    tokens: OnCpu,
    lefts: OnCpu,
    rights: OnCpu,
    sizes: BranchSizes,
    wanted: Range<usize>,
    /// Of the pictures that went together.
    groups: Vec<Activations>,
}

fn forward(block: &PackedBlock, tokens: &OnCpu, sizes: &BranchSizes) -> (OnCpu, Vec<Activations>) {
    let shape = tokens.layout().shape().clone();
    let (n_tokens, size) = (shape[1], at_once(shape[1]) * shape[1] * shape[2]);
    let mut output = vec![0.0; shape[0] * shape[1] * shape[2]];
    let groups = output.par_chunks_mut(size).zip(values(tokens).par_chunks(size));
    let saved = groups.map(|(output, tokens)| {
        let mut activations = Activations::default();
        block.forward(n_tokens, tokens, output, &mut activations, Purpose::Training);
        activations.slim(sizes);
        activations
    });
    let saved = saved.collect();
    (on_cpu(output, [shape[0], shape[1], shape[2]]), saved)
}

impl Backward<Flex, 3> for BlockStep {
    type State = Arc<Saved>;

    fn backward(self, ops: Ops<Arc<Saved>, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let saved = &ops.state;
        let [tokens, lefts, rights] = &ops.parents;
        let asked = Asked {
            tokens: tokens.as_ref().map(|_| saved.wanted.clone()),
            lefts: lefts.is_some(),
            rights: rights.is_some(),
        };
        let shape = gradient.layout().shape().clone();
        let (n_tokens, size) = (shape[1], at_once(shape[1]) * shape[1] * shape[2]);
        let branches = BranchViews {
            sizes: &saved.sizes,
            lefts: values(&saved.lefts),
            rights: values(&saved.rights),
        };
        let inputs = values(&saved.tokens).par_chunks(size).zip(values(&gradient).par_chunks(size));
        let back = |((inputs, gradient), group): ((&[f32], &[f32]), &Activations)| {
            saved.block.backward(n_tokens, inputs, group, &branches, gradient, &asked)
        };
        let found: Vec<(Vec<f32>, BranchGradients)> = inputs.zip(&saved.groups).map(back).collect();
        if let Some(node) = tokens {
            let all = found.iter().flat_map(|(of_tokens, _)| of_tokens.iter().copied()).collect();
            grads.register::<Flex>(node.id, on_cpu(all, [shape[0], shape[1], shape[2]]));
        }
        let sum = |sum: BranchGradients, (_, more): &(_, BranchGradients)| sum.add(more);
        let sum = found.iter().fold(BranchGradients::default(), sum);
        for (node, values) in [(lefts, sum.lefts), (rights, sum.rights)] {
            if let Some(node) = node {
                let n = values.len();
                grads.register::<Flex>(node.id, on_cpu(values, [n]));
            }
        }
    }
}

fn values(tensor: &OnCpu) -> &[f32] {
    tensor.as_slice::<f32>().expect("tokens and branches on the CPU are f32, made contiguous")
}

fn on_cpu<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> OnCpu {
    let tensor = Tensor::<D>::from_data(TensorData::new(values, shape), &Device::flex());
    tensor.try_into_primitive::<Flex>().expect("it was just put on the CPU")
}
