//! A packed block as an operation of Burn's autodiff: a training step, forward and backward.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Flex};
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::backward::Asked;
use super::op::{OnCpu, Wanted, at_once, on_cpu, values};
use super::summed::{SUMMED_ROWS, Summing, Sums};
use super::{Activations, BranchGradients, BranchSizes, BranchViews, PackedBlock, Purpose};

/// Runs the block with side branches, for tensors of which any may carry a gradient. The branches
/// are added to the weights once for the whole batch. In the backward pass each group of pictures
/// computes its part of the gradients, and the parts are added in the order of the pictures, so
/// that the sums repeat to the bit with any number of threads.
///
/// # Shapes
///
/// - `tokens`: `[batch, tokens, d]`, on the CPU
/// - `lefts`, `rights`: in the layout of [`BranchViews`]
/// - output: in the shape of `wanted`, on the CPU
/// - `back_to`: tokens of each picture for which the gradient is used; the gradient of the others
///   is not complete
pub(in crate::vit) fn run_with(
    block: &PackedBlock,
    tokens: Tensor<3>,
    lefts: Tensor<1>,
    rights: Tensor<1>,
    sizes: BranchSizes,
    wanted: Wanted,
    back_to: Range<usize>,
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
    let (output, kept) = forward(&block, &tokens, &sizes, wanted);
    let output = match prepared {
        OpsKind::Tracked(prepared) => {
            let state = Saved { block, tokens, lefts, rights, sizes, back_to, kept };
            prepared.finish(Arc::new(state), output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

/// A block's backward pass, as an operation of the autodiff backend.
#[derive(Debug)]
struct BlockStep;

/// Inputs of the backward pass.
#[derive(Debug)]
struct Saved {
    block: PackedBlock,
    tokens: OnCpu,
    lefts: OnCpu,
    rights: OnCpu,
    sizes: BranchSizes,
    back_to: Range<usize>,
    kept: Kept,
}

/// Results of a forward pass for the backward pass.
#[derive(Debug)]
struct Kept {
    /// Results of each group of pictures.
    groups: Vec<Activations>,
    /// For a block that returns sums: the summed tokens, and [`Sums::hidden`] of the batch.
    summed: Option<(Summing, Vec<f32>)>,
}

fn forward(
    block: &PackedBlock,
    tokens: &OnCpu,
    sizes: &BranchSizes,
    wanted: Wanted,
) -> (OnCpu, Kept) {
    let shape = tokens.layout().shape().clone();
    let [batch, n_tokens, d] = [shape[0], shape[1], shape[2]];
    let n = at_once(n_tokens);
    let pictures = values(tokens).par_chunks(n * n_tokens * d);
    let keep = |mut activations: Activations| {
        activations.slim(sizes);
        activations
    };
    match wanted {
        Wanted::Tokens => {
            let mut output = vec![0.0; batch * n_tokens * d];
            let groups = output.par_chunks_mut(n * n_tokens * d).zip(pictures);
            let groups = groups.map(|(output, tokens)| {
                let mut a = Activations::default();
                block.forward(n_tokens, tokens, output, &mut a, Purpose::Training);
                keep(a)
            });
            let kept = Kept { groups: groups.collect(), summed: None };
            (on_cpu(output, [batch, n_tokens, d]), kept)
        }
        Wanted::ClassAndMean { n_patches } => {
            let summing = Summing { n_tokens, n_patches };
            let mut sums = Sums::new(block, batch);
            let groups = sums.par_chunks_mut(block, n).zip(pictures);
            let groups = groups.map(|(sums, tokens)| {
                let mut a = Activations::default();
                block.forward_to_sums(summing, tokens, sums, &mut a, Purpose::Training);
                keep(a)
            });
            let groups = groups.collect();
            let output = block.forward_from_sums(&sums);
            let kept = Kept { groups, summed: Some((summing, sums.hidden)) };
            (on_cpu(output, [batch, SUMMED_ROWS, d]), kept)
        }
    }
}

impl Saved {
    /// Computes the gradients of the tokens and of the branches from that of the output.
    fn backward(&self, gradient: &[f32], asked: &Asked) -> (Vec<f32>, BranchGradients) {
        let shape = self.tokens.layout().shape().clone();
        let [n_tokens, d] = [shape[1], shape[2]];
        let n = at_once(n_tokens);
        let branches = BranchViews {
            sizes: &self.sizes,
            lefts: values(&self.lefts),
            rights: values(&self.rights),
        };
        let block = &self.block;
        let groups = values(&self.tokens).par_chunks(n * n_tokens * d).zip(&self.kept.groups);
        let (found, of_fc2): (Vec<_>, _) = match &self.kept.summed {
            None => {
                let groups = groups.zip(gradient.par_chunks(n * n_tokens * d));
                let found = groups.map(|((tokens, saved), gradient)| {
                    block.backward(n_tokens, tokens, saved, &branches, gradient, asked)
                });
                (found.collect(), BranchGradients::default())
            }
            Some((summing, hidden)) => {
                let (mut sums, of_fc2) =
                    block.backward_to_sums(*summing, hidden, &branches, gradient, asked);
                let groups = groups.zip(sums.par_chunks_mut(block, n));
                let found = groups.map(|((tokens, saved), sums)| {
                    block.backward_from_sums(*summing, tokens, saved, &branches, &sums, asked)
                });
                (found.collect(), of_fc2)
            }
        };
        let of_tokens = match &asked.tokens {
            Some(_) => found.iter().flat_map(|(tokens, _)| tokens.iter().copied()).collect(),
            None => Vec::new(),
        };
        let sum = |sum: BranchGradients, (_, more): &(_, BranchGradients)| sum.add(more);
        let mut sum = found.iter().fold(BranchGradients::default(), sum);
        // `fc2` is the last of a block's sites.
        sum.lefts.extend(of_fc2.lefts);
        sum.rights.extend(of_fc2.rights);
        (of_tokens, sum)
    }
}

impl Backward<Flex, 3> for BlockStep {
    type State = Arc<Saved>;

    fn backward(self, ops: Ops<Arc<Saved>, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let saved = &ops.state;
        let [tokens, lefts, rights] = &ops.parents;
        let asked = Asked {
            tokens: tokens.as_ref().map(|_| saved.back_to.clone()),
            lefts: lefts.is_some(),
            rights: rights.is_some(),
        };
        let (of_tokens, of_branches) = saved.backward(values(&gradient), &asked);
        if let Some(node) = tokens {
            let shape = saved.tokens.layout().shape();
            let of_tokens = on_cpu(of_tokens, [shape[0], shape[1], shape[2]]);
            grads.register::<Flex>(node.id, of_tokens);
        }
        for (node, values) in [(lefts, of_branches.lefts), (rights, of_branches.rights)] {
            if let Some(node) = node {
                let n = values.len();
                grads.register::<Flex>(node.id, on_cpu(values, [n]));
            }
        }
    }
}
