//! One transformer block.

use burn::module::{Module, Param};
use burn::nn::LayerNorm;
use burn::tensor::Tensor;

use super::attention::Attention;
use super::mlp::Mlp;
use super::parameters::Parameters;
use crate::VitConfig;

/// Pre-norm block: attention and MLP, each added to its input.
#[derive(Module, Debug)]
pub(super) struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
    /// LayerScale (arXiv:2103.17239) of both branches.
    scales: Option<[Param<Tensor<1>>; 2]>,
}

impl Block {
    pub(super) fn new(parameters: &Parameters<'_>, config: &VitConfig, index: usize) -> Self {
        let name = |part: &str| format!("blocks.{index}.{part}");
        let scale = |part: &str| Param::from_tensor(parameters.tensor::<1>(&name(part)));
        Self {
            norm1: parameters.layer_norm(&name("norm1")),
            attn: Attention::new(parameters, config, &name("attn")),
            norm2: parameters.layer_norm(&name("norm2")),
            mlp: Mlp::new(parameters, &name("mlp")),
            scales: config.layer_scale.then(|| [scale("ls1.gamma"), scale("ls2.gamma")]),
        }
    }

    /// # Shapes
    ///
    /// - `tokens` and output: `[batch, tokens, d]`
    pub(super) fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let branch = self.attn.forward(self.norm1.forward(tokens.clone()));
        let tokens = tokens + self.scaled(0, branch);
        let branch = self.mlp.forward(self.norm2.forward(tokens.clone()));
        tokens + self.scaled(1, branch)
    }

    fn scaled(&self, which: usize, branch: Tensor<3>) -> Tensor<3> {
        match &self.scales {
            Some(scales) => branch * scales[which].val().unsqueeze::<3>(),
            None => branch,
        }
    }
}
