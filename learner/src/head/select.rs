//! Fits the predictor: covariance, temperature, test for unknown pictures, accuracy estimate.

use std::sync::Arc;

use faer::Mat;
use thiserror::Error;

use super::estimate::{Estimate, Judged};
use super::gaussians::{Factorised, Gaussians, StandIns, dot};
use super::leave_one_out::{LeftOut, Point, SPREAD};
use super::mean;
use super::occasions::AnotherOccasion;
use super::own_shape::own_terms;
use super::resemblance::Directions;
use crate::byte_rows::ByteRows;
use crate::predictor::{Background, GENERIC_SHARE, ToResemblance};
use crate::{Class, ClassStatistics, HEAD_VERSION, OwnTerms, Predictor, Prior, UnknownTest};

/// Temperature if no class has two shots and there is no prior: the calibrated value of classes of
/// five shots on CIFAR-100.
const UNCALIBRATED: f64 = 32.0;

/// Temperature if no class has two shots, as a share of the mean squared distance of class means
/// from the centre.
const SINGLE_SHOT_SHARE: f64 = 0.095;

/// Share of the temperature with the least log-loss on stand-ins: stand-ins are further away than
/// most pictures of other occasions.
const CALIBRATED_SHARE: f64 = 0.9;

/// Least temperature with few shots, for each number of a feature: 16 for 1536 numbers. Shots as
/// alike as those of one burst calibrate to less. It is halved at [`CALIBRATING_DEGREES`] shots
/// beyond the first of each mode.
const LEAST_TEMPERATURE: f64 = 1.0 / 96.0;
const CALIBRATING_DEGREES: f64 = 2000.0;

/// Share of pictures of a single taught class that may be called unknown, without a prior.
const FALSE_ALARMS: f64 = 0.05;

/// Share of stand-ins on another occasion with evidence below the threshold.
const STAND_INS_BELOW: f64 = 0.03;

/// Kind of head to fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HeadChoice {
    /// The mixture of taught, generic and round covariance, and own covariances of the classes.
    Auto,
    /// The same mixture with one covariance for all classes: LDA.
    SharedCovariance,
    /// Nearest class mean.
    NearestMean,
    /// The taught covariance alone, at a shrinkage in (0, 1].
    Lda(f64),
}

/// Reason why the statistics give no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeadError {
    /// The covariance could not be factorised: its numbers are out of range.
    #[error("the statistics of the classes give no usable covariance")]
    Covariance,
}

/// A fitted head and its accuracy estimate.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedHead {
    /// The head.
    pub predictor: Predictor,
    /// Its accuracy, estimated without pictures. `None` if no class has two shots or there is only
    /// one class.
    pub estimate: Option<Estimate>,
    /// Mean log-loss of each class's stand-ins, each left out, in nats. `None` for a class with a
    /// single shot.
    pub log_losses: Vec<Option<f64>>,
}

/// A covariance and the results of its head on stand-ins.
struct Candidate<'a> {
    covariance: Factorised<'a>,
    mean_noise: f64,
    directions: Directions,
    /// Stand-ins like the shots, each left out.
    alike: Vec<LeftOut>,
    occasion: AnotherOccasion,
    /// Stand-ins as on another occasion, each left out.
    another: Vec<LeftOut>,
    temperature: f64,
}

impl<'a> Candidate<'a> {
    fn new(covariance: Factorised<'a>, classes: &[Arc<Class>]) -> Self {
        let gaussians = covariance.gaussians;
        let StandIns { modes, deviations } = &gaussians.stand_ins;
        let mean_noise = covariance.mean_noise(modes, deviations);
        // Shots are means of their views, pictures are not.
        let spread = SPREAD * (1.0 + covariance.view_noise() / mean_noise.max(1e-9)).sqrt();
        let alike = |_, _| Point::alike(spread);
        let directions = Directions::new(&covariance, mean_noise);
        let alike = covariance.leave_out(modes, deviations, alike, &directions, mean_noise);
        let occasion = AnotherOccasion::new(&covariance, classes, mean_noise, spread);
        let point = |place, mode| occasion.point(place, mode);
        let another = covariance.leave_out(modes, deviations, point, &directions, mean_noise);
        let temperature = if another.is_empty() {
            single_shot_temperature(&covariance)
        } else {
            let least = LEAST_TEMPERATURE * gaussians.centre.len() as f64;
            let least = least / (1.0 + gaussians.degrees / CALIBRATING_DEGREES);
            (CALIBRATED_SHARE * calibrate(&another)).max(least)
        };
        Self { covariance, mean_noise, directions, alike, occasion, another, temperature }
    }

    fn leave_out(
        &self,
        modes: &[usize],
        deviations: &Mat<f64>,
        point: impl Fn(usize, usize) -> Point,
    ) -> Vec<LeftOut> {
        self.covariance.leave_out(modes, deviations, point, &self.directions, self.mean_noise)
    }

    fn estimate(&self, classes: &[Arc<Class>], shots: &[(usize, &[Vec<f32>])]) -> Estimate {
        let StandIns { modes, deviations } = &self.covariance.gaussians.stand_ins;
        let next = self.occasion.with_one_more();
        let point = |place, mode| next.point(place, mode);
        let judged = Judged {
            alike: &self.alike,
            seen: &judge_shots(self, classes, shots),
            another: &self.another,
            after_one_more: &self.leave_out(modes, deviations, point),
        };
        Estimate::new(classes, &judged, &self.occasion)
    }
}

/// Fits a head over all classes to their statistics.
///
/// The predictor follows from the statistics and the prior alone, so it does not depend on the
/// order of teaching. `shots`, each with the index of its class in `classes`, are the shots of the
/// current operation, which the statistics already contain. The estimate uses them instead of
/// stand-ins where they are given.
///
/// # Errors
///
/// [`HeadError::Covariance`].
pub fn fit_head(
    classes: &[Arc<Class>],
    d_feature: usize,
    prior: Option<&Prior>,
    choice: HeadChoice,
    shots: &[(usize, &[Vec<f32>])],
) -> Result<FittedHead, HeadError> {
    if classes.is_empty() {
        return Ok(FittedHead {
            predictor: Predictor::empty(d_feature),
            estimate: None,
            log_losses: Vec::new(),
        });
    }
    // Without a prior, a single class is tested by its distance alone, which needs it as one mode.
    let whole: Option<ClassStatistics> = match classes {
        [class] if prior.is_none() => Some(class.as_one_mode().map_err(|_| HeadError::Covariance)?),
        _ => None,
    };
    let modes: Vec<(usize, &ClassStatistics)> = match &whole {
        Some(whole) => vec![(0, whole)],
        None => modes_of(classes).collect(),
    };
    let gaussians = Gaussians::new(&modes, d_feature, prior);
    let covariance = match choice {
        HeadChoice::Auto | HeadChoice::SharedCovariance => gaussians.covariance(outlined(&modes)),
        HeadChoice::Lda(shrinkage) if gaussians.has_spread() => gaussians.shrunk(shrinkage),
        HeadChoice::Lda(_) | HeadChoice::NearestMean => gaussians.shrunk(1.0),
    };
    let best = Candidate::new(covariance.ok_or(HeadError::Covariance)?, classes);
    let judged = !best.alike.is_empty() && classes.len() > 1;
    let own = match choice {
        HeadChoice::Auto if judged && modes.iter().all(|(_, mode)| is_whole(mode)) => {
            own_terms(&gaussians, &best.covariance)
        }
        _ => Some(OwnTerms::default()),
    };
    let own = own.ok_or(HeadError::Covariance)?;
    let predictor = predictor(classes, &gaussians, &best, own);
    let estimate = judged.then(|| best.estimate(classes, shots));
    let log_losses = log_losses(&best, classes.len());
    Ok(FittedHead { predictor, estimate, log_losses })
}

/// Returns the temperature for classes of one shot each.
fn single_shot_temperature(covariance: &Factorised<'_>) -> f64 {
    let gaussians = covariance.gaussians;
    let n = gaussians.counts.len();
    let squared = |j: usize| dot(&gaussians.means, j, &covariance.solved_means, j);
    let spread = match n {
        // With one class, the spread is that of the generic classes.
        1 => mean(covariance.generic_norms().into_iter()),
        _ => (0..n).map(squared).sum::<f64>() / (n as f64 - 1.0),
    };
    if gaussians.n_generic() == 0 {
        return UNCALIBRATED;
    }
    (SINGLE_SHOT_SHARE * spread).max(f64::from(f32::MIN_POSITIVE))
}

/// Returns true if a scatter has the rows expected from its shots, less some for shots that were
/// given twice. A scatter with far fewer rows is an outline from elsewhere (an adapter): the shared
/// covariance is then too rough to separate a class's own shape, and own covariances would favour
/// the classes taught here.
fn is_whole(mode: &ClassStatistics) -> bool {
    let all = (mode.count() as usize).min(mode.d_feature()).saturating_sub(1);
    4 * mode.scatter().rank() >= 3 * all
}

/// Returns true if more than half of the shots beyond the first of each mode belong to outlines.
fn outlined(modes: &[(usize, &ClassStatistics)]) -> bool {
    let degrees = |mode: &ClassStatistics| u64::from(mode.count()).saturating_sub(1);
    let all: u64 = modes.iter().map(|(_, mode)| degrees(mode)).sum();
    let outlines = modes.iter().filter(|(_, mode)| !is_whole(mode));
    2 * outlines.map(|(_, mode)| degrees(mode)).sum::<u64>() > all
}

/// Iterates over all modes, class by class, with the index of the class.
fn modes_of(classes: &[Arc<Class>]) -> impl Iterator<Item = (usize, &ClassStatistics)> {
    classes
        .iter()
        .enumerate()
        .flat_map(|(place, class)| class.modes.iter().map(move |mode| (place, mode)))
}

fn log_losses(best: &Candidate<'_>, n_classes: usize) -> Vec<Option<f64>> {
    let mut sums = vec![(0.0, 0usize); n_classes];
    for left_out in &best.alike {
        let sum = &mut sums[left_out.class];
        *sum = (sum.0 + left_out.log_loss(best.temperature), sum.1 + 1);
    }
    sums.into_iter().map(|(sum, n)| (n > 0).then(|| sum / n as f64)).collect()
}

/// Returns the temperature with the least mean log-loss.
fn calibrate(left_out: &[LeftOut]) -> f64 {
    let mean = |octave: f64| {
        let losses = left_out.iter().map(|l| l.log_loss(octave.exp2()));
        losses.sum::<f64>() / left_out.len() as f64
    };
    // The log-loss is convex in the inverse temperature, so it has one minimum. Golden section over
    // 0.25 to 512, to a thirtieth of an octave, which is finer than the accuracy of any
    // calibration.
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let mut low = -2.0;
    let mut high = 9.0;
    let mut a = high - golden * (high - low);
    let mut b = low + golden * (high - low);
    let mut at_a = mean(a);
    let mut at_b = mean(b);
    while high - low > 1.0 / 30.0 {
        if at_a <= at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - golden * (high - low);
            at_a = mean(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + golden * (high - low);
            at_b = mean(b);
        }
    }
    if at_a <= at_b { a.exp2() } else { b.exp2() }
}

fn predictor(
    classes: &[Arc<Class>],
    gaussians: &Gaussians,
    best: &Candidate<'_>,
    own: OwnTerms,
) -> Predictor {
    let solved = &best.covariance.solved_means;
    let n_modes = gaussians.counts.len();
    let modes = |place| gaussians.classes.iter().filter(|&&class| class == place).count() as u32;
    let bias = |c: usize| {
        let norm = dot(&gaussians.means, c, solved, c);
        ((best.mean_noise / gaussians.counts[c] - norm) / 2.0) as f32
    };
    let biases: Vec<f32> = (0..n_modes).map(bias).collect();
    let (to_resemblance, generic) = best.directions.to_resemblance(&biases);
    Predictor {
        version: HEAD_VERSION,
        names: classes.iter().map(|c| c.name.clone()).collect(),
        centre: gaussians.centre.iter().map(|&v| v as f32).collect(),
        modes: (0..classes.len()).map(modes).collect(),
        weights: rows(&gaussians.out_of_span(solved)),
        biases,
        own,
        to_resemblance,
        background: background(&best.covariance, generic),
        temperature: best.temperature as f32,
        unknown: unknown_test(gaussians, best),
        shrinkage: best.covariance.shrinkage as f32,
    }
}

/// Returns the weights of the generic classes, with the map to resemblances of each.
fn background(covariance: &Factorised<'_>, to_resemblance: Vec<ToResemblance>) -> Background {
    let weights = covariance.generic_weights();
    let row = |g: usize| weights.col(g).iter().copied().collect();
    let rows: Vec<Vec<f64>> = (0..weights.ncols()).map(row).collect();
    Background {
        weights: ByteRows::new(weights.nrows(), rows.iter().map(Vec::as_slice)),
        to_resemblance,
    }
}

/// Returns the columns of a matrix, one after the other.
fn rows(columns: &Mat<f64>) -> Vec<f32> {
    let places = (0..columns.ncols()).flat_map(|c| (0..columns.nrows()).map(move |i| (i, c)));
    places.map(|(i, c)| columns[(i, c)] as f32).collect()
}

/// Sets the threshold so that few pictures of taught classes are below it on another occasion.
fn unknown_test(gaussians: &Gaussians, best: &Candidate<'_>) -> UnknownTest {
    let background = gaussians.n_generic() > 0;
    if best.another.is_empty() {
        return if background {
            let n_classes = gaussians.classes.last().map_or(0, |last| last + 1);
            // The evidence of a picture to which all classes are alike.
            let all = n_classes as f64 + GENERIC_SHARE * gaussians.n_generic() as f64;
            UnknownTest::Evidence { min: -((n_classes as f64).ln() + all.ln()) as f32 }
        } else {
            UnknownTest::Never
        };
    }
    if gaussians.counts.len() == 1 && !background {
        let StandIns { deviations, .. } = &gaussians.stand_ins;
        let away = SPREAD + 1.0 / (gaussians.counts[0] - 1.0);
        let farthest =
            (0..deviations.ncols()).map(|p| away * away * dot(deviations, p, deviations, p));
        let max_squared = quantile(farthest.collect(), 1.0 - FALSE_ALARMS);
        return UnknownTest::Radius { max_squared: max_squared as f32 };
    }
    let evidence = best.another.iter().map(|left_out| left_out.evidence(best.temperature));
    UnknownTest::Evidence { min: quantile(evidence.collect(), STAND_INS_BELOW) as f32 }
}

fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((share * last as f64).round() as usize).copied().unwrap_or(0.0)
}

/// Judges real shots, each left out.
fn judge_shots(
    best: &Candidate<'_>,
    classes: &[Arc<Class>],
    shots: &[(usize, &[Vec<f32>])],
) -> Vec<LeftOut> {
    let gaussians = best.covariance.gaussians;
    let mut columns: Vec<Vec<f64>> = Vec::new();
    let mut owners = Vec::new();
    for (place, shots) in shots {
        let class = &classes[*place];
        let means: Vec<Vec<f32>> = class.modes.iter().map(ClassStatistics::mean).collect();
        let first = gaussians.classes.iter().position(|owner| owner == place).unwrap_or(0);
        for shot in *shots {
            let mode = class.nearest_mode(shot);
            if class.modes[mode].count() < 2 {
                continue;
            }
            let deviation = shot.iter().zip(&means[mode]);
            columns.push(deviation.map(|(&x, &m)| f64::from(x) - f64::from(m)).collect());
            owners.push(first + mode);
        }
    }
    if columns.is_empty() {
        return Vec::new();
    }
    let deviations = Mat::from_fn(gaussians.centre.len(), columns.len(), |i, p| columns[p][i]);
    let deviations = gaussians.in_span(deviations);
    let as_it_is = |_, _| Point::alike(1.0);
    best.leave_out(&owners, &deviations, as_it_is)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClassName;

    const D: usize = 12;

    /// Pictures about a centre, with some directions wider than others.
    fn pictures(n: usize, seed: u64, middle: f32) -> Vec<Vec<f32>> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut number = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let mut vector = |width: f32| -> Vec<f32> {
            (0..D).map(|i| number() * width / (1.0 + i as f32 / 4.0)).collect()
        };
        let class = vector(2.0);
        let picture = |_| vector(1.0).iter().zip(&class).map(|(a, b)| a + b + middle).collect();
        (0..n).map(picture).collect()
    }

    /// The resemblances of a left-out shot equal those from a head fitted without it.
    #[test]
    fn resemblances_without_a_shot_are_those_of_a_head_without_it() {
        let generic: Vec<Vec<Vec<f32>>> = (100..140).map(|g| pictures(8, g, 0.3)).collect();
        let prior = Prior::estimate(&generic).expect("enough pictures");
        let shots: Vec<Vec<Vec<f32>>> = (0..6).map(|c| pictures(40, c, 0.0)).collect();
        let class = |(c, shots): (usize, &[Vec<f32>])| {
            let name = ClassName::new(&format!("class {c}")).expect("a sound name");
            Arc::new(Class::from_shots(name, shots).expect("sound shots"))
        };
        let all: Vec<Arc<Class>> = shots.iter().map(Vec::as_slice).enumerate().map(class).collect();
        let modes: Vec<(usize, &ClassStatistics)> = modes_of(&all).collect();
        let gaussians = Gaussians::new(&modes, D, Some(&prior));
        let covariance = gaussians.covariance(false).expect("a sound covariance");
        let best = Candidate::new(covariance, &all);
        let left_out = judge_shots(&best, &all, &[(0, &shots[0][..1])]);
        let mut without = all.clone();
        without[0] = class((0, &shots[0][1..]));
        let fitted = fit_head(&without, D, Some(&prior), HeadChoice::SharedCovariance, &[]);
        let head = fitted.expect("a head").predictor;
        let found = head.resemblances(&shots[0][0]);
        let expected = left_out[0].resemblances();
        for (found, expected) in
            [(&found.taught, &expected.taught), (&found.generic, &expected.generic)]
        {
            assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(expected) {
                // The tolerance covers quantisation to eight bits, and the degrees of freedom, of
                // which the head fitted without the shot has one less.
                assert!((a - b).abs() < 0.4, "{found:?} {expected:?}");
            }
        }
    }
}
