//! Preprocessing: from an upright RGB picture to the input of a network.

pub(crate) mod decode;
pub(crate) mod folder;
mod format;
mod views;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, IntoImageView, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Resizes the short side to `size` (bicubic with antialias, as in Pillow), crops the centre, and
/// computes `(x / 255 - mean) / std` per channel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Side of the square result in pixels.
    pub size: usize,
    /// Mean of each channel (red, green, blue) in [0, 1].
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub std: [f32; 3],
}

/// Largest ratio of the long to the short side. A longer picture is cut to its middle before it is
/// resized.
const LONGEST: u32 = 4;

/// Reason why a [`Preprocess`] does not fit a network.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum PreprocessError {
    /// The network takes another image size.
    #[error("preprocessing gives {found} px, but the network takes {expected} px")]
    Size {
        /// Side that preprocessing gives.
        found: usize,
        /// Side that the network takes.
        expected: usize,
    },
    /// Mean or deviation is not a usable number.
    #[error("mean {mean:?} and deviation {std:?} must be finite, and the deviation above 0")]
    Normalisation {
        /// Mean of each channel.
        mean: [f32; 3],
        /// Deviation of each channel.
        std: [f32; 3],
    },
}

impl Preprocess {
    /// ImageNet's mean and deviation.
    pub fn imagenet(size: usize) -> Self {
        Self { size, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
    }

    /// Mean and deviation 0.5, as timm's networks with AugReg weights take them.
    pub fn inception(size: usize) -> Self {
        Self { size, mean: [0.5; 3], std: [0.5; 3] }
    }

    /// Checks the numbers against the image size of a network.
    ///
    /// # Errors
    ///
    /// [`PreprocessError`] names the wrong number.
    pub fn check(&self, image_size: usize) -> Result<(), PreprocessError> {
        if self.size != image_size {
            return Err(PreprocessError::Size { found: self.size, expected: image_size });
        }
        let finite = self.mean.iter().chain(&self.std).all(|v| v.is_finite());
        if !finite || self.std.iter().any(|&s| s <= 0.0) {
            return Err(PreprocessError::Normalisation { mean: self.mean, std: self.std });
        }
        Ok(())
    }

    /// Resizes, crops and normalises.
    ///
    /// # Shapes
    ///
    /// - output: `3 * size * size` numbers, channel by channel, row by row
    pub fn apply(&self, picture: &RgbImage) -> Vec<f32> {
        let (width, height) = picture.dimensions();
        let short = width.min(height);
        if width.max(height) > LONGEST * short {
            // Only the middle is needed; resizing a whole strip could take gigabytes.
            let (w, h) = (width.min(LONGEST * short), height.min(LONGEST * short));
            let (left, top) = ((width - w) / 2, (height - h) / 2);
            return self.apply(&image::imageops::crop_imm(picture, left, top, w, h).to_image());
        }
        let size = self.size as u32;
        let scale = f64::from(size) / f64::from(short);
        let scaled = |side: u32| size.max((f64::from(side) * scale).round_ties_even() as u32);
        let (new_width, new_height) = (scaled(width), scaled(height));
        let (left, top) = ((new_width - size) / 2, (new_height - size) / 2);
        if (new_width, new_height) == (width, height) {
            return self.normalise(picture, width as usize, left as usize, top as usize);
        }
        let [x, y] = [(left, new_width, width), (top, new_height, height)].map(span(size));
        self.normalise(resize(picture, size, x, y).buffer(), self.size, 0, 0)
    }

    /// Cuts the square at (`left`, `top`) out of interleaved RGB bytes and normalises it.
    fn normalise(&self, rgb: &[u8], width: usize, left: usize, top: usize) -> Vec<f32> {
        let size = self.size;
        let mut out = vec![0.0; 3 * size * size];
        for (channel, plane) in out.chunks_exact_mut(size * size).enumerate() {
            // One multiplication and one addition a pixel instead of two divisions.
            let gain = 1.0 / (255.0 * self.std[channel]);
            let offset = self.mean[channel] / self.std[channel];
            for (y, row) in plane.chunks_exact_mut(size).enumerate() {
                let start = ((top + y) * width + left) * 3 + channel;
                for (value, byte) in row.iter_mut().zip(rgb[start..].iter().step_by(3)) {
                    *value = f32::from(*byte) * gain - offset;
                }
            }
        }
        out
    }
}

/// Returns start and length of the square along one side of the original picture, from
/// `(start, resized, side)`: the square's start in the resized picture and the sides of the resized
/// and the original one.
fn span(size: u32) -> impl Fn((u32, u32, u32)) -> [f64; 2] {
    move |(start, resized, side)| {
        let step = f64::from(side) / f64::from(resized);
        [
            f64::from(start) * step,
            if resized == size { f64::from(side) } else { f64::from(size) * step },
        ]
    }
}

/// Resizes a part of a picture to a square. The filter also reads the pixels around the part, so
/// that the result equals a crop after resizing the whole.
///
/// Two passes, widths first. Each rounds to bytes and clips to 0..=255, so that their order is
/// visible where neighbours differ much. Pillow up to version 12 uses this order; the resizer's own
/// order is the other one.
fn resize(picture: &RgbImage, size: u32, x: [f64; 2], y: [f64; 2]) -> Image<'static> {
    let (width, height) = picture.dimensions();
    let source = ImageRef::new(width, height, picture.as_raw(), PixelType::U8x3)
        .expect("an RgbImage holds 3 bytes a pixel");
    // The rows that the filter reads: it reaches two pixels of the coarser picture.
    let reach = 2.0 * (y[1] / f64::from(size)).max(1.0) + 1.0;
    let top = (y[0] - reach).floor().max(0.0);
    let rows = (y[0] + y[1] + reach).ceil().min(f64::from(height)) - top;
    let narrow = resize_part(&source, [size, rows as u32], [x[0], top, x[1], rows]);
    resize_part(&narrow, [size, size], [0.0, y[0] - top, f64::from(size), y[1]])
}

/// Resizes the part `left, top, width, height` of a picture.
fn resize_part(
    source: &impl IntoImageView,
    [width, height]: [u32; 2],
    part: [f64; 4],
) -> Image<'static> {
    let mut target = Image::new(width, height, PixelType::U8x3);
    // Catmull-Rom is the bicubic filter of Pillow (a = -0.5). The convolution widens it when the
    // picture shrinks, which is the antialias.
    let filter = ResizeAlg::Convolution(FilterType::CatmullRom);
    let options = ResizeOptions::new().resize_alg(filter).crop(part[0], part[1], part[2], part[3]);
    let done = Resizer::new().resize(source, &mut target, &options);
    done.expect("both pictures are U8x3, and the part lies inside");
    target
}
