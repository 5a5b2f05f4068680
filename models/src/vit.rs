//! The vision transformer: embedding, blocks, final norm.

mod attention;
mod block;
mod mlp;
mod packed;
mod parameters;
mod patch_embed;
mod product;

use std::ops::Range;

use burn::module::{Module, Param};
use burn::nn::LayerNorm;
use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use crate::side_branch::{BlockBranches, Place, SideBranches, Site};
use crate::{VitConfig, VitWeights};
use block::Block;
pub(crate) use packed::Wanted;
use packed::{BranchSizes, PackedBlock};
use parameters::Parameters;
use patch_embed::PatchEmbed;

/// A ViT (arXiv:2010.11929) with the layout and the numbers of timm's `VisionTransformer`.
///
/// Blocks are pre-norm: `x = x + ls1(attn(norm1(x)))`, then `x = x + ls2(mlp(norm2(x)))`.
#[derive(Module, Debug)]
pub struct Vit {
    patch_embed: PatchEmbed,
    /// Class token and registers with their positions: `[1, prefix, d]`.
    prefix_tokens: Param<Tensor<3>>,
    /// Positions of the patches: `[1, patches, d]`.
    pos_embed: Param<Tensor<3>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

/// The blocks of a [`Vit`], packed for the CPU: the same results, about three times faster.
#[derive(Debug, Clone)]
pub(crate) struct PackedBlocks(Vec<PackedBlock>);

/// All intermediate results of a forward pass, for parity tests.
#[derive(Debug, Clone)]
pub struct VitTrace {
    /// Tokens after the embedding: `[batch, tokens, d]`.
    pub embedded: Tensor<3>,
    /// Tokens after each block.
    pub blocks: Vec<Tensor<3>>,
    /// Class token after the final norm: `[batch, d]`.
    pub feature: Tensor<2>,
}

impl Vit {
    /// Puts the parameters on a device, in f32.
    pub fn new(weights: &VitWeights<'_>, device: &Device) -> Self {
        let config = weights.config();
        let mut parameters = Parameters::new(weights, device);
        let prefix_tokens = parameters.prefix_tokens();
        let positions = parameters.tensor::<3>("pos_embed");
        let pos_embed = positions.narrow(1, config.n_prefix_positions, config.n_patches());
        Self {
            patch_embed: PatchEmbed::new(&parameters, config),
            prefix_tokens: Param::from_tensor(prefix_tokens),
            pos_embed: Param::from_tensor(pos_embed),
            blocks: (0..config.depth).map(|i| Block::new(&mut parameters, config, i)).collect(),
            norm: parameters.layer_norm("norm"),
        }
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// Embeds pictures: returns tokens with positions.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, 3, height, width]`, f32, normalised by [`Preprocess`](crate::Preprocess)
    /// - output: `[batch, tokens, d]`: class token, registers, patches in reading order
    pub fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        let patches = self.patch_embed.forward(images) + self.pos_embed.val();
        let [batch, _, d] = patches.dims();
        let prefix = self.prefix_tokens.val();
        let n_prefix = prefix.dims()[1];
        Tensor::cat(vec![prefix.expand([batch, n_prefix, d]), patches], 1)
    }

    /// Runs one block.
    ///
    /// # Shapes
    ///
    /// - `tokens` and output: `[batch, tokens, d]`
    pub fn block(&self, index: usize, tokens: Tensor<3>) -> Tensor<3> {
        self.blocks[index].forward(tokens, None)
    }

    /// Runs one block with side branches.
    pub(crate) fn block_with(
        &self,
        tokens: Tensor<3>,
        branches: &mut BlockBranches<'_, '_>,
    ) -> Tensor<3> {
        self.blocks[branches.block].forward(tokens, Some(branches))
    }

    /// Returns the same network with the branches added to its weights. All other weights are
    /// shared.
    pub(crate) fn folded(&self, config: &VitConfig, branches: &SideBranches) -> Self {
        let blocks = self.blocks.iter().enumerate();
        let blocks = blocks.map(|(i, block)| block.folded(config, i, branches)).collect();
        Self { blocks, ..self.clone() }
    }

    /// Returns the same network with the weights of its blocks' products in f16.
    pub(crate) fn halved(&self) -> Self {
        Self { blocks: self.blocks.iter().map(Block::halved).collect(), ..self.clone() }
    }

    /// Runs the whole network and returns all intermediate results.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, 3, height, width]`
    pub fn trace(&self, images: Tensor<4>) -> VitTrace {
        let embedded = self.embed(images);
        let mut blocks: Vec<Tensor<3>> = Vec::with_capacity(self.depth());
        for block in &self.blocks {
            let input = blocks.last().unwrap_or(&embedded).clone();
            blocks.push(block.forward(input, None));
        }
        let last = blocks.last().unwrap_or(&embedded).clone();
        let class_token = last.narrow(1, 0, 1).squeeze_dim::<2>(1);
        VitTrace { embedded, blocks, feature: self.norm.forward(class_token) }
    }
}

impl PackedBlocks {
    /// Packs the blocks of a network. `None` if the network is not on the CPU backend.
    pub(crate) fn new(vit: &Vit, config: &VitConfig) -> Option<Self> {
        let on_cpu = vit.pos_embed.val().try_into_primitive::<burn::backend::Flex>().is_ok();
        let pack = |block| PackedBlock::new(block, config);
        on_cpu.then(|| Self(vit.blocks.par_iter().map(pack).collect()))
    }

    /// Packs again the layers of a folded network that `branches` changed.
    pub(crate) fn folded(&self, vit: &Vit, branches: &SideBranches) -> Self {
        let block = |(index, packed): (usize, &PackedBlock)| {
            let places = branches.branches.keys().filter(|place| place.block == index);
            let sites: Vec<Site> = places.map(|place| place.site).collect();
            packed.with_layers_of(&vit.blocks[index], &sites)
        };
        Self(self.0.iter().enumerate().map(block).collect())
    }

    /// Runs a packed block like [`Vit::block`], up to the wanted output.
    pub(crate) fn block(&self, index: usize, tokens: Tensor<3>, wanted: Wanted) -> Tensor<3> {
        packed::run(&self.0[index], tokens, wanted)
    }

    /// Runs a packed block like [`Vit::block_with`], up to the wanted output. The gradient of the
    /// tokens is complete only for the tokens `back_to` of each picture.
    pub(crate) fn block_with(
        &self,
        config: &VitConfig,
        index: usize,
        tokens: Tensor<3>,
        branches: &SideBranches,
        wanted: Wanted,
        back_to: Range<usize>,
    ) -> Tensor<3> {
        let device = tokens.device();
        let mut sizes = BranchSizes::default();
        let mut lefts = Vec::new();
        let mut rights = Vec::new();
        for site in Site::ALL {
            let Some(branch) = branches.branches.get(&Place { block: index, site }) else {
                continue;
            };
            sizes.push(site, branch.down.dims()[1], config);
            lefts.push(branch.down.clone().flatten(0, 1));
            rights.push(branch.core.clone().matmul(branch.up.clone()).flatten(0, 1));
        }
        let joined = |parts: Vec<Tensor<1>>| {
            // This block has no branch, but a gradient may pass through to earlier blocks.
            if parts.is_empty() {
                Tensor::zeros([1], &device.clone().inner())
            } else {
                Tensor::cat(parts, 0)
            }
        };
        let lefts = joined(lefts);
        let rights = joined(rights);
        packed::run_with(&self.0[index], tokens, lefts, rights, sizes, wanted, back_to)
    }
}
