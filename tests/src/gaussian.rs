//! Classes with a known distribution, to compare estimates with the truth.

/// Classes with normal means and one diagonal covariance. The same seed gives the same shots.
#[derive(Debug)]
pub struct GaussianClasses {
    means: Vec<Vec<f32>>,
    deviations: Vec<f32>,
    state: u64,
}

impl GaussianClasses {
    /// Creates `n_classes` means at `distance` deviations from the centre in each of `d`
    /// directions. Deviations fall from 1 to 1/4 over the directions.
    pub fn new(n_classes: usize, d: usize, distance: f32, seed: u64) -> Self {
        let deviations = (0..d).map(|i| 1.0 - 0.75 * i as f32 / d as f32).collect();
        let mut classes = Self { means: Vec::new(), deviations, state: seed };
        for _ in 0..n_classes {
            let mean = (0..d).map(|_| distance * classes.normal()).collect();
            classes.means.push(mean);
        }
        classes
    }

    /// Draws a new shot of a class.
    pub fn shot(&mut self, class: usize) -> Vec<f32> {
        let d = self.deviations.len();
        let noise: Vec<f32> = (0..d).map(|_| self.normal()).collect();
        let spread = noise.iter().zip(&self.deviations).map(|(n, s)| n * s);
        spread.zip(&self.means[class]).map(|(n, m)| m + n).collect()
    }

    /// Draws `n` new shots of a class.
    pub fn shots(&mut self, class: usize, n: usize) -> Vec<Vec<f32>> {
        (0..n).map(|_| self.shot(class)).collect()
    }

    /// Draws a normal number, by Box and Muller over splitmix64.
    fn normal(&mut self) -> f32 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f32::consts::TAU * self.uniform()).cos()
    }

    /// Draws a number in (0, 1].
    fn uniform(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 40) + 1) as f32 / (1u64 << 24) as f32
    }
}
