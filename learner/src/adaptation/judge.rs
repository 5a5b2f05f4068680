//! Whether an update makes things better, for the task's classes and for those known before.

use std::collections::HashSet;
use std::sync::Arc;

use burn::tensor::Device;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::{AdaptError, Split, Task, TaskClass, with_task};
use crate::trainer::FixedHead;
use crate::{Class, ClassStatistics, DriftMap, HeadChoice, Predictor, fit_head};

/// What an update is worth, in nats of log-loss; positive is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Mean gain over all classes, each counted alike.
    pub gain: f64,
    /// Standard error of `gain`.
    pub standard_error: f64,
    /// Gain on held-out shots of the task.
    pub gain_new: f64,
    /// Gain of classes known before; 0 if there were none.
    pub gain_old: f64,
    /// Accuracy on held-out shots, over all classes, before.
    pub accuracy_before: f64,
    /// The same after.
    pub accuracy_after: f64,
}

/// Stand-ins of all old classes together.
const STAND_INS: usize = 512;

/// All classes and their head, before or after.
pub(super) struct Side {
    predictor: Predictor,
    /// Log-loss of each known class, its stand-ins left out.
    log_losses: Vec<Option<f64>>,
    /// Classes known before, as this side has them.
    known: Vec<Arc<Class>>,
    /// Place of each of the task's classes in the predictor.
    places: Vec<usize>,
    /// Place among all modes of the one that each of the task's classes has its shots in.
    modes: Vec<usize>,
    held_out: Vec<Vec<f32>>,
}

impl Side {
    /// The head that follows from old classes and the task's training shots.
    pub(super) fn new(
        known: &[Arc<Class>],
        task: &Task<'_>,
        split: &Split,
    ) -> Result<Self, AdaptError> {
        let features = task.features;
        let trains: HashSet<usize> = split.shots.iter().copied().collect();
        let classes = with_task(known, task, |row| trains.contains(&row))?;
        let d = features.first().map_or(0, Vec::len);
        let head = fit_head(&classes, d, task.prior, HeadChoice::Auto, &[])?;
        let place = |class: &TaskClass| {
            let key = class.name.key();
            classes.iter().position(|c| c.name.key() == key).unwrap_or(usize::MAX)
        };
        Ok(Self {
            predictor: head.predictor,
            // Known classes come first.
            log_losses: head.log_losses.into_iter().take(known.len()).collect(),
            known: known.to_vec(),
            modes: task
                .classes
                .iter()
                .map(|class| mode_of(&classes, class, features, &trains))
                .collect(),
            places: task.classes.iter().map(place).collect(),
            held_out: split.held_out.iter().map(|&row| features[row].clone()).collect(),
        })
    }

    /// Column of one of the task's classes in [`Side::fixed_head`].
    pub(super) fn column(&self, label: usize) -> usize {
        self.modes[label]
    }

    /// The linear part of the head, scores over the temperature, as constants of a training.
    pub(super) fn fixed_head(&self, device: &Device) -> FixedHead {
        let (weights, biases) = self.predictor.calibrated();
        FixedHead { weights: weights.to_tensor(device), biases: biases.to_tensor(device) }
    }

    /// Log-loss of a feature that shows the class at `place`, and whether it is told right.
    fn look(&self, feature: &[f32], place: usize) -> (f64, bool) {
        let scores = self.predictor.scores(feature);
        let best = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let temperature = self.predictor.temperature();
        let sum: f32 = scores.iter().map(|s| ((s - best) / temperature).exp()).sum();
        let own = scores.get(place).copied().unwrap_or(f32::NEG_INFINITY);
        (f64::from(sum.ln() - (own - best) / temperature), own >= best)
    }
}

/// Place among the modes of all classes of the one that a task's class has its training shots in.
fn mode_of(
    classes: &[Arc<Class>],
    class: &TaskClass,
    features: &[Vec<f32>],
    trains: &HashSet<usize>,
) -> usize {
    let shots = class.rows.iter().filter(|row| trains.contains(row)).map(|&row| &features[row]);
    let mut sum = vec![0.0f32; features.first().map_or(0, Vec::len)];
    let n = shots.clone().count().max(1) as f32;
    shots.for_each(|shot| sum.iter_mut().zip(shot).for_each(|(s, v)| *s += v / n));
    let mut first = 0;
    for known in classes {
        if known.name.key() == class.name.key() {
            return first + known.nearest_mode(&sum);
        }
        first += known.modes.len();
    }
    first
}

/// Mean and squared standard error of some gains.
#[derive(Debug, Clone, Copy, Default)]
struct Gain {
    mean: f64,
    variance: f64,
}

impl Gain {
    fn of(gains: &[f64]) -> Self {
        let n = gains.len() as f64;
        if gains.len() < 2 {
            return Self { mean: gains.first().copied().unwrap_or(0.0), variance: 0.0 };
        }
        let mean = gains.iter().sum::<f64>() / n;
        let spread = gains.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / (n - 1.0);
        Self { mean, variance: spread / n }
    }
}

/// Compares the two sides. `map` is where old statistics were moved, fitted on the training shots only, so
/// that held-out shots tell how far it misses. A known class gains what its stand-ins, left out, are better
/// explained, less what such misses cost it.
pub(super) fn judge(
    before: &Side,
    after: &Side,
    features: [&[Vec<f32>]; 2],
    split: &Split,
    map: Option<&DriftMap>,
    seed: u64,
) -> Judgement {
    let (mut gains, mut right) = (Vec::new(), [0usize; 2]);
    for (i, &label) in split.held_out_labels.iter().enumerate() {
        let place = before.places[label];
        let (old, was_right) = before.look(&before.held_out[i], place);
        let (new, is_right) = after.look(&after.held_out[i], place);
        gains.push(old - new);
        right[0] += usize::from(was_right);
        right[1] += usize::from(is_right);
    }
    let new = Gain::of(&gains);
    let misses: Vec<Vec<f32>> = split
        .held_out
        .iter()
        .map(|&row| {
            let expected =
                map.map_or_else(|| features[0][row].clone(), |m| m.apply(&features[0][row]));
            features[1][row].iter().zip(&expected).map(|(a, b)| a - b).collect()
        })
        .collect();
    let cost = miss_costs(after, &misses, seed);
    let gains = before.log_losses.iter().zip(&after.log_losses).zip(&cost);
    let gains = gains.filter_map(|((was, is), cost)| Some((*was)? - (*is)? - cost));
    let old = Gain::of(&gains.collect::<Vec<_>>());
    let (n_new, n_old) = (before.places.len() as f64, before.known.len() as f64);
    let share = n_old / (n_new + n_old);
    let n = split.held_out.len().max(1) as f64;
    Judgement {
        gain: (1.0 - share) * new.mean + share * old.mean,
        standard_error: ((1.0 - share).powi(2) * new.variance + share.powi(2) * old.variance)
            .sqrt(),
        gain_new: new.mean,
        gain_old: old.mean,
        accuracy_before: right[0] as f64 / n,
        accuracy_after: right[1] as f64 / n,
    }
}

/// What the misses of the drift map cost each known class: points of its modes, moved on by the miss of
/// some held-out shot, against the same points.
fn miss_costs(after: &Side, misses: &[Vec<f32>], seed: u64) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let each = (STAND_INS / after.known.len().max(1)).clamp(1, 16);
    let cost = |(place, class): (usize, &Arc<Class>)| {
        let parts = |mode: &ClassStatistics| {
            let scale = 1.0 / f64::from(mode.count().max(2) - 1).sqrt();
            (mode.mean(), mode.scatter().rows(), scale)
        };
        let modes: Vec<_> = class.modes.iter().map(parts).collect();
        let mut sum = 0.0;
        for (mean, rows, scale) in modes.iter().cycle().take(each) {
            let mut point = mean.clone();
            for row in rows.chunks_exact(mean.len().max(1)) {
                let normal: f64 = StandardNormal.sample(&mut rng);
                let weight = (normal * scale) as f32;
                point.iter_mut().zip(row).for_each(|(p, v)| *p += weight * v);
            }
            let still = after.look(&point, place).0;
            if !misses.is_empty() {
                let miss = &misses[rng.random_range(0..misses.len())];
                point.iter_mut().zip(miss).for_each(|(p, m)| *p += m);
            }
            sum += after.look(&point, place).0 - still;
        }
        sum / each as f64
    };
    after.known.iter().enumerate().map(cost).collect()
}
