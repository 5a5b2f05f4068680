//! Random views of a picture: small changes of crop, rotation and light, as between two exposures.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::Preprocess;

/// Least share of the picture's area in a view.
const LEAST_AREA: f64 = 0.45;

/// Largest aspect ratio (width over height) of a view's part; the least is its inverse.
const LARGEST_ASPECT: f64 = 4.0 / 3.0;

/// Largest rotation to either side, in radians.
const LARGEST_ANGLE: f64 = 10.0 * std::f64::consts::PI / 180.0;

/// Range of the factors of light, contrast and colour.
const LIGHT: std::ops::Range<f64> = 0.7..1.3;

/// Weights of red, green and blue in brightness (ITU-R BT.601).
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// The part of a picture in a view: `(x, y)` of the view in [-.5, .5] maps to `centre` plus the
/// scaled and rotated `(x, y)`.
struct Part {
    centre: [f64; 2],
    size: [f64; 2],
    angle: f64,
}

impl Part {
    fn draw(rng: &mut StdRng) -> Self {
        let area = rng.random_range(LEAST_AREA..1.0);
        let aspect = rng.random_range(-1.0..1.0) * LARGEST_ASPECT.ln();
        let size = [aspect, -aspect].map(|log| (area * log.exp()).sqrt().min(1.0));
        let centre = size.map(|side| rng.random_range(0.0..=1.0 - side) + side / 2.0);
        Self { centre, size, angle: rng.random_range(-LARGEST_ANGLE..LARGEST_ANGLE) }
    }

    /// Maps a point of the view to a point of the picture, both in shares of the side.
    fn place(&self, x: f64, y: f64) -> [f64; 2] {
        let (sin, cos) = self.angle.sin_cos();
        let [x, y] = [x * self.size[0], y * self.size[1]];
        [self.centre[0] + x * cos - y * sin, self.centre[1] + x * sin + y * cos]
    }
}

impl Preprocess {
    /// Returns random views of a preprocessed picture: crops of .45 to 1 of its area, rotated by up
    /// to 10 degrees, with changed light, contrast and colour. The same picture has the same views.
    ///
    /// # Shapes
    ///
    /// - `pixels` and each view: `3 * size * size` numbers, as [`Preprocess::apply`] returns them
    pub fn views(&self, pixels: &[f32], n: usize) -> Vec<Vec<f32>> {
        // FNV-1a over the numbers.
        let hash = pixels.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, value| {
            (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3)
        });
        let mut rng = StdRng::seed_from_u64(hash);
        (0..n).map(|_| self.view(pixels, &mut rng)).collect()
    }

    fn view(&self, pixels: &[f32], rng: &mut StdRng) -> Vec<f32> {
        let size = self.size;
        let part = Part::draw(rng);
        let mut view = vec![0.0; 3 * size * size];
        for y in 0..size {
            for x in 0..size {
                let share = |i: usize| (i as f64 + 0.5) / size as f64 - 0.5;
                let [from_x, from_y] = part.place(share(x), share(y));
                for channel in 0..3 {
                    let plane = &pixels[channel * size * size..][..size * size];
                    // Colours in [0, 1].
                    let value = between(plane, size, from_x, from_y);
                    view[(channel * size + y) * size + x] =
                        value * self.std[channel] + self.mean[channel];
                }
            }
        }
        relight(&mut view, rng);
        for (channel, plane) in view.chunks_exact_mut(size * size).enumerate() {
            for value in plane {
                *value = (value.clamp(0.0, 1.0) - self.mean[channel]) / self.std[channel];
            }
        }
        view
    }
}

/// Interpolates between four pixels at a point, in shares of the side. The border continues
/// outside.
fn between(plane: &[f32], size: usize, x: f64, y: f64) -> f32 {
    let last = (size - 1) as f64;
    let [x, y] = [x, y].map(|share| (share * size as f64 - 0.5).clamp(0.0, last));
    let (left, top) = (x as usize, y as usize);
    let (right, bottom) = ((left + 1).min(size - 1), (top + 1).min(size - 1));
    let (along, down) = (x.fract() as f32, y.fract() as f32);
    let row = |y: usize| plane[y * size + left] * (1.0 - along) + plane[y * size + right] * along;
    row(top) * (1.0 - down) + row(bottom) * down
}

/// Changes light, contrast and colour of a picture with values in [0, 1].
fn relight(picture: &mut [f32], rng: &mut StdRng) {
    let [light, contrast, colour] = [(); 3].map(|()| rng.random_range(LIGHT) as f32);
    let n = picture.len() / 3;
    let luma = |picture: &[f32], i: usize| -> f32 {
        (0..3).map(|channel| LUMA[channel] * picture[channel * n + i]).sum()
    };
    let mean = light * (0..n).map(|i| luma(picture, i)).sum::<f32>() / n as f32;
    for i in 0..n {
        let grey = light * luma(picture, i);
        let lit = mean + contrast * (grey - mean);
        for channel in 0..3 {
            let value = &mut picture[channel * n + i];
            *value = lit + colour * contrast * (light * *value - grey);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_differ_from_picture_to_picture_and_repeat() {
        let preprocess = Preprocess::imagenet(28);
        let picture = |seed: usize| -> Vec<f32> {
            (0..3 * 28 * 28).map(|i| ((i * seed) as f32 * 0.37).sin()).collect()
        };
        let views = preprocess.views(&picture(3), 2);
        assert_eq!(views, preprocess.views(&picture(3), 2));
        assert_ne!(views[0], views[1]);
        assert_ne!(views, preprocess.views(&picture(4), 2));
        let [darkest, lightest] = [0.0, 1.0].map(|colour| {
            (0..3).map(|c| (colour - preprocess.mean[c]) / preprocess.std[c]).collect::<Vec<f32>>()
        });
        for (i, value) in views[0].iter().enumerate() {
            let channel = i / (28 * 28);
            assert!((darkest[channel]..=lightest[channel]).contains(value), "{value}");
        }
    }

    #[test]
    fn a_grey_wall_stays_grey() {
        let preprocess = Preprocess::imagenet(14);
        let wall: Vec<f32> = (0..3)
            .flat_map(|c| vec![(0.5 - preprocess.mean[c]) / preprocess.std[c]; 14 * 14])
            .collect();
        for view in preprocess.views(&wall, 3) {
            let colour = |i: usize| {
                let channel = i / (14 * 14);
                view[i] * preprocess.std[channel] + preprocess.mean[channel]
            };
            let first = colour(0);
            assert!((0.35..=0.65).contains(&first), "{first}");
            assert!((0..view.len()).all(|i| (colour(i) - first).abs() < 1e-4));
        }
    }
}
