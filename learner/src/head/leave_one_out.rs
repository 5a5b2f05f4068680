//! Leave-one-out scores of every shot, in closed form.
//!
//! Without shot `x` of mode `c` (`n` shots, `u = x - mean_c`) the mean moves by `-u / (n - 1)` and
//! the scatter loses `n / (n - 1) u u^T`. By Sherman and Morrison, with `g = A^-1 u`, `q = u . g`
//! and `b` the weight of an outer product in `A` times `n / (n - 1)`, every squared distance
//! `v^T A^-1 v` grows by `b (g . v)^2 / (1 - b q)`: leaving a shot out needs no factorisation of
//! its own.
//!
//! The judged point is any `centre + along * mean_c + spread * u`: `1, 1` is the shot itself; with
//! a smaller `along` it is the shot as it would be on another occasion (`occasions.rs`).

use faer::Mat;

use super::gaussians::{Factorised, dot};
use super::resemblance::Directions;
use crate::predictor::{Resemblances, evidence};

/// One shot, or a stand-in for one, judged by a head without it.
#[derive(Debug, Clone, PartialEq)]
pub struct LeftOut {
    /// The class of the shot.
    pub class: usize,
    /// Log-likelihood ratio of each class against the centre of all classes.
    pub scores: Vec<f64>,
    resemblances: Resemblances,
}

/// A judged point: `centre + along * mean + spread * deviation`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    /// Share of its mode's mean.
    pub(super) along: f64,
    /// Share of its deviation from that mean.
    pub(super) spread: f64,
}

impl Point {
    /// A shot itself, or its stand-in, at `spread` times its distance from the mean.
    pub(super) fn alike(spread: f64) -> Self {
        Self { along: 1.0, spread }
    }
}

/// Distance of a class's own shots from its mean, as a multiple of that of Gaussian stand-ins.
/// Ours, measured on PACS (5, 10, 20 and 60 shots of 28 classes), where it brings the estimate
/// within four points of the truth; on CIFAR-100 the estimate is then within five.
pub(super) const SPREAD: f64 = 1.05;

impl LeftOut {
    /// Returns the class with the highest score.
    pub fn best(&self) -> usize {
        let by_score = |&a: &usize, &b: &usize| self.scores[a].total_cmp(&self.scores[b]);
        (0..self.scores.len()).max_by(by_score).unwrap_or(0)
    }

    /// Evidence that the point belongs to one of the classes.
    pub(super) fn evidence(&self, temperature: f64) -> f64 {
        evidence(&self.scores, &self.resemblances, temperature)
    }

    /// Resemblances to all classes.
    #[cfg(test)]
    pub(super) fn resemblances(&self) -> &Resemblances {
        &self.resemblances
    }

    /// The highest score.
    fn highest(&self) -> f64 {
        self.scores.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// `-log p(class)` at a temperature.
    pub(super) fn log_loss(&self, temperature: f64) -> f64 {
        let best = self.highest();
        let sum: f64 = self.scores.iter().map(|s| ((s - best) / temperature).exp()).sum();
        sum.ln() - (self.scores[self.class] - best) / temperature
    }
}

/// Products that are common to all shots.
struct Left {
    /// `u . A^-1 u` of each shot.
    q: Vec<f64>,
    /// `u . A^-1 mean_j`: `[shots, modes]`.
    cross: Mat<f64>,
    /// `u . A^-1 v_j` of the vectors of [`Directions`]: `[shots, modes + g]`.
    along: Mat<f64>,
    /// `mean_i . A^-1 mean_j`: `[modes, modes]`.
    means: Mat<f64>,
}

/// Index, mode and judged point of one shot.
#[derive(Clone, Copy)]
struct Shot {
    place: usize,
    mode: usize,
    point: Point,
}

impl Factorised<'_> {
    fn left(&self, deviations: &Mat<f64>, directions: &Directions) -> Left {
        let solved = self.solve(deviations);
        let q = (0..deviations.ncols()).map(|p| dot(deviations, p, &solved, p)).collect();
        Left {
            q,
            cross: deviations.transpose() * &self.solved_means,
            means: self.gaussians.means.transpose() * &self.solved_means,
            along: deviations.transpose() * &directions.solved,
        }
    }

    /// Returns `b / (1 - b q)` and `n`. The denominator is positive in exact arithmetic.
    fn downdate(&self, mode: usize, q: f64) -> (f64, f64) {
        let n = self.gaussians.counts[mode];
        let b = self.weight * n / (n - 1.0);
        (b / (1.0 - b * q).max(1e-9), n)
    }

    /// `k = tr(A^-1 C)`, measured on left-out shots: the squared distance of a shot from the true
    /// mean of its class. A mean of `n` shots looks `k / n` further away than it is. Without shots
    /// to measure on, it is computed from the generic classes.
    pub(super) fn mean_noise(&self, modes: &[usize], deviations: &Mat<f64>) -> f64 {
        if modes.is_empty() {
            return self.generic_noise();
        }
        let solved = self.solve(deviations);
        let one = modes.iter().enumerate().map(|(p, &mode)| {
            let q = dot(deviations, p, &solved, p);
            let (gain, n) = self.downdate(mode, q);
            n / (n - 1.0) * (q + gain * q * q)
        });
        one.sum::<f64>() / modes.len().max(1) as f64
    }

    /// Judges the point of each shot without the shot. `point` takes the index and the mode of a
    /// shot.
    pub(super) fn leave_out(
        &self,
        modes: &[usize],
        deviations: &Mat<f64>,
        point: impl Fn(usize, usize) -> Point,
        directions: &Directions,
        mean_noise: f64,
    ) -> Vec<LeftOut> {
        let left = self.left(deviations, directions);
        let judge = |(place, &mode): (usize, &usize)| {
            let shot = Shot { place, mode, point: point(place, mode) };
            LeftOut {
                class: self.gaussians.classes[mode],
                scores: self.scores_without(shot, &left, mean_noise),
                resemblances: self.resemblances_without(shot, &left, directions),
            }
        };
        modes.iter().enumerate().map(judge).collect()
    }

    /// Scores of a shot's point, without the shot.
    fn scores_without(&self, shot: Shot, left: &Left, mean_noise: f64) -> Vec<f64> {
        let Shot { place, mode, point: Point { along, spread } } = shot;
        let counts = &self.gaussians.counts;
        let q = left.q[place];
        let (gain, n) = self.downdate(mode, q);
        let own = left.cross[(place, mode)];
        let own_norm = left.means[(mode, mode)];
        // x . A^-1 x and g . x, for x the point about the centre.
        let norm = along * along * own_norm + 2.0 * along * spread * own + spread * spread * q;
        let onto = along * own + spread * q;
        let background = norm + gain * onto * onto;
        let score = |j: usize| {
            if j == mode {
                let beyond = along - 1.0;
                let away = spread + 1.0 / (n - 1.0);
                let distance =
                    beyond * beyond * own_norm + 2.0 * beyond * away * own + away * away * q;
                let onto = beyond * own + away * q;
                let distance = distance + gain * onto * onto;
                return 0.5 * (background - distance + mean_noise / (n - 1.0));
            }
            let cross = left.cross[(place, j)];
            let toward = along * left.means[(mode, j)] + spread * cross;
            let distance =
                norm - 2.0 * toward + left.means[(j, j)] + gain * (onto - cross) * (onto - cross);
            0.5 * (background - distance + mean_noise / counts[j])
        };
        self.gaussians.by_class((0..counts.len()).map(score))
    }

    /// Resemblances of a shot's point, without the shot.
    fn resemblances_without(
        &self,
        shot: Shot,
        left: &Left,
        directions: &Directions,
    ) -> Resemblances {
        let Shot { place, mode, point: Point { along, spread } } = shot;
        let q = left.q[place];
        let (gain, n) = self.downdate(mode, q);
        // g . x, for x the point about the middle of the generic classes; the vector of its mode
        // leads from there to the mean.
        let own = left.cross[(place, mode)];
        let onto = along * own + spread * q - (own - left.along[(place, mode)]);
        let resemblance = |j: usize| {
            let cross = left.along[(place, j)];
            let product =
                along * directions.means[(mode, j)] + spread * cross - directions.middle[j];
            let length = directions.lengths[j];
            if j != mode {
                let length = length + gain * cross * cross;
                return directions.resemblance(product + gain * onto * cross, length);
            }
            // The mean without the shot.
            let share = 1.0 / (n - 1.0);
            let cross_without = cross - share * q;
            let product = product - share * onto + gain * onto * cross_without;
            let length = length - 2.0 * share * cross
                + share * share * q
                + gain * cross_without * cross_without;
            directions.resemblance(product, length)
        };
        let n_modes = self.gaussians.counts.len();
        Resemblances {
            taught: self.gaussians.by_class((0..n_modes).map(resemblance)),
            generic: (n_modes..directions.lengths.len()).map(resemblance).collect(),
        }
    }
}
