//! Patch embedding: from pictures to patch tokens.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::Tensor;

use super::parameters::Parameters;
use crate::VitConfig;

/// Cuts a picture into patches and maps each to a token.
///
/// timm writes this as a convolution with a stride equal to its kernel size. That equals a product
/// of the cut patches with one matrix, which is the faster form on every backend.
#[derive(Module, Debug)]
pub(super) struct PatchEmbed {
    /// `[3 * patch * patch, d]`
    proj: Linear,
    patch_size: usize,
}

impl PatchEmbed {
    pub(super) fn new(parameters: &Parameters<'_>, config: &VitConfig) -> Self {
        let kernel = parameters.tensor::<4>("patch_embed.proj.weight");
        let d_patch = 3 * config.patch_size * config.patch_size;
        let weight = kernel.reshape([config.d_model, d_patch]).transpose();
        let bias = parameters.tensor::<1>("patch_embed.proj.bias");
        let proj =
            Linear { weight: Param::from_tensor(weight), bias: Some(Param::from_tensor(bias)) };
        Self { proj, patch_size: config.patch_size }
    }

    /// # Shapes
    ///
    /// - `images`: `[batch, 3, height, width]`
    /// - output: `[batch, patches, d]`
    pub(super) fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        let [batch, channels, height, width] = images.dims();
        let p = self.patch_size;
        let (rows, columns) = (height / p, width / p);
        let patches = images
            .reshape([batch, channels, rows, p, columns, p])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, rows * columns, channels * p * p]);
        self.proj.forward(patches)
    }
}
