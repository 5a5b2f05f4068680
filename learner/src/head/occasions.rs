//! Shots moved to another occasion: the shots of a class as they would be on another day.
//!
//! Ours. The mean of a class depends on the class and on the occasions on which it was taught. Of
//! the vector `z` from the centre to the mean, another occasion keeps the share `rho`; the rest
//! belongs to the taught occasions. With `K` of them the mean keeps
//! `rho_K = rho / (rho + (1 - rho) / K)`. A shot that is left out is judged at
//! `z_x - (1 - kappa) phi(n - 1) z_own`: `z_own` the mean of the others, `phi(m) = S / (S + N / m)`
//! the part of a mean of `m` shots that is not due to chance, `kappa = rho_K phi(n) / phi(n - 1)`.
//!
//! Before a class was taught twice, `rho` follows from the diversity of its shots relative to
//! pictures of a generic class. Several occasions measure `rho`: the variance between them against
//! the variance between classes, under the covariance within generic classes (under a covariance
//! that is fitted to the shots, all occasions look alike).

use std::sync::Arc;

use faer::Mat;

use super::gaussians::{Factorised, Gaussians, dot};
use super::leave_one_out::Point;
use super::mean;
use crate::{Class, Occasion};

/// Variation of `rho` from class to class: standard deviation, and the quantiles of a normal
/// distribution that shots take in turn.
const VARIATION: f64 = 0.2;
const QUANTILES: [f64; 5] = [-1.28, -0.52, 0.0, 0.52, 1.28];

/// Slope and offset of `rho` as a function of diversity.
const RHO_SLOPE: f64 = 1.22;
const RHO_OF_NONE: f64 = 0.145;

/// Least `rho` derived from diversity alone.
const LEAST_RHO: f64 = 0.3;

/// `rho` without a prior to compare the shots with. It lies between that of a burst and that of
/// diverse pictures.
const UNCOMPARED_RHO: f64 = 0.8;

/// Weight of the `rho` from diversity, as a number of occasions beyond the first.
const PRIOR_OCCASIONS: f64 = 4.0;

/// Least difference expected between occasions, as a share of the variance of classes and occasions
/// together.
const LEAST_DIFFERENCE: f64 = 0.1;

/// Share of the generic variance within a class below which the shots count as all alike.
const ALIKE: f64 = 0.3;

/// Model of another occasion, derived from the taught ones.
#[derive(Debug, Clone)]
pub(super) struct AnotherOccasion {
    /// Share of the vector from the centre that another occasion keeps, if one was taught.
    rho: f64,
    /// Occasions of each class, as far as they differ.
    occasions: Vec<f64>,
    /// True for each class with shots that vary far less than pictures of one thing do.
    alike: Vec<bool>,
    /// Class of each mode.
    classes: Vec<usize>,
    counts: Vec<f64>,
    /// `S`: mean squared distance of the modes from the centre, without the part due to chance.
    signal: f64,
    /// `N`: squared distance of a shot from its mode's mean.
    noise: f64,
    /// Distance of pictures from the mean, as a multiple of that of shots.
    spread: f64,
}

impl AnotherOccasion {
    /// Measures the occasions of the classes. `noise` is `N`; `spread` is the distance of pictures
    /// from the mean, as a multiple of that of shots.
    pub(super) fn new(
        covariance: &Factorised<'_>,
        classes: &[Arc<Class>],
        noise: f64,
        spread: f64,
    ) -> Self {
        let gaussians = covariance.gaussians;
        let counts = gaussians.counts.clone();
        let squared = |j: usize| dot(&gaussians.means, j, &covariance.solved_means, j);
        let distances = (0..counts.len()).map(squared).sum::<f64>();
        let distance = distances / (counts.len() as f64 - 1.0).max(1.0);
        let chance = mean(counts.iter().map(|count| noise / count));
        let by_diversity = gaussians.diversity().map_or(UNCOMPARED_RHO, rho_of);
        let (rho, occasions) = measured(gaussians, classes, by_diversity)
            .unwrap_or_else(|| (by_diversity, vec![1.0; classes.len()]));
        Self {
            rho,
            occasions,
            alike: classes.iter().map(|class| is_alike(gaussians, class)).collect(),
            classes: gaussians.classes.clone(),
            signal: (distance - chance).max(distance / 10.0),
            counts,
            noise,
            spread,
        }
    }

    /// Returns the model after one more occasion of each class.
    pub(super) fn with_one_more(&self) -> Self {
        Self { occasions: self.occasions.iter().map(|k| k + 1.0).collect(), ..self.clone() }
    }

    /// Occasions of a class, as far as they differ: 1 if all shots could be of one.
    pub(super) fn occasions(&self, class: usize) -> f64 {
        self.occasions[class]
    }

    /// Returns true if the shots of a class vary far less than pictures of one thing do.
    pub(super) fn is_alike(&self, class: usize) -> bool {
        self.alike[class]
    }

    /// Returns the point of a shot of a mode on another occasion. Shots take the values of `rho` in
    /// turn, by their index.
    pub(super) fn point(&self, place: usize, mode: usize) -> Point {
        let rho = (self.rho + VARIATION * QUANTILES[place % QUANTILES.len()]).clamp(0.0, 1.3);
        let k = self.occasions[self.classes[mode]];
        let rho = if rho > 0.0 { rho / (rho + (1.0 - rho) / k) } else { 0.0 };
        let real = |shots: f64| self.signal / (self.signal + self.noise / shots);
        let n = self.counts[mode];
        let lost = real(n - 1.0) - rho * real(n);
        Point { along: 1.0 - lost, spread: self.spread + lost / (n - 1.0) }
    }
}

/// Returns `rho` for a diversity: the variance of the shots relative to pictures of a generic
/// class. Ours, chosen on bursts of the training pictures of grocery-160 (.1 to .3, where .25 to .6
/// is true) and on CIFAR-100 (.65 to .8, where 1 is true).
fn rho_of(diversity: f64) -> f64 {
    (RHO_SLOPE * diversity + RHO_OF_NONE).clamp(LEAST_RHO, 1.0)
}

/// Spread of the occasions of one class about their own mean.
struct Spread {
    /// Sum of the squared distances from the mean.
    between: f64,
    /// The same sum, each distance times the number of shots of its occasion.
    weighted: f64,
    /// Mean over the occasions of one over their number of shots.
    chance: f64,
    /// Number of occasions, `K`.
    n: usize,
}

impl Spread {
    fn of(covariance: &Factorised<'_>, occasions: &[Occasion]) -> Self {
        let means: Vec<Vec<f32>> = occasions.iter().map(Occasion::mean).collect();
        let n = means.len();
        let middle = |i: usize| mean(means.iter().map(|mean| f64::from(mean[i])));
        let middle: Vec<f64> = (0..means[0].len()).map(middle).collect();
        let about = Mat::from_fn(middle.len(), n, |i, o| f64::from(means[o][i]) - middle[i]);
        let about = covariance.gaussians.in_span(about);
        let solved = covariance.solve(&about);
        let squared: Vec<f64> = (0..n).map(|o| dot(&about, o, &solved, o)).collect();
        let shots = occasions.iter().map(|occasion| f64::from(occasion.count()));
        Self {
            between: squared.iter().sum(),
            weighted: squared.iter().zip(shots.clone()).map(|(square, shots)| square * shots).sum(),
            chance: mean(shots.map(f64::recip)),
            n,
        }
    }

    /// Variance between the occasions without the part due to chance; `noise` is the variance of a
    /// shot within its occasion.
    fn variance(&self, noise: f64) -> f64 {
        self.between / (self.n as f64 - 1.0) - noise * self.chance
    }
}

/// Returns `rho`, and the occasions of each class as far as they differ. `None` while every class
/// was taught once.
fn measured(
    gaussians: &Gaussians,
    classes: &[Arc<Class>],
    by_diversity: f64,
) -> Option<(f64, Vec<f64>)> {
    let occasions: Vec<Vec<Occasion>> = classes.iter().map(|class| class.occasions()).collect();
    if occasions.iter().all(|occasions| occasions.len() < 2) {
        return None;
    }
    let covariance = gaussians.generic_covariance()?;
    let spread = |occasions: &Vec<Occasion>| Spread::of(&covariance, occasions);
    let spreads: Vec<Spread> = occasions.iter().map(spread).collect();
    // Modes divide the shots of a class: no scatter contains the distance between them.
    let shots: f64 = gaussians.counts.iter().sum();
    let n_occasions: usize = spreads.iter().map(|spread| spread.n).sum();
    let within_modes = spreads.iter().zip(classes).filter(|(_, class)| class.modes.len() == 1);
    let between: f64 = within_modes.map(|(spread, _)| spread.weighted).sum();
    let within = (covariance.scatter_trace() - between).max(0.0);
    let noise = within / (shots - n_occasions as f64).max(1.0);
    let several = || spreads.iter().filter(|spread| spread.n > 1);
    let degrees = several().map(|spread| spread.n as f64 - 1.0).sum::<f64>();
    let variances = several().map(|spread| (spread.n as f64 - 1.0) * spread.variance(noise));
    let between_occasions = (variances.sum::<f64>() / degrees).max(0.0);
    let n_modes = gaussians.counts.len();
    let squared = |j: usize| dot(&gaussians.means, j, &covariance.solved_means, j);
    let distance = (0..n_modes).map(squared).sum::<f64>() / (n_modes as f64 - 1.0).max(1.0);
    let chance = mean(spreads.iter().map(|spread| between_occasions / spread.n as f64))
        + mean(gaussians.counts.iter().map(|count| noise / count));
    let between_classes = (distance - chance).max(distance / 10.0);
    let all = (between_classes + between_occasions).max(f64::MIN_POSITIVE);
    let weight = mean(spreads.iter().map(|spread| spread.n as f64 - 1.0));
    let measured = weight * between_classes / all + PRIOR_OCCASIONS * by_diversity;
    let rho = measured / (weight + PRIOR_OCCASIONS);
    let expected = (1.0 - by_diversity).max(LEAST_DIFFERENCE) * all;
    let differing = |spread: &Spread| match spread.n {
        1 => 1.0,
        n => 1.0 + (n as f64 - 1.0) * (spread.variance(noise) / expected).clamp(0.0, 1.0),
    };
    Some((rho, spreads.iter().map(differing).collect()))
}

fn is_alike(gaussians: &Gaussians, class: &Class) -> bool {
    let degrees = class.count().saturating_sub(1);
    let Some(generic) = gaussians.generic_variance().filter(|_| degrees > 0) else { return false };
    let Ok(whole) = class.as_one_mode() else { return false };
    whole.energy() / f64::from(degrees) < ALIKE * generic
}
