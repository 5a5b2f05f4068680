//! Synthetic camera: renders things in varying pose, light, background and noise, without hardware.
//!
//! The same seed gives the same frames. Each thing is a shape with a fixed colour. As with a real
//! camera, the distance, position, rotation, lamp, wall behind, clutter and sensor noise vary.

mod shape;

use image::{Rgb, RgbImage};

use shape::Point;
pub use shape::Thing;

/// Size of a frame in pixels.
const WIDTH: u32 = 320;
const HEIGHT: u32 = 240;

/// Renders frames of things.
#[derive(Debug, Clone)]
pub struct SyntheticCamera {
    state: u64,
}

/// Background of a thing: two colours, the direction from one to the other, and stripes.
struct Wall {
    near: [f32; 3],
    far: [f32; 3],
    direction: Point,
    stripes: f32,
}

/// A blot of colour beside the thing.
struct Clutter {
    at: Point,
    radius: f32,
    colour: [f32; 3],
}

impl SyntheticCamera {
    /// Creates a camera. The seed determines its frames.
    pub fn new(seed: u64) -> Self {
        Self { state: seed ^ 0x5851_f42d_4c95_7f2d }
    }

    /// Renders the next frame, which shows `thing`.
    pub fn frame(&mut self, thing: Thing) -> RgbImage {
        let scale = self.between(0.42, 0.68);
        let at = [self.between(-0.28, 0.28), self.between(-0.16, 0.16)];
        let turn = self.between(-0.6, 0.6);
        let squeeze = self.between(0.82, 1.0);
        let wall = self.wall();
        let clutter: Vec<Clutter> = (0..4).map(|_| self.clutter()).collect();
        let lamp = self.between(0.6, 1.25);
        let tint: [f32; 3] = [(); 3].map(|()| self.between(0.9, 1.1));
        let light_from = self.between(0.0, std::f32::consts::TAU);
        let noise = self.between(2.0, 10.0);
        let (sin, cos) = turn.sin_cos();
        RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
            // The short side spans -1..1.
            let half = HEIGHT as f32 / 2.0;
            let point = [(x as f32 - WIDTH as f32 / 2.0) / half, (y as f32 - half) / half];
            let moved = [(point[0] - at[0]) / scale, (point[1] - at[1]) / scale];
            let local =
                [(moved[0] * cos + moved[1] * sin) / squeeze, moved[1] * cos - moved[0] * sin];
            let mut colour = wall.colour(point);
            for blot in &clutter {
                let (dx, dy) = (point[0] - blot.at[0], point[1] - blot.at[1]);
                if dx * dx + dy * dy < blot.radius * blot.radius {
                    colour = blot.colour;
                }
            }
            if let Some(own) = thing.colour_at(local) {
                let shade = 1.0 - 0.3 * (local[0] * light_from.cos() + local[1] * light_from.sin());
                colour = own.map(|c| c * shade);
            }
            let grain = self.normal() * noise;
            Rgb([0, 1, 2].map(|c| (colour[c] * lamp * tint[c] + grain).clamp(0.0, 255.0) as u8))
        })
    }

    fn wall(&mut self) -> Wall {
        let angle = self.between(0.0, std::f32::consts::TAU);
        let grey = self.between(60.0, 200.0);
        let mut colour = || [(); 3].map(|()| grey + self.between(-40.0, 40.0));
        let near = colour();
        let far = colour();
        Wall { near, far, direction: [angle.cos(), angle.sin()], stripes: self.between(0.0, 12.0) }
    }

    fn clutter(&mut self) -> Clutter {
        Clutter {
            at: [self.between(-1.3, 1.3), self.between(-1.0, 1.0)],
            radius: self.between(0.05, 0.25),
            colour: [(); 3].map(|()| self.between(30.0, 220.0)),
        }
    }

    /// Returns the next number of splitmix64, scaled to `low..high`.
    fn between(&mut self, low: f32, high: f32) -> f32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32;
        low + unit * (high - low)
    }

    /// Returns a nearly normal number with deviation 1.
    fn normal(&mut self) -> f32 {
        (self.between(-1.0, 1.0) + self.between(-1.0, 1.0) + self.between(-1.0, 1.0)) * 1.0
    }
}

impl Wall {
    fn colour(&self, point: Point) -> [f32; 3] {
        let along = point[0] * self.direction[0] + point[1] * self.direction[1];
        let mix = (along * 0.4 + 0.5).clamp(0.0, 1.0);
        let stripe = if (along * self.stripes).sin() > 0.6 { 12.0 } else { 0.0 };
        [0, 1, 2].map(|c| self.near[c] * (1.0 - mix) + self.far[c] * mix + stripe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_the_frames_and_another_changes_them() {
        let first = |seed| SyntheticCamera::new(seed).frame(Thing::Star);
        assert_eq!(first(7), first(7));
        assert_ne!(first(7), first(8));
        let mut camera = SyntheticCamera::new(7);
        assert_ne!(camera.frame(Thing::Star), camera.frame(Thing::Star), "no two frames are alike");
    }
}
