//! Shape of a vision transformer, and its validation.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Epsilon of every layer norm in timm's vision transformers.
pub const LAYER_NORM_EPS: f64 = 1e-6;

/// Largest accepted value of any size. It keeps products of sizes far from overflow.
const MAX_SIZE: usize = 1 << 16;

/// The shape of a ViT (Dosovitskiy et al., arXiv:2010.11929) in timm's layout: class token,
/// optional register tokens (arXiv:2309.16588), learned positions, pre-norm blocks with fused qkv,
/// exact GELU, optional LayerScale (arXiv:2103.17239).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VitConfig {
    /// Side of the square input in pixels.
    pub image_size: usize,
    /// Side of a square patch in pixels.
    pub patch_size: usize,
    /// Width of a token.
    pub d_model: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads of a block; divides `d_model`.
    pub n_heads: usize,
    /// Hidden width of a block's MLP.
    pub d_mlp: usize,
    /// Register tokens between the class token and the patches.
    pub n_registers: usize,
    /// Number of leading tokens (class, registers) with a learned position: none, the class token
    /// alone, or all.
    pub n_prefix_positions: usize,
    /// True if each branch of a block is scaled by a learned vector.
    pub layer_scale: bool,
}

/// Reason why a [`VitConfig`] does not describe a network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A size is zero or too large.
    #[error("{field} is {value}, expected 1 to {max}")]
    OutOfRange {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: usize,
        /// Largest value accepted.
        max: usize,
    },
    /// One size must divide another and does not.
    #[error("{part} ({part_value}) does not divide {whole} ({whole_value})")]
    NotDivisible {
        /// The divisor's field.
        part: &'static str,
        /// Its value.
        part_value: usize,
        /// The dividend's field.
        whole: &'static str,
        /// Its value.
        whole_value: usize,
    },
    /// The number of positions of leading tokens fits neither rule of timm.
    #[error(
        "n_prefix_positions is {value}, expected 0, 1 (class token) or {all} (class and registers)"
    )]
    PrefixPositions {
        /// The value found.
        value: usize,
        /// Class token and registers.
        all: usize,
    },
    /// A feature or a split names a block that the network does not have.
    #[error("{what} names block {block}, but the network has {depth} blocks")]
    NoSuchBlock {
        /// The setting that names it.
        what: &'static str,
        /// The block, counted from 0.
        block: usize,
        /// Number of blocks.
        depth: usize,
    },
    /// The feature uses a block before the first adapted one.
    #[error(
        "the feature uses block {block}, but adaptation begins at block {split}: adapt more blocks, or use fewer for the feature"
    )]
    FeatureBeforeSplit {
        /// The block, counted from 0.
        block: usize,
        /// The first adapted block.
        split: usize,
    },
    /// The feature uses one block twice.
    #[error("the feature names block {block} twice")]
    RepeatedBlock {
        /// The block, counted from 0.
        block: usize,
    },
    /// The feature is empty.
    #[error("the feature names no {what}, expected at least one")]
    EmptyFeature {
        /// The missing part: blocks or tokens.
        what: &'static str,
    },
}

impl VitConfig {
    /// Patches along one side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Patches of a picture.
    pub fn n_patches(&self) -> usize {
        self.grid() * self.grid()
    }

    /// Tokens before the patches: the class token and the registers.
    pub fn n_prefix_tokens(&self) -> usize {
        1 + self.n_registers
    }

    /// All tokens of a picture.
    pub fn n_tokens(&self) -> usize {
        self.n_prefix_tokens() + self.n_patches()
    }

    /// Parameters of the network.
    pub fn n_parameters(&self) -> usize {
        let d = self.d_model;
        let block = 4 * d * d + 4 * d + 2 * d * self.d_mlp + self.d_mlp + d + 4 * d;
        let scale = if self.layer_scale { 2 * d } else { 0 };
        let patch = 3 * self.patch_size * self.patch_size * d + d;
        let tokens = self.n_prefix_tokens() * d + (self.n_prefix_positions + self.n_patches()) * d;
        self.depth * (block + scale) + patch + tokens + 2 * d
    }

    /// Checks that the sizes describe a network.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first field that does not fit.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (field, value) in [
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("d_model", self.d_model),
            ("depth", self.depth),
            ("n_heads", self.n_heads),
            ("d_mlp", self.d_mlp),
        ] {
            in_range(field, value, 1)?;
        }
        in_range("n_registers", self.n_registers, 0)?;
        divides("patch_size", self.patch_size, "image_size", self.image_size)?;
        divides("n_heads", self.n_heads, "d_model", self.d_model)?;
        let all = self.n_prefix_tokens();
        if ![0, 1, all].contains(&self.n_prefix_positions) {
            return Err(ConfigError::PrefixPositions { value: self.n_prefix_positions, all });
        }
        Ok(())
    }
}

fn in_range(field: &'static str, value: usize, min: usize) -> Result<(), ConfigError> {
    if value < min || value > MAX_SIZE {
        return Err(ConfigError::OutOfRange { field, value, max: MAX_SIZE });
    }
    Ok(())
}

fn divides(
    part: &'static str,
    part_value: usize,
    whole: &'static str,
    whole_value: usize,
) -> Result<(), ConfigError> {
    if !whole_value.is_multiple_of(part_value) {
        return Err(ConfigError::NotDivisible { part, part_value, whole, whole_value });
    }
    Ok(())
}
