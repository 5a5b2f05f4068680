//! Every shot judged by a head that never saw it, in closed form.
//!
//! Without shot `x` of class `c` (`n` shots, `u = x - mean_c`) the class mean moves by `-u / (n - 1)`, the
//! shared covariance loses `b u u^T` with `b = (1 - s) n / ((n - 1) degrees)`, and the class's own rows
//! lose `h v v^T`, `v` the part of `u` that they hold and `h = n / ((n - 1) (nu + n - 1))`. By Sherman,
//! Morrison and Woodbury, distances and determinants follow from inner products with `u` and `v`: no shot
//! needs a factorisation of its own.

use faer::Mat;

use super::gaussians::Shrunk;
use super::own_shape::{OwnDirections, OwnShape};

/// One shot, or the stand-in for one, judged without itself.
#[derive(Debug, Clone, PartialEq)]
pub struct LeftOut {
    /// The class it belongs to.
    pub class: usize,
    /// Log-likelihood ratio of each class against the centre of all classes.
    pub scores: Vec<f64>,
}

/// How much further a class's own shots lie from its mean than Gaussian stand-ins say: ours, measured on
/// PACS (5, 10, 20 and 60 shots of 28 classes), where it brings the estimate within four points of the
/// truth; on CIFAR-100 it then holds within five.
pub(super) const SPREAD: f64 = 1.05;

impl LeftOut {
    /// The class with the highest score.
    pub fn best(&self) -> usize {
        let by_score = |&a: &usize, &b: &usize| self.scores[a].total_cmp(&self.scores[b]);
        (0..self.scores.len()).max_by(by_score).unwrap_or(0)
    }

    /// The highest score.
    pub fn evidence(&self) -> f64 {
        self.scores.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// `-log p(class)` at a temperature.
    pub(super) fn log_loss(&self, temperature: f64) -> f64 {
        let best = self.evidence();
        let sum: f64 = self.scores.iter().map(|s| ((s - best) / temperature).exp()).sum();
        sum.ln() - (self.scores[self.class] - best) / temperature
    }
}

/// Shots and all products with them that the shapes of all strengths share.
pub(super) struct Trial<'a> {
    shrunk: &'a Shrunk<'a>,
    own: &'a OwnDirections,
    classes: &'a [usize],
    /// `u . A^-1 u` of each shot.
    q: Vec<f64>,
    /// `u . A^-1 mean_j`: `[shots, classes]`.
    cross: Mat<f64>,
    /// `mean_i . A^-1 mean_j`.
    means: Mat<f64>,
    /// `u` along all own directions: `[rows, shots]`.
    along: Mat<f64>,
    /// `v` along the own directions of the shot's class.
    held: Vec<Vec<f64>>,
}

/// How a class's own covariance changes when one of its shots is left out.
struct Downdate {
    /// Squared distance of the shot from the mean of the others, over the square of its factor.
    distance: f64,
    /// Change of the log-determinant.
    log_volume: f64,
}

impl<'a> Trial<'a> {
    /// Prepares shots: `deviations` from their class means, `[m, shots]`.
    pub(super) fn new(
        shrunk: &'a Shrunk<'a>,
        own: &'a OwnDirections,
        classes: &'a [usize],
        deviations: &Mat<f64>,
    ) -> Self {
        let solved = shrunk.solve(deviations);
        let gaussians = shrunk.gaussians;
        let q = (0..deviations.ncols()).map(|p| dot(deviations, p, &solved, p)).collect();
        let held = classes.iter().enumerate();
        let held = held.map(|(p, &c)| own.row_part(&gaussians.own_rows, c, deviations, p));
        Self {
            shrunk,
            own,
            classes,
            q,
            cross: deviations.transpose() * &shrunk.solved_means,
            means: gaussians.means.transpose() * &shrunk.solved_means,
            along: own.directions.transpose() * deviations,
            held: held.collect(),
        }
    }

    /// `b` for a shot of a class of `n` shots.
    fn shared_loss(&self, n: f64) -> f64 {
        (1.0 - self.shrunk.shrinkage) * n / ((n - 1.0) * self.shrunk.gaussians.degrees_left())
    }

    fn downdate(&self, shape: &OwnShape, p: usize) -> Downdate {
        let class = self.classes[p];
        let n = self.shrunk.gaussians.counts[class];
        let (b, h) = (self.shared_loss(n), n / (n - 1.0) * shape.gains[class]);
        // Inner products under A_c^-1 = A^-1 - sum kappa (direction)(direction)^T.
        let (mut uu, mut uv, mut vv) = (self.q[p], 0.0, 0.0);
        for (k, r) in self.shrunk.gaussians.own_rows.ranges[class].clone().enumerate() {
            let (u, v, kept) = (self.along[(r, p)], self.held[p][k], 1.0 - shape.shares[r]);
            uu -= shape.shares[r] * u * u;
            uv += kept * u * v;
            vv += kept * v * v;
        }
        // (I - C Q) with C = diag(b, h), Q the inner products of (u, v).
        let (a11, a12, a21, a22) = (1.0 - b * uu, -b * uv, -h * uv, 1.0 - h * vv);
        // Positive in exact arithmetic.
        let determinant = (a11 * a22 - a12 * a21).max(1e-9);
        // v^T (I - C Q)^-1 C v with v = (uu, uv).
        let (x, y) = (b * uu, h * uv);
        let gained = (uu * (a22 * x - a12 * y) + uv * (a11 * y - a21 * x)) / determinant;
        Downdate { distance: uu + gained, log_volume: determinant.ln() }
    }

    /// `k = tr(A^-1 C)`, measured on shots that the covariance has not seen: the squared distance of a shot
    /// from the true mean of its class, so that a mean of `n` shots looks `k / n` further away than it is.
    pub(super) fn mean_noise(&self, shape: &OwnShape) -> f64 {
        let one = |p: usize| {
            let n = self.shrunk.gaussians.counts[self.classes[p]];
            n / (n - 1.0) * self.downdate(shape, p).distance
        };
        (0..self.classes.len()).map(one).sum::<f64>() / self.classes.len().max(1) as f64
    }

    /// Judges shots at `mean + spread * deviation` without `mean + deviation`.
    pub(super) fn leave_out(&self, shape: &OwnShape, spread: f64, mean_noise: f64) -> Vec<LeftOut> {
        let judge = |p: usize| {
            let n_classes = self.shrunk.gaussians.counts.len();
            let scores =
                (0..n_classes).map(|j| self.score(shape, p, j, spread, mean_noise)).collect();
            LeftOut { class: self.classes[p], scores }
        };
        (0..self.classes.len()).map(judge).collect()
    }

    /// Log-likelihood ratio of class `j` against the centre for shot `p`, left out.
    fn score(&self, shape: &OwnShape, p: usize, j: usize, spread: f64, mean_noise: f64) -> f64 {
        let gaussians = self.shrunk.gaussians;
        let class = self.classes[p];
        let (n, q, own) = (gaussians.counts[class], self.q[p], self.cross[(p, class)]);
        let b = self.shared_loss(n);
        // x . A^-1 x and x . A^-1 u, for x the shot about the centre.
        let norm = self.means[(class, class)] + 2.0 * spread * own + spread * spread * q;
        let toward_u = own + spread * q;
        let left = (1.0 - b * q).max(1e-9);
        let background = norm + b / left * toward_u * toward_u + left.ln();
        let (distance, shots) = if j == class {
            let downdate = self.downdate(shape, p);
            let away = spread + 1.0 / (n - 1.0);
            (away * away * downdate.distance + downdate.log_volume, n - 1.0)
        } else {
            let toward_mean = self.means[(class, j)] + spread * self.cross[(p, j)];
            let mut ee = norm - 2.0 * toward_mean + self.means[(j, j)];
            let (mut eu, mut uu) = (toward_u - self.cross[(p, j)], q);
            for r in gaussians.own_rows.ranges[j].clone() {
                let u = self.along[(r, p)];
                let e = self.own.means[(r, class)] + spread * u - self.own.means[(r, j)];
                ee -= shape.shares[r] * e * e;
                eu -= shape.shares[r] * e * u;
                uu -= shape.shares[r] * u * u;
            }
            let left = (1.0 - b * uu).max(1e-9);
            (ee + b / left * eu * eu + left.ln(), gaussians.counts[j])
        };
        0.5 * (background - distance - shape.log_volumes[j] + mean_noise / shots)
    }
}

pub(super) fn dot(a: &Mat<f64>, i: usize, b: &Mat<f64>, j: usize) -> f64 {
    (0..a.nrows()).map(|k| a[(k, i)] * b[(k, j)]).sum()
}
