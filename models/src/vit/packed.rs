//! A block for the CPU: weights packed once, a few pictures at a time, all work between two
//! products in one pass.
//!
//! Tensor by tensor, a block reads and writes each intermediate result from memory, and everything
//! but the products runs on one core. With a few pictures at a time, the results stay in a core's
//! own cache, and all cores work all the time (docs/performance.md). The results are those of
//! [`Block`](super::block::Block), which every other device uses.

mod attention;
mod backward;
mod linear;
mod norm;
mod op;
mod split;
mod step;
mod summed;

use std::sync::Arc;

use rten_simd::SimdUnaryOp;
use rten_vecmath::Gelu;

use super::block::Block;
use crate::VitConfig;
use crate::side_branch::Site;
use attention::{AttentionShape, attend};
pub(super) use backward::{BranchGradients, BranchSizes, BranchViews};
use linear::PackedLinear;
use norm::{Norm, Standing};
pub(crate) use op::Wanted;
pub(super) use op::run;
pub(super) use step::run_with;

/// One block's weights, in the order in which the products read them.
#[derive(Debug, Clone)]
pub(super) struct PackedBlock {
    norm1: Arc<Norm>,
    qkv: PackedLinear,
    proj: PackedLinear,
    norm2: Arc<Norm>,
    fc1: PackedLinear,
    fc2: PackedLinear,
    /// LayerScale of both branches.
    scales: Option<Arc<[Vec<f32>; 2]>>,
    d_model: usize,
    n_heads: usize,
}

/// Rows that pass the MLP together in inference: the results between its two layers stay in a
/// core's cache.
const MLP_ROWS: usize = 66;

/// Rows that rten-gemm computes at a time, on all processors but ARM's.
const KERNEL_ROWS: usize = 6;

/// Intermediate results of a block for a few pictures: scratch in inference, and input of the
/// backward pass in training. The tokens of the pictures are concatenated: `tokens` in a shape
/// means those of all pictures. In a block that returns sums ([`summed`]), everything from `heads`
/// on has class tokens and patches alone.
#[derive(Debug, Default)]
pub(super) struct Activations {
    /// Mean and reciprocal deviation of each token before the first norm.
    standing1: Vec<Standing>,
    /// Query, key and value: `[tokens, 3 d]`.
    qkv: Vec<f32>,
    /// Attention of each picture's heads: `[pictures, heads, n_tokens, n_tokens]`.
    weights: Vec<f32>,
    /// Output of all heads: `[tokens, d]`.
    heads: Vec<f32>,
    /// Tokens between the two halves of the block: `[tokens, d]`.
    middle: Vec<f32>,
    /// Mean and reciprocal deviation of each token before the second norm.
    standing2: Vec<Standing>,
    /// Output of the first layer of the MLP after GELU: `[tokens, d_mlp]`.
    hidden: Vec<f32>,
    /// Slope of GELU at its inputs: `[tokens, d_mlp]`; empty in inference.
    slope: Vec<f32>,
    /// A norm's output, then a branch's: `[tokens, d]`.
    normed: Vec<f32>,
    branch: Vec<f32>,
    /// One head at a time: `[n_tokens, d / heads]`.
    head: Vec<f32>,
}

/// Selects inference or training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// No backward pass follows: all results are scratch.
    Inference,
    /// A backward pass follows: the slopes of GELU are also stored.
    Training,
}

impl PackedBlock {
    /// Packs a block with weights on the CPU.
    pub(super) fn new(block: &Block, config: &VitConfig) -> Self {
        let scales = block.scales.as_ref().map(|scales| {
            let numbers =
                |scale: &burn::module::Param<burn::tensor::Tensor<1>>| linear::numbers(scale.val());
            Arc::new([numbers(&scales[0]), numbers(&scales[1])])
        });
        Self {
            norm1: Arc::new(Norm::new(&block.norm1)),
            qkv: PackedLinear::new(&block.attn.qkv),
            proj: PackedLinear::new(&block.attn.proj),
            norm2: Arc::new(Norm::new(&block.norm2)),
            fc1: PackedLinear::new(&block.mlp.fc1),
            fc2: PackedLinear::new(&block.mlp.fc2),
            scales,
            d_model: config.d_model,
            n_heads: config.n_heads,
        }
    }

    /// Returns the same block with the layers of these sites taken from `block`. All other layers
    /// are shared.
    pub(super) fn with_layers_of(&self, block: &Block, sites: &[Site]) -> Self {
        let mut packed = self.clone();
        if sites.iter().any(|site| matches!(site, Site::Query | Site::Key | Site::Value)) {
            packed.qkv = PackedLinear::new(&block.attn.qkv);
        }
        for site in sites {
            match site {
                Site::Query | Site::Key | Site::Value => {}
                Site::Proj => packed.proj = PackedLinear::new(&block.attn.proj),
                Site::Fc1 => packed.fc1 = PackedLinear::new(&block.mlp.fc1),
                Site::Fc2 => packed.fc2 = PackedLinear::new(&block.mlp.fc2),
            }
        }
        packed
    }

    fn shape(&self, n_tokens: usize) -> AttentionShape {
        AttentionShape { n_tokens, d_model: self.d_model, n_heads: self.n_heads }
    }

    /// Runs the block on pictures of `n_tokens` tokens each.
    ///
    /// # Shapes
    ///
    /// - `tokens` and `output`: `[pictures n_tokens, d]`
    fn forward(
        &self,
        n_tokens: usize,
        tokens: &[f32],
        output: &mut [f32],
        a: &mut Activations,
        purpose: Purpose,
    ) {
        self.queries(tokens, a);
        attend(self.shape(n_tokens), &a.qkv, &mut a.weights, &mut a.head, &mut a.heads);
        let d = self.d_model;
        let heads = std::mem::take(&mut a.heads);
        let rows = match purpose {
            Purpose::Inference => {
                even_rows(tokens.len() / d, (tokens.len() / d).div_ceil(MLP_ROWS))
            }
            Purpose::Training => tokens.len() / d,
        };
        let parts = tokens.chunks(rows * d).zip(heads.chunks(rows * d));
        for ((tokens, heads), output) in parts.zip(output.chunks_mut(rows * d)) {
            self.after_attention(tokens, heads, output, a, purpose);
        }
        a.heads = heads;
    }

    /// Computes query, key and value of the tokens.
    fn queries(&self, tokens: &[f32], a: &mut Activations) {
        self.norm1.apply(tokens, &mut a.normed, &mut a.standing1);
        self.qkv.apply(&a.normed, &mut a.qkv);
    }

    /// Computes the part of the block after attention, which works on each token separately.
    fn after_attention(
        &self,
        tokens: &[f32],
        heads: &[f32],
        output: &mut [f32],
        a: &mut Activations,
        purpose: Purpose,
    ) {
        self.to_hidden(tokens, heads, a, purpose);
        self.fc2.apply(&a.hidden, &mut a.branch);
        add(&a.middle, &a.branch, self.scale(1), output);
    }

    /// Computes the part after attention up to GELU.
    fn to_hidden(&self, tokens: &[f32], heads: &[f32], a: &mut Activations, purpose: Purpose) {
        self.proj.apply(heads, &mut a.branch);
        a.middle.resize(tokens.len(), 0.0);
        add(tokens, &a.branch, self.scale(0), &mut a.middle);
        self.norm2.apply(&a.middle, &mut a.normed, &mut a.standing2);
        self.fc1.apply(&a.normed, &mut a.hidden);
        match purpose {
            Purpose::Inference => {
                Gelu {}.map_mut(&mut a.hidden);
            }
            Purpose::Training => norm::gelu_with_slope(&mut a.hidden, &mut a.slope),
        }
    }

    fn scale(&self, which: usize) -> Option<&[f32]> {
        self.scales.as_ref().map(|scales| scales[which].as_slice())
    }

    /// Returns the layer that contains a site's weights, and the site's first column in it.
    fn layer(&self, site: Site) -> (&PackedLinear, usize) {
        let d = self.d_model;
        match site {
            Site::Query => (&self.qkv, 0),
            Site::Key => (&self.qkv, d),
            Site::Value => (&self.qkv, 2 * d),
            Site::Proj => (&self.proj, 0),
            Site::Fc1 => (&self.fc1, 0),
            Site::Fc2 => (&self.fc2, 0),
        }
    }

    /// Returns the same block with `left right` added to the weights of each site, which equals the
    /// side branches.
    fn folded(&self, branches: &BranchViews<'_>) -> Self {
        let mut block = self.clone();
        for (site, left, right) in branches.iter() {
            let (layer, column) = self.layer(site);
            let target = match site {
                Site::Query | Site::Key | Site::Value => &mut block.qkv,
                Site::Proj => &mut block.proj,
                Site::Fc1 => &mut block.fc1,
                Site::Fc2 => &mut block.fc2,
            };
            target.add_product(column, layer.d_in(), left, right);
        }
        for layer in [&mut block.qkv, &mut block.proj, &mut block.fc1, &mut block.fc2] {
            layer.pack();
        }
        block
    }
}

/// Returns the rows of each part if `n_rows` are cut into about `n_parts`; the last part may be
/// shorter.
fn even_rows(n_rows: usize, n_parts: usize) -> usize {
    let mut rows = n_rows.div_ceil(n_parts).next_multiple_of(KERNEL_ROWS);
    // A single row would be multiplied in another order and differ in its last bits.
    while n_rows > rows && n_rows % rows == 1 {
        rows += 1;
    }
    rows
}

/// `output = tokens + scale * branch`.
fn add(tokens: &[f32], branch: &[f32], scale: Option<&[f32]>, output: &mut [f32]) {
    let sums = output.iter_mut().zip(tokens).zip(branch);
    match scale {
        None => sums.for_each(|((o, t), b)| *o = t + b),
        Some(scale) => {
            let scales = scale.iter().cycle();
            sums.zip(scales).for_each(|(((o, t), b), s)| *o = t + s * b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_is_a_single_row() {
        for n_rows in 2_usize..1000 {
            for n_parts in 1..=n_rows.div_ceil(KERNEL_ROWS) {
                let rows = even_rows(n_rows, n_parts);
                assert!(rows >= n_rows || n_rows % rows != 1, "{n_rows} in {n_parts}: {rows}");
                assert!(n_rows.div_ceil(rows) <= n_parts, "{n_rows} in {n_parts}: {rows}");
            }
        }
    }
}
