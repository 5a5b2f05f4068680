//! Resampling of learned positions to another image size.
//!
//! Bicubic with antialias over the grid of patches, leading positions unchanged: timm's
//! `resample_abs_pos_embed`, which its vision transformers use when the input size changes.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::{VitConfig, VitWeights, WeightTensor, WeightsError};

impl VitWeights<'_> {
    /// Returns the same network for pictures of `image_size` pixels.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Config`] if the patch size does not divide `image_size`.
    pub fn resampled(&self, image_size: usize) -> Result<VitWeights<'static>, WeightsError> {
        let from = self.config();
        let to = VitConfig { image_size, ..from.clone() };
        to.check()?;
        let positions = resample(
            &self.tensor("pos_embed").to_f32(),
            from.d_model,
            from.n_prefix_positions,
            from.grid(),
            to.grid(),
        );
        let shape = vec![1, to.n_prefix_positions + to.n_patches(), to.d_model];
        let mut tensors = self.owned_tensors();
        tensors.insert("pos_embed".to_owned(), WeightTensor::Single(shape, positions));
        VitWeights::new(to, tensors)
    }
}

/// Resamples `positions`, `[prefix + from * from, d]`, to `[prefix + to * to, d]`.
fn resample(positions: &[f32], d: usize, prefix: usize, from: usize, to: usize) -> Vec<f32> {
    let (kept, grid) = positions.split_at(prefix * d);
    let mut out = kept.to_vec();
    out.resize(kept.len() + to * to * d, 0.0);
    let mut resizer = Resizer::new();
    // Catmull-Rom is the cubic with a = -0.5, which PyTorch uses with antialias.
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    for channel in 0..d {
        let plane: Vec<u8> =
            grid.iter().skip(channel).step_by(d).flat_map(|v| v.to_ne_bytes()).collect();
        let source = ImageRef::new(from as u32, from as u32, &plane, PixelType::F32)
            .expect("a plane of from * from numbers");
        let mut target = Image::new(to as u32, to as u32, PixelType::F32);
        resizer.resize(&source, &mut target, &options).expect("both planes hold f32");
        for (i, v) in target.buffer().chunks_exact(4).enumerate() {
            out[kept.len() + i * d + channel] = f32::from_ne_bytes([v[0], v[1], v[2], v[3]]);
        }
    }
    out
}
