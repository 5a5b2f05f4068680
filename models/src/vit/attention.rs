//! Multi-head self-attention with one product for query, key and value.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;

use super::parameters::Parameters;
use super::product::{halved, product};
use crate::VitConfig;
use crate::side_branch::{BlockBranches, Site};

/// The thirds of `qkv`, in timm's order.
const THIRDS: [Site; 3] = [Site::Query, Site::Key, Site::Value];

/// `softmax(q k^T / sqrt(d_head)) v` over `n_heads` heads (arXiv:1706.03762), then a projection.
#[derive(Module, Debug)]
pub(super) struct Attention {
    pub(super) qkv: Linear,
    pub(super) proj: Linear,
    n_heads: usize,
}

impl Attention {
    pub(super) fn new(parameters: &mut Parameters<'_>, config: &VitConfig, name: &str) -> Self {
        Self {
            qkv: parameters.linear(&format!("{name}.qkv")),
            proj: parameters.linear(&format!("{name}.proj")),
            n_heads: config.n_heads,
        }
    }

    /// Returns the same layer with weights in f16.
    pub(super) fn halved(&self) -> Self {
        Self { qkv: halved(&self.qkv), proj: halved(&self.proj), n_heads: self.n_heads }
    }

    /// # Shapes
    ///
    /// - `tokens` and output: `[batch, tokens, d]`
    pub(super) fn forward(
        &self,
        tokens: &Tensor<3>,
        branches: Option<&mut BlockBranches<'_, '_>>,
    ) -> Tensor<3> {
        let [batch, n_tokens, d] = tokens.dims();
        let d_head = d / self.n_heads;
        let into_heads =
            |x: Tensor<3>| x.reshape([batch, n_tokens, self.n_heads, d_head]).swap_dims(1, 2);
        let qkv = product(&self.qkv, tokens.clone());
        let [q, k, v] = [0, 1, 2].map(|i| qkv.clone().narrow(2, i * d, d));
        let Some(branches) = branches else {
            let heads = heads(into_heads(q), into_heads(k), into_heads(v));
            return product(&self.proj, heads);
        };
        let [q, k, v] = [(q, 0), (k, 1), (v, 2)]
            .map(|(part, i)| into_heads(branches.added(THIRDS[i], tokens, part)));
        let heads = heads(q, k, v);
        let output = product(&self.proj, heads.clone());
        branches.added(Site::Proj, &heads, output)
    }
}

/// Attention of all heads, concatenated: `[batch, tokens, d]`.
fn heads(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<3> {
    let [batch, n_heads, n_tokens, d_head] = q.dims();
    let heads = attention(q, k, v, None, None, AttentionModuleOptions::default());
    heads.swap_dims(1, 2).reshape([batch, n_tokens, n_heads * d_head])
}
