//! Judgement of an update: its gain in log-loss for the task's classes and for known classes.

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

/// Gain of an update: the fall of the log-loss, in nats. Positive is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Mean gain over all classes, with equal weights.
    pub gain: f64,
    /// Standard error of `gain`.
    pub standard_error: f64,
    /// Gain on held-out shots of the task.
    pub gain_new: f64,
    /// Gain on classes known before; 0 if there were none.
    pub gain_old: f64,
    /// Accuracy on held-out shots among all classes, before the update.
    pub accuracy_before: f64,
    /// Accuracy on held-out shots among all classes, after the update.
    pub accuracy_after: f64,
}

/// Number of stand-ins of all known classes together. Each class gets 1 to 16 of them.
const STAND_INS: usize = 512;

/// All classes and the head fitted to them, before or after the update.
pub(super) struct Side {
    predictor: Predictor,
    /// Mean log-loss of each known class's stand-ins, each left out of the fit.
    log_losses: Vec<Option<f64>>,
    /// Classes known before the task, with their statistics on this side.
    known: Vec<Arc<Class>>,
    /// Index of each task class in the predictor.
    places: Vec<usize>,
    /// Index of each task class's mode among the modes of all classes.
    modes: Vec<usize>,
    /// Features of the held-out shots.
    held_out: Vec<Vec<f32>>,
}

impl Side {
    /// Fits the head to the known classes and the task's training shots.
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
            // `with_task` puts known classes first.
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

    /// Returns the column of a task class in [`Side::fixed_head`].
    pub(super) fn column(&self, label: usize) -> usize {
        self.modes[label]
    }

    /// Returns the linear part of the head as constants for a training. It gives scores divided by
    /// the temperature.
    pub(super) fn fixed_head(&self, device: &Device) -> FixedHead {
        let (weights, biases) = self.predictor.calibrated();
        FixedHead { weights: weights.to_tensor(device), biases: biases.to_tensor(device) }
    }

    /// Returns the log-loss of a feature of the class at index `place`, and true if this class has
    /// the highest score.
    fn look(&self, feature: &[f32], place: usize) -> (f64, bool) {
        let scores = self.predictor.scores(feature);
        let best = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let temperature = self.predictor.temperature();
        let sum: f32 = scores.iter().map(|s| ((s - best) / temperature).exp()).sum();
        let own = scores.get(place).copied().unwrap_or(f32::NEG_INFINITY);
        (f64::from(sum.ln() - (own - best) / temperature), own >= best)
    }
}

/// Returns the index, among the modes of all classes, of the task class's mode nearest to the mean
/// of its training shots.
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

/// Mean of gains and its squared standard error.
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

/// Compares the log-losses before and after an update.
///
/// `map` is the drift map that moved the old statistics. It is fitted on the training shots only,
/// so its residuals on held-out shots measure its error. The gain of a known class is the fall of
/// its stand-ins' log-loss, less the cost of these residuals.
pub(super) fn judge(
    before: &Side,
    after: &Side,
    features: [&[Vec<f32>]; 2],
    split: &Split,
    map: Option<&DriftMap>,
    seed: u64,
) -> Judgement {
    let mut gains = Vec::new();
    let mut right = [0usize; 2];
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
    let n_new = before.places.len() as f64;
    let n_old = before.known.len() as f64;
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

/// Computes the cost of the drift map's residuals (`misses`) for each known class, in nats: the
/// mean rise of the log-loss when a point drawn from a mode is shifted by a random residual.
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
