//! Packed blocks as operations on Burn's tensors, with and without gradients.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, BackendTypes, Flex};
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use super::backward::Asked;
use super::{Activations, BranchGradients, BranchSizes, BranchViews, PackedBlock, Purpose};

/// A tensor of the CPU backend.
type OnCpu = <Flex as BackendTypes>::FloatTensorPrimitive;

/// Pictures that one thread takes at a time, as a share of a batch: small enough to keep all threads busy.
const SHARES_A_THREAD: usize = 4;

/// The block on tokens that carry no gradient.
///
/// # Shapes
///
/// - `tokens` and output: `[batch, tokens, d]`, on the CPU
pub(in crate::vit) fn run(block: &PackedBlock, tokens: Tensor<3>) -> Tensor<3> {
    let [batch, n_tokens, d] = tokens.dims();
    let tokens = tokens.try_into_primitive::<Flex>().expect("the block is packed for the CPU");
    let tokens = tokens.to_contiguous();
    let size = n_tokens * d;
    let mut output = vec![0.0; batch * size];
    let pictures = output.par_chunks_mut(size).zip(values(&tokens).par_chunks(size));
    let at_once = (batch / (SHARES_A_THREAD * rayon::current_num_threads())).max(1);
    pictures.with_min_len(at_once).for_each_init(
        Activations::default,
        |scratch, (output, tokens)| {
            block.forward(tokens, output, scratch, Purpose::Inference);
        },
    );
    Tensor::from_data(TensorData::new(output, [batch, n_tokens, d]), &Device::flex())
}

/// The block with side branches, for tensors of which any may carry a gradient. The branches are added to the
/// weights for the whole batch at once; on the way back each picture gives its part of the gradients, and the
/// parts are added in the order of the pictures, so that the sums repeat to the bit.
///
/// # Shapes
///
/// - `tokens` and output: `[batch, tokens, d]`, on the CPU
/// - `lefts`, `rights`: as [`BranchViews`] describes them
pub(in crate::vit) fn run_with(
    block: &PackedBlock,
    tokens: Tensor<3>,
    lefts: Tensor<1>,
    rights: Tensor<1>,
    sizes: BranchSizes,
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
            let (output, pictures) = forward(&block, &tokens, &sizes);
            let state = Saved { block, tokens, lefts, rights, sizes, pictures };
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
    pictures: Vec<Activations>,
}

fn forward(block: &PackedBlock, tokens: &OnCpu, sizes: &BranchSizes) -> (OnCpu, Vec<Activations>) {
    let shape = tokens.layout().shape().clone();
    let size = shape[1] * shape[2];
    let mut output = vec![0.0; shape[0] * size];
    let pictures = output.par_chunks_mut(size).zip(values(tokens).par_chunks(size));
    let saved = pictures.map(|(output, tokens)| {
        let mut activations = Activations::default();
        block.forward(tokens, output, &mut activations, Purpose::Training);
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
        let asked =
            Asked { tokens: tokens.is_some(), lefts: lefts.is_some(), rights: rights.is_some() };
        let shape = gradient.layout().shape().clone();
        let size = shape[1] * shape[2];
        let branches = BranchViews {
            sizes: &saved.sizes,
            lefts: values(&saved.lefts),
            rights: values(&saved.rights),
        };
        let inputs = values(&saved.tokens).par_chunks(size).zip(values(&gradient).par_chunks(size));
        let back = |((inputs, gradient), picture): ((&[f32], &[f32]), &Activations)| {
            saved.block.backward(inputs, picture, &branches, gradient, asked)
        };
        let found: Vec<(Vec<f32>, BranchGradients)> =
            inputs.zip(&saved.pictures).map(back).collect();
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
