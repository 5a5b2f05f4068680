//! Multi-head self-attention with one product for query, key and value.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;

use super::parameters::Parameters;
use crate::VitConfig;

/// `softmax(q k^T / sqrt(d_head)) v` over `n_heads` heads (arXiv:1706.03762), then a projection.
#[derive(Module, Debug)]
pub(super) struct Attention {
    qkv: Linear,
    proj: Linear,
    n_heads: usize,
}

impl Attention {
    pub(super) fn new(parameters: &Parameters<'_>, config: &VitConfig, name: &str) -> Self {
        Self {
            qkv: parameters.linear(&format!("{name}.qkv")),
            proj: parameters.linear(&format!("{name}.proj")),
            n_heads: config.n_heads,
        }
    }

    /// # Shapes
    ///
    /// - `tokens` and output: `[batch, tokens, d]`
    pub(super) fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let [batch, n_tokens, d] = tokens.dims();
        let d_head = d / self.n_heads;
        let qkv = self
            .qkv
            .forward(tokens)
            .reshape([batch, n_tokens, 3, self.n_heads, d_head])
            .permute([2, 0, 3, 1, 4]);
        let part = |i: usize| qkv.clone().narrow(0, i, 1).squeeze_dim::<4>(0);
        let options = AttentionModuleOptions::default();
        let heads = attention(part(0), part(1), part(2), None, None, options);
        self.proj.forward(heads.swap_dims(1, 2).reshape([batch, n_tokens, d]))
    }
}
