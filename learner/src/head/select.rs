//! Chooses the shrinkage, calibrates, and makes the predictor.

use std::sync::Arc;

use faer::Mat;
use thiserror::Error;

use super::estimate::Estimate;
use super::gaussians::{Gaussians, Shrunk, StandIns};
use super::leave_one_out::{LeftOut, SPREAD, Trial, dot};
use super::own_shape::{OWN_WEIGHTS, OwnDirections, OwnShape};
use crate::{Class, HEAD_VERSION, OwnTerms, Predictor, UnknownTest};

/// Shrinkages that are tried, from nearly plain LDA to the nearest mean.
pub const SHRINKAGES: [f64; 10] = [0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0];

/// Temperature while no class has two shots: what classes of five shots calibrate to on CIFAR-100.
const UNCALIBRATED: f64 = 32.0;

/// Share of pictures of taught classes that may be called unknown.
const FALSE_ALARMS: f64 = 0.05;

/// Share of stand-ins whose evidence lies below the threshold. Real shots have a little more evidence than
/// Gaussian ones; on PACS (14 of 28 classes taught, 5 to 60 shots) this share brings 5 % false alarms.
const STAND_INS_BELOW: f64 = 0.065;

/// Which head to make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HeadChoice {
    /// Shrinkage and weight of the classes' own covariances with the least log-loss on shots left out.
    Auto,
    /// Nearest class mean.
    NearestMean,
    /// LDA at a shrinkage in (0, 1].
    Lda(f64),
    /// LDA at the shrinkage with the least log-loss: one covariance for all classes.
    SharedCovariance,
}

/// Why statistics give no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeadError {
    /// The covariance could not be factorised at any shrinkage: its numbers are out of all bounds.
    #[error("the statistics of the classes give no usable covariance")]
    Covariance,
}

/// A head and what is known of its accuracy.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedHead {
    /// The head.
    pub predictor: Predictor,
    /// Its accuracy, estimated without pictures; `None` while no class has two shots or there is one
    /// class only.
    pub estimate: Option<Estimate>,
}

/// One shrinkage with its best weight of own covariances, and how it does on stand-ins.
struct Candidate<'a> {
    shrunk: Shrunk<'a>,
    own: OwnDirections,
    shape: OwnShape,
    own_weight: f64,
    mean_noise: f64,
    left_out: Vec<LeftOut>,
    temperature: f64,
    log_loss: f64,
}

/// Makes a head over all classes from their statistics.
///
/// The predictor follows from the statistics alone, so it does not depend on the order of teaching.
/// `shots`, by place of their class in `classes`, are the shots of the operation at hand, already part of
/// the statistics: where they are at hand, the estimate is made on them instead of on stand-ins.
///
/// # Errors
///
/// [`HeadError::Covariance`].
pub fn fit_head(
    classes: &[Arc<Class>],
    d_feature: usize,
    choice: HeadChoice,
    shots: &[(usize, &[Vec<f32>])],
) -> Result<FittedHead, HeadError> {
    if classes.is_empty() {
        return Ok(FittedHead { predictor: Predictor::empty(d_feature), estimate: None });
    }
    let gaussians = Gaussians::new(classes, d_feature);
    let judged = gaussians.has_spread() && classes.len() > 1;
    let shared = &OWN_WEIGHTS[..1];
    let best = match choice {
        HeadChoice::Auto if judged => {
            descend(&gaussians, d_feature, |s| try_one(&gaussians, s, &OWN_WEIGHTS))
        }
        HeadChoice::SharedCovariance if judged => {
            descend(&gaussians, d_feature, |s| try_one(&gaussians, s, shared))
        }
        HeadChoice::Lda(shrinkage) if gaussians.has_spread() => {
            try_one(&gaussians, shrinkage, shared)
        }
        _ => try_one(&gaussians, 1.0, shared),
    };
    let best = best.ok_or(HeadError::Covariance)?;
    let predictor = predictor(classes, &gaussians, &best);
    let estimate = judged.then(|| {
        let seen = judge_shots(&gaussians, &best, classes, shots);
        Estimate::new(classes, &best.left_out, &seen)
    });
    Ok(FittedHead { predictor, estimate })
}

/// Judges one shrinkage with the best of some weights.
fn try_one<'a>(gaussians: &'a Gaussians, shrinkage: f64, weights: &[f64]) -> Option<Candidate<'a>> {
    let StandIns { classes: owners, deviations } = &gaussians.stand_ins;
    let shrunk = gaussians.shrunk(shrinkage)?;
    let own = OwnDirections::new(gaussians, &shrunk);
    let trial = Trial::new(&shrunk, &own, owners, deviations);
    let judge = |&weight: &f64| {
        let shape = own.shape(gaussians, weight);
        let mean_noise = trial.mean_noise(&shape);
        let left_out = trial.leave_out(&shape, SPREAD, mean_noise);
        let (temperature, log_loss) = calibrate(&left_out);
        (weight, shape, mean_noise, left_out, temperature, log_loss)
    };
    // The log-loss falls, then rises with the weight: stop at the first rise.
    let mut best = judge(weights.first()?);
    for weight in &weights[1..] {
        let next = judge(weight);
        if next.5 >= best.5 {
            break;
        }
        best = next;
    }
    let (own_weight, shape, mean_noise, left_out, temperature, log_loss) = best;
    Some(Candidate {
        own,
        shape,
        own_weight,
        mean_noise,
        left_out,
        temperature,
        log_loss,
        shrunk,
    })
}

/// Walks down the log-loss over [`SHRINKAGES`] from where the amount of data says to begin.
fn descend<'a>(
    gaussians: &Gaussians,
    d: usize,
    try_one: impl Fn(f64) -> Option<Candidate<'a>>,
) -> Option<Candidate<'a>> {
    let guess = 1.0 / (1.0 + 2.0 * gaussians.degrees / d as f64);
    let away = |i: &usize| (SHRINKAGES[*i].ln() - guess.ln()).abs();
    let start = (0..SHRINKAGES.len()).min_by(|a, b| away(a).total_cmp(&away(b)))?;
    let mut best = (start, try_one(SHRINKAGES[start]));
    for step in [-1isize, 1] {
        let origin = best.0;
        while let Some(next) = best.0.checked_add_signed(step).filter(|&i| i < SHRINKAGES.len()) {
            let candidate = try_one(SHRINKAGES[next]);
            let loss = |c: &Option<Candidate<'_>>| c.as_ref().map_or(f64::INFINITY, |c| c.log_loss);
            if loss(&candidate) >= loss(&best.1) {
                break;
            }
            best = (next, candidate);
        }
        if best.0 != origin {
            break;
        }
    }
    best.1
}

/// The temperature with the least mean log-loss, and that loss.
fn calibrate(left_out: &[LeftOut]) -> (f64, f64) {
    if left_out.is_empty() {
        return (UNCALIBRATED, 0.0);
    }
    let mean = |octave: f64| {
        let losses = left_out.iter().map(|l| l.log_loss(octave.exp2()));
        losses.sum::<f64>() / left_out.len() as f64
    };
    // The log-loss is convex in the inverse temperature, so it has one valley: golden section over 0.25 to
    // 512, to a thirtieth of an octave, finer than any calibration can be trusted.
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (-2.0, 9.0);
    let (mut a, mut b) = (high - golden * (high - low), low + golden * (high - low));
    let (mut at_a, mut at_b) = (mean(a), mean(b));
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
    if at_a <= at_b { (a.exp2(), at_a) } else { (b.exp2(), at_b) }
}

fn predictor(classes: &[Arc<Class>], gaussians: &Gaussians, best: &Candidate<'_>) -> Predictor {
    let solved = &best.shrunk.solved_means;
    let weights = gaussians.out_of_span(solved);
    let bias = |c: usize| {
        let norm = dot(&gaussians.means, c, solved, c);
        let noise = best.mean_noise / gaussians.counts[c];
        ((noise - norm - best.shape.log_volumes[c]) / 2.0) as f32
    };
    let unknown = unknown_test(gaussians, best);
    Predictor {
        version: HEAD_VERSION,
        names: classes.iter().map(|c| c.name.clone()).collect(),
        centre: gaussians.centre.iter().map(|&v| v as f32).collect(),
        weights: (0..classes.len())
            .flat_map(|c| (0..weights.nrows()).map(move |i| (c, i)))
            .map(|(c, i)| weights[(i, c)] as f32)
            .collect(),
        biases: (0..classes.len()).map(bias).collect(),
        own: own_terms(gaussians, best),
        temperature: best.temperature as f32,
        unknown,
        shrinkage: best.shrunk.shrinkage as f32,
    }
}

/// The squares that the classes' own covariances add to the linear scores.
fn own_terms(gaussians: &Gaussians, best: &Candidate<'_>) -> OwnTerms {
    let mut terms = OwnTerms { weight: best.own_weight as f32, ..OwnTerms::default() };
    if best.own_weight == 0.0 {
        return terms;
    }
    let directions = gaussians.out_of_span(&best.own.directions);
    for (class, range) in gaussians.own_rows.ranges.iter().enumerate() {
        for r in range.clone() {
            let scale = best.shape.shares[r].sqrt();
            terms.rows.extend(directions.col(r).iter().map(|v| (v * scale) as f32));
            terms.offsets.push((best.own.means[(r, class)] * scale) as f32);
        }
        terms.counts.push(range.len() as u32);
    }
    terms
}

/// Sets the threshold so that [`FALSE_ALARMS`] of the pictures of taught classes fall below it.
fn unknown_test(gaussians: &Gaussians, best: &Candidate<'_>) -> UnknownTest {
    let StandIns { classes: owners, deviations } = &gaussians.stand_ins;
    if !gaussians.has_spread() {
        return UnknownTest::Never;
    }
    if gaussians.counts.len() == 1 {
        let away = SPREAD + 1.0 / (gaussians.counts[0] - 1.0);
        let farthest =
            (0..deviations.ncols()).map(|p| away * away * dot(deviations, p, deviations, p));
        let max_squared = quantile(farthest.collect(), 1.0 - FALSE_ALARMS);
        return UnknownTest::Radius { max_squared: max_squared as f32 };
    }
    let trial = Trial::new(&best.shrunk, &best.own, owners, deviations);
    let left_out = trial.leave_out(&best.shape, 1.0, best.mean_noise);
    let evidence = left_out.iter().map(LeftOut::evidence).collect();
    UnknownTest::Evidence { min: quantile(evidence, STAND_INS_BELOW) as f32 }
}

fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((share * last as f64).round() as usize).copied().unwrap_or(0.0)
}

/// Judges real shots without themselves.
fn judge_shots(
    gaussians: &Gaussians,
    best: &Candidate<'_>,
    classes: &[Arc<Class>],
    shots: &[(usize, &[Vec<f32>])],
) -> Vec<LeftOut> {
    let mut columns: Vec<Vec<f64>> = Vec::new();
    let mut owners = Vec::new();
    for (class, shots) in shots {
        if classes[*class].statistics.count() < 2 {
            continue;
        }
        let mean = classes[*class].statistics.mean();
        for shot in *shots {
            let deviation = shot.iter().zip(&mean).map(|(&x, &m)| f64::from(x) - f64::from(m));
            columns.push(deviation.collect());
            owners.push(*class);
        }
    }
    if columns.is_empty() {
        return Vec::new();
    }
    let deviations = Mat::from_fn(gaussians.centre.len(), columns.len(), |i, p| columns[p][i]);
    let deviations = gaussians.in_span(deviations);
    let trial = Trial::new(&best.shrunk, &best.own, &owners, &deviations);
    trial.leave_out(&best.shape, 1.0, best.mean_noise)
}
