//! One transformer block.

use burn::module::{Module, Param};
use burn::nn::LayerNorm;
use burn::tensor::Tensor;

use super::attention::Attention;
use super::mlp::Mlp;
use super::parameters::Parameters;
use crate::VitConfig;
use crate::side_branch::{BlockBranches, Place, SideBranches, Site};

/// Pre-norm block: attention and MLP, each added to its input.
#[derive(Module, Debug)]
pub(super) struct Block {
    pub(super) norm1: LayerNorm,
    pub(super) attn: Attention,
    pub(super) norm2: LayerNorm,
    pub(super) mlp: Mlp,
    /// LayerScale (arXiv:2103.17239) of both branches.
    pub(super) scales: Option<[Param<Tensor<1>>; 2]>,
}

impl Block {
    pub(super) fn new(parameters: &mut Parameters<'_>, config: &VitConfig, index: usize) -> Self {
        let name = |part: &str| format!("blocks.{index}.{part}");
        let scale = |part: &str| Param::from_tensor(parameters.tensor::<1>(&name(part)));
        let scales = config.layer_scale.then(|| [scale("ls1.gamma"), scale("ls2.gamma")]);
        Self {
            norm1: parameters.layer_norm(&name("norm1")),
            attn: Attention::new(parameters, config, &name("attn")),
            norm2: parameters.layer_norm(&name("norm2")),
            mlp: Mlp::new(parameters, &name("mlp")),
            scales,
        }
    }

    /// # Shapes
    ///
    /// - `tokens` and output: `[batch, tokens, d]`
    pub(super) fn forward(
        &self,
        tokens: Tensor<3>,
        mut branches: Option<&mut BlockBranches<'_, '_>>,
    ) -> Tensor<3> {
        let normed = self.norm1.forward(tokens.clone());
        let branch = self.attn.forward(&normed, branches.as_deref_mut());
        let tokens = tokens + self.scaled(0, branch);
        let branch = self.mlp.forward(self.norm2.forward(tokens.clone()), branches);
        tokens + self.scaled(1, branch)
    }

    /// Returns the same block with the branches added to its weights.
    pub(super) fn folded(&self, config: &VitConfig, index: usize, all: &SideBranches) -> Self {
        let mut block = self.clone();
        for site in Site::ALL {
            let Some(branch) = all.branches.get(&Place { block: index, site }) else { continue };
            let d = config.d_model;
            let (layer, column) = match site {
                Site::Query => (&mut block.attn.qkv, 0),
                Site::Key => (&mut block.attn.qkv, d),
                Site::Value => (&mut block.attn.qkv, 2 * d),
                Site::Proj => (&mut block.attn.proj, 0),
                Site::Fc1 => (&mut block.mlp.fc1, 0),
                Site::Fc2 => (&mut block.mlp.fc2, 0),
            };
            let weight = layer.weight.val();
            let d_in = site.d_in(config);
            let d_out = site.d_out(config);
            let columns = weight.clone().narrow(1, column, d_out) + branch.delta();
            layer.weight =
                Param::from_tensor(weight.slice_assign([0..d_in, column..column + d_out], columns));
        }
        block
    }

    /// Returns the same block with the weights of its products in f16.
    pub(super) fn halved(&self) -> Self {
        Self { attn: self.attn.halved(), mlp: self.mlp.halved(), ..self.clone() }
    }

    fn scaled(&self, which: usize, branch: Tensor<3>) -> Tensor<3> {
        match &self.scales {
            Some(scales) => branch * scales[which].val().unsqueeze::<3>(),
            None => branch,
        }
    }
}
