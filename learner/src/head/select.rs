//! Chooses the shrinkage, calibrates, and makes the predictor.

use std::sync::Arc;

use faer::Mat;
use thiserror::Error;

use super::estimate::Estimate;
use super::gaussians::{Gaussians, Shrunk, StandIns};
use super::leave_one_out::{LeftOut, SPREAD, dot};
use super::own_shape::own_terms;
use crate::{Class, ClassStatistics, HEAD_VERSION, OwnTerms, Predictor, UnknownTest};

/// Shrinkages that are tried, from nearly plain LDA to the nearest mean.
pub const SHRINKAGES: [f64; 10] = [0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0];

/// Temperature while no class has two shots: what classes of five shots calibrate to on CIFAR-100.
const UNCALIBRATED: f64 = 32.0;

/// Shrinkage where most of what is known of the spread is outlines from elsewhere: they have no noise in most directions, so
/// leaving out would choose too little. With two outlines of ten classes of CIFAR-100 (100 shots) this reaches .782, what leaving
/// out chooses .630, the nearest mean .740 (docs/method.md).
const OUTLINED: f64 = 0.9;

/// Share of pictures of taught classes that may be called unknown.
const FALSE_ALARMS: f64 = 0.05;

/// Share of stand-ins whose evidence lies below the threshold. Real shots have a little more evidence than
/// Gaussian ones; on PACS (14 of 28 classes taught, 5 to 60 shots) this share brings 5 % false alarms.
const STAND_INS_BELOW: f64 = 0.065;

/// Which head to make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HeadChoice {
    /// The shrinkage with the least log-loss on shots left out, and own covariances of the classes.
    Auto,
    /// The same shrinkage with one covariance for all classes: LDA.
    SharedCovariance,
    /// Nearest class mean.
    NearestMean,
    /// LDA at a shrinkage in (0, 1].
    Lda(f64),
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
    /// Mean log-loss of each class's stand-ins, each left out, in nats; `None` for a single shot.
    pub log_losses: Vec<Option<f64>>,
}

/// One shrinkage and how it does on stand-ins.
struct Candidate<'a> {
    shrunk: Shrunk<'a>,
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
        return Ok(FittedHead {
            predictor: Predictor::empty(d_feature),
            estimate: None,
            log_losses: Vec::new(),
        });
    }
    // A single class is told by its distance alone, for which it is one thing.
    let whole: Option<ClassStatistics> = match classes {
        [class] => Some(class.as_one_mode().map_err(|_| HeadError::Covariance)?),
        _ => None,
    };
    let modes: Vec<(usize, &ClassStatistics)> = match &whole {
        Some(whole) => vec![(0, whole)],
        None => modes_of(classes).collect(),
    };
    let gaussians = Gaussians::new(&modes, d_feature);
    let StandIns { modes: owners, deviations } = &gaussians.stand_ins;
    let try_one = |shrinkage: f64| {
        let shrunk = gaussians.shrunk(shrinkage)?;
        let mean_noise = shrunk.mean_noise(owners, deviations);
        let left_out = shrunk.leave_out(owners, deviations, SPREAD, mean_noise);
        let (temperature, log_loss) = calibrate(&left_out);
        Some(Candidate { shrunk, mean_noise, left_out, temperature, log_loss })
    };
    let judged = gaussians.has_spread() && classes.len() > 1;
    let best = match choice {
        HeadChoice::Auto | HeadChoice::SharedCovariance if judged && outlined(&modes) => {
            try_one(OUTLINED)
        }
        HeadChoice::Auto | HeadChoice::SharedCovariance if judged => {
            descend(&gaussians, d_feature, try_one)
        }
        HeadChoice::Lda(shrinkage) if gaussians.has_spread() => try_one(shrinkage),
        _ => try_one(1.0),
    };
    let best = best.ok_or(HeadError::Covariance)?;
    let own = match choice {
        HeadChoice::Auto if judged && modes.iter().all(|(_, mode)| is_whole(mode)) => {
            own_terms(&gaussians, &best.shrunk)
        }
        _ => Some(OwnTerms::default()),
    };
    let own = own.ok_or(HeadError::Covariance)?;
    let predictor = predictor(classes, &gaussians, &best, own);
    let estimate = judged.then(|| {
        let seen = judge_shots(&gaussians, &best, classes, shots);
        Estimate::new(classes, &best.left_out, &seen)
    });
    let log_losses = log_losses(&best, classes.len());
    Ok(FittedHead { predictor, estimate, log_losses })
}

/// Whether a scatter has the rows that its shots give, but for some that were shown twice. Far fewer are an outline from
/// elsewhere (an adapter): what the classes share is then too rough to tell what is a class's own, and own covariances would
/// favour the classes taught here.
fn is_whole(mode: &ClassStatistics) -> bool {
    let all = (mode.count() as usize).min(mode.d_feature()).saturating_sub(1);
    4 * mode.scatter().rank() >= 3 * all
}

/// Whether more than half of the shots beyond the first of each mode are those of outlines.
fn outlined(modes: &[(usize, &ClassStatistics)]) -> bool {
    let degrees = |mode: &ClassStatistics| u64::from(mode.count()).saturating_sub(1);
    let all: u64 = modes.iter().map(|(_, mode)| degrees(mode)).sum();
    let outlines = modes.iter().filter(|(_, mode)| !is_whole(mode));
    2 * outlines.map(|(_, mode)| degrees(mode)).sum::<u64>() > all
}

/// All modes, class by class, with the place of the class.
fn modes_of(classes: &[Arc<Class>]) -> impl Iterator<Item = (usize, &ClassStatistics)> {
    classes
        .iter()
        .enumerate()
        .flat_map(|(place, class)| class.modes.iter().map(move |mode| (place, mode)))
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

fn log_losses(best: &Candidate<'_>, n_classes: usize) -> Vec<Option<f64>> {
    let mut sums = vec![(0.0, 0usize); n_classes];
    for left_out in &best.left_out {
        let sum = &mut sums[left_out.class];
        *sum = (sum.0 + left_out.log_loss(best.temperature), sum.1 + 1);
    }
    sums.into_iter().map(|(sum, n)| (n > 0).then(|| sum / n as f64)).collect()
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

fn predictor(
    classes: &[Arc<Class>],
    gaussians: &Gaussians,
    best: &Candidate<'_>,
    own: OwnTerms,
) -> Predictor {
    let solved = &best.shrunk.solved_means;
    let weights = gaussians.out_of_span(solved);
    let n_modes = gaussians.counts.len();
    let modes = |place| gaussians.classes.iter().filter(|&&class| class == place).count() as u32;
    let bias = |c: usize| {
        let norm = dot(&gaussians.means, c, solved, c);
        ((best.mean_noise / gaussians.counts[c] - norm) / 2.0) as f32
    };
    let unknown = unknown_test(gaussians, best);
    Predictor {
        version: HEAD_VERSION,
        names: classes.iter().map(|c| c.name.clone()).collect(),
        centre: gaussians.centre.iter().map(|&v| v as f32).collect(),
        modes: (0..classes.len()).map(modes).collect(),
        weights: (0..n_modes)
            .flat_map(|c| (0..weights.nrows()).map(move |i| (c, i)))
            .map(|(c, i)| weights[(i, c)] as f32)
            .collect(),
        biases: (0..n_modes).map(bias).collect(),
        own,
        temperature: best.temperature as f32,
        unknown,
        shrinkage: best.shrunk.shrinkage as f32,
    }
}

/// Sets the threshold so that [`FALSE_ALARMS`] of the pictures of taught classes fall below it.
fn unknown_test(gaussians: &Gaussians, best: &Candidate<'_>) -> UnknownTest {
    let StandIns { modes: owners, deviations } = &gaussians.stand_ins;
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
    let left_out = best.shrunk.leave_out(owners, deviations, 1.0, best.mean_noise);
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
    best.shrunk.leave_out(&owners, &deviations, 1.0, best.mean_noise)
}
