//! Attention scaling for another number of tokens than the network was trained with.
//!
//! A softmax over fewer tokens than in training is sharper, over more tokens flatter. Multiplying
//! the attention scores by `(ln n / ln n_trained)^e` restores its spread, with `n` and `n_trained`
//! the tokens of a picture. The scores are linear in the queries, so the factor is folded into the
//! rows of `qkv` that compute them and costs nothing per picture. The logarithm is that of scores
//! that grow with the length of a text (Chiang and Cholak, arXiv:2202.12172); the exponent and its
//! use for smaller pictures are ours, measured in docs/networks.md.

use serde::{Deserialize, Serialize};

use crate::{VitWeights, WeightTensor, WeightsError};

/// Best exponent for networks that were trained at one larger size (docs/networks.md).
pub const ATTENTION_TEMPERATURE: f64 = 1.75;

/// Record of a change of the image size since training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Resampling {
    /// Side of the pictures at which the positions were trained, in pixels.
    pub trained_image_size: usize,
    /// The exponent `e`; 0 means that the attention scores are unchanged.
    pub attention_temperature: f64,
}

/// Returns the factor of the attention scores for `n_tokens` tokens of a network trained with
/// `n_trained`.
pub fn attention_scale(n_tokens: usize, n_trained: usize, exponent: f64) -> f64 {
    ((n_tokens as f64).ln() / (n_trained as f64).ln()).powf(exponent)
}

impl VitWeights<'_> {
    /// Returns the same network with all attention scores multiplied by `scale`.
    ///
    /// # Errors
    ///
    /// [`WeightsError::NotFinite`] if `scale` makes a number infinite.
    pub fn with_attention_scale(&self, scale: f64) -> Result<VitWeights<'static>, WeightsError> {
        let d = self.config().d_model;
        let mut tensors = self.owned_tensors();
        for block in 0..self.config().depth {
            // The first `d` rows of `[3 d, d]` and of `[3 d]` compute the queries.
            for (part, n_query) in [("weight", d * d), ("bias", d)] {
                let name = format!("blocks.{block}.attn.qkv.{part}");
                let tensor = self.tensor(&name);
                let mut values = tensor.to_f32().into_owned();
                for value in &mut values[..n_query] {
                    *value = (f64::from(*value) * scale) as f32;
                }
                tensors.insert(name, WeightTensor::Single(tensor.shape(), values));
            }
        }
        VitWeights::new(self.config().clone(), tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{VARIANTS, VitConfig};

    #[test]
    fn queries_alone_are_scaled() {
        let config =
            VitConfig { depth: 2, d_model: 12, n_heads: 3, d_mlp: 8, ..VARIANTS[0].config() };
        let weights = VitWeights::random(config, 7).expect("a possible network");
        let scaled = weights.with_attention_scale(0.5).expect("finite numbers");
        let mut n_scaled = 0;
        for (name, tensor) in weights.owned_tensors() {
            let n_query = match name.rsplit_once(".attn.qkv.") {
                Some((_, "weight")) => 12 * 12,
                Some(_) => 12,
                None => 0,
            };
            let before = tensor.to_f32();
            let after = scaled.tensor(&name).to_f32();
            for (at, (before, after)) in before.iter().zip(after.iter()).enumerate() {
                let factor = if at < n_query { 0.5 } else { 1.0 };
                assert!((before * factor - after).abs() < 1e-7, "{name} {at}");
            }
            n_scaled += n_query;
        }
        assert_eq!(n_scaled, 2 * (12 * 12 + 12));
        assert!(weights.with_attention_scale(f64::MAX).is_err());
    }

    #[test]
    fn fewer_tokens_lower_the_scores() {
        assert!((attention_scale(197, 197, 1.75) - 1.0).abs() < 1e-12);
        assert!((attention_scale(50, 197, 0.0) - 1.0).abs() < 1e-12);
        let scale = attention_scale(101, 197, 1.75);
        assert!((scale - 0.789).abs() < 1e-3, "{scale}");
        assert!(attention_scale(257, 197, 1.75) > 1.0);
    }
}
