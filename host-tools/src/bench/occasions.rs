//! The scenario of occasions: methods learn shots of few occasions, and answer pictures of others.
//! It measures if the answers are right, and if the method is sure only where they are.
//!
//! Methods without a confidence of their own are calibrated as a user would do it. A fifth of the
//! shots is held out. The temperature of the softmax is the one with the least log-loss on them
//! (Guo et al., arXiv:1706.04599). A picture is unknown if its largest posterior (Hendrycks and
//! Gimpel, arXiv:1610.02136) is below that of 95 % of the held-out shots. The accuracy on the
//! held-out shots is the expected one. The method that answers learns all shots.

use std::time::{Duration, Instant};

use anyhow::Result;
use fmlora_learner::Calibration;
use serde::{Deserialize, Serialize};

use super::Plan;
use super::methods::{Arena, Learned, Method, World, method};
use super::prepared::Prepared;
use super::stream::{Stream, TaskRows};
use crate::trust::{Answer, Strangers, taught_classes};

/// Trust metrics of a method's answers on another occasion.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trust {
    /// Expected accuracy on pictures like the shots, in [0, 1]; `None` if no class has two shots.
    pub(crate) expected: Option<f64>,
    /// Expected accuracy on another day; `None` for methods with a single estimate.
    pub(crate) another_day: Option<f64>,
    /// Mean confidence on the test pictures; `None` without shots to calibrate on.
    pub(crate) confidence: Option<f64>,
    /// Expected calibration error over 15 bins; `None` without shots to calibrate on.
    pub(crate) calibration_error: Option<f64>,
    /// Detection of strangers, with half of the classes taught.
    pub(crate) strangers: Strangers,
}

/// Result of a run of the scenario.
pub(super) struct Outcome {
    /// Accuracy on all test pictures.
    pub(super) accuracy: f64,
    pub(super) trust: Trust,
    pub(super) learned: Learned,
    /// Bytes stored besides the network.
    pub(super) n_bytes: usize,
    /// Time to learn all classes, including the calibration on held-out shots.
    pub(super) time: Duration,
}

/// A method that has learned a task.
struct Taught {
    method: Box<dyn Method>,
    learned: Learned,
    /// Calibration of methods without a confidence of their own.
    calibrated: Option<Calibrated>,
}

/// Confidence calibrated on held-out shots.
#[derive(Debug, Clone, Copy)]
struct Calibrated {
    temperature: f64,
    /// Smallest posterior that is not called unknown.
    least: f64,
    /// Accuracy on the held-out shots.
    accuracy: f64,
}

/// One of this many shots of a class is held out, but at least one.
const HELD_OUT: usize = 5;

/// Share of held-out shots that may be called unknown.
const FALSE_ALARMS: f64 = 0.05;

/// Candidate temperatures, in quarters of octaves about 1.
const QUARTER_OCTAVES: std::ops::RangeInclusive<i32> = -48..=48;

/// Teaches all classes, then only half of them, and measures both on all test pictures.
pub(super) fn measure(world: &World<'_>, stream: &Stream, plan: &Plan) -> Result<Outcome> {
    let all = TaskRows { views: !plan.ablation.contains("no views"), ..stream.tasks[0].clone() };
    let started = Instant::now();
    let mut taught = Taught::new(world, stream, plan, &all)?;
    let time = started.elapsed();
    let answers = taught.answers(world, &all.test)?;
    let labels = &world.arena.prepared.test.labels;
    let mut calibration = Calibration::default();
    let mut right = 0;
    for (answer, &row) in answers.iter().zip(&all.test) {
        calibration.push(answer.confidence, answer.label == labels[row]);
        right += usize::from(answer.label == labels[row]);
    }
    let calibration = taught.has_confidence().then_some(calibration);
    let expected = taught.method.expected();
    let held_out = taught.calibrated.map(|calibrated| calibrated.accuracy);
    Ok(Outcome {
        accuracy: right as f64 / answers.len().max(1) as f64,
        trust: Trust {
            expected: expected.map(|expected| expected.alike).or(held_out),
            another_day: expected.map(|expected| expected.another_day),
            confidence: calibration.as_ref().map(Calibration::confidence),
            calibration_error: calibration.as_ref().map(Calibration::error),
            strangers: strangers(world, stream, plan, &all)?,
        },
        n_bytes: taught.method.n_bytes(),
        learned: taught.learned,
        time,
    })
}

/// Teaches half of the classes, and measures the answers to pictures of all classes.
fn strangers(world: &World<'_>, stream: &Stream, plan: &Plan, all: &TaskRows) -> Result<Strangers> {
    let n_classes = all.classes.len();
    let places = taught_classes(n_classes, n_classes.div_ceil(2));
    let known: Vec<usize> = places.into_iter().map(|place| all.classes[place]).collect();
    let train = &world.arena.prepared.train.labels;
    let of_known = |row: &usize| known.contains(&train[*row]);
    let half = TaskRows {
        train: all.train.iter().copied().filter(of_known).collect(),
        classes: known.clone(),
        ..all.clone()
    };
    let answers = Taught::new(world, stream, plan, &half)?.answers(world, &all.test)?;
    let labels = &world.arena.prepared.test.labels;
    let mut own = Vec::new();
    let mut other = Vec::new();
    for (answer, &row) in answers.into_iter().zip(&all.test) {
        if known.contains(&labels[row]) { own.push(answer) } else { other.push(answer) }
    }
    Ok(Strangers::new(known.len(), &own, &other))
}

impl Taught {
    fn new(world: &World<'_>, stream: &Stream, plan: &Plan, task: &TaskRows) -> Result<Self> {
        let learn = |task: &TaskRows| -> Result<(Box<dyn Method>, Learned)> {
            let mut method = method(&plan.method, &plan.ablation, world, stream)?;
            let learned = method.learn(world, task)?;
            Ok((method, learned))
        };
        let (mut method, learned) = learn(task)?;
        let has_own = method.answers(world, &[])?.is_some();
        let (kept, held_out) = hold_out(&world.arena.prepared.train.labels, task);
        let calibrated = if has_own || held_out.is_empty() {
            None
        } else {
            let part = TaskRows { train: kept, ..task.clone() };
            Some(Calibrated::new(world, &mut *learn(&part)?.0, &held_out)?)
        };
        Ok(Self { method, learned, calibrated })
    }

    /// Returns true if the confidence is meaningful: the method's own, or calibrated.
    fn has_confidence(&self) -> bool {
        self.calibrated.is_some() || self.method.expected().is_some()
    }

    /// Answers test pictures.
    fn answers(&mut self, world: &World<'_>, rows: &[usize]) -> Result<Vec<Answer>> {
        if let Some(own) = self.method.answers(world, rows)? {
            return Ok(own);
        }
        let labels = self.method.labels(world)?;
        let temperature = self.calibrated.map_or(1.0, |calibrated| calibrated.temperature);
        let least = self.calibrated.map_or(0.0, |calibrated| calibrated.least);
        let answer = |scores: Vec<f32>| {
            let (place, confidence) = best(&posterior(&scores, temperature));
            let unknown = confidence < least;
            Answer { label: labels[place], confidence, evidence: confidence, unknown }
        };
        Ok(self.method.scores(world, rows)?.into_iter().map(answer).collect())
    }
}

impl Calibrated {
    fn new(world: &World<'_>, method: &mut dyn Method, held_out: &[usize]) -> Result<Self> {
        // The training pictures take the place of the test pictures.
        let train = world.arena.prepared.train.clone();
        let arena = Arena {
            backbone: world.arena.backbone.clone(),
            prepared: Prepared { train: train.clone(), test: train.clone() },
        };
        let world = World { arena: &arena, ..*world };
        let labels = method.labels(&world)?;
        let place = |row: &usize| labels.iter().position(|&label| label == train.labels[*row]);
        let places: Vec<Option<usize>> = held_out.iter().map(place).collect();
        let scores = method.scores(&world, held_out)?;
        let loss = |temperature: f64| -> f64 {
            let of_picture = |(scores, place): (&Vec<f32>, &Option<usize>)| {
                let posterior = posterior(scores, temperature);
                -place.map_or(0.0, |place| posterior[place]).max(f64::MIN_POSITIVE).ln()
            };
            scores.iter().zip(&places).map(of_picture).sum()
        };
        let tried = QUARTER_OCTAVES.map(|quarter| (f64::from(quarter) / 4.0).exp2());
        let temperature = tried.min_by(|a, b| loss(*a).total_cmp(&loss(*b))).unwrap_or(1.0);
        let answers: Vec<(usize, f64)> =
            scores.iter().map(|scores| best(&posterior(scores, temperature))).collect();
        let right = answers.iter().zip(&places).filter(|(a, place)| Some(a.0) == **place).count();
        let mut confidences: Vec<f64> = answers.iter().map(|answer| answer.1).collect();
        confidences.sort_by(f64::total_cmp);
        let least = confidences[(FALSE_ALARMS * confidences.len() as f64) as usize];
        Ok(Self { temperature, least, accuracy: right as f64 / held_out.len() as f64 })
    }
}

/// Returns rows to learn from and rows to hold out: the last shots of each class with two or more.
fn hold_out(labels: &[usize], task: &TaskRows) -> (Vec<usize>, Vec<usize>) {
    let mut kept = Vec::new();
    let mut held_out = Vec::new();
    for &class in &task.classes {
        let of_class = task.train.iter().copied().filter(|&row| labels[row] == class);
        let rows: Vec<usize> = of_class.collect();
        let n = if rows.len() < 2 { 0 } else { rows.len().div_ceil(HELD_OUT) };
        kept.extend(&rows[..rows.len() - n]);
        held_out.extend(&rows[rows.len() - n..]);
    }
    (kept, held_out)
}

/// Computes the softmax of scores over a temperature.
fn posterior(scores: &[f32], temperature: f64) -> Vec<f64> {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |&score: &f32| (f64::from(score - highest) / temperature).exp();
    let weights: Vec<f64> = scores.iter().map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Returns the index and the value of the largest number.
fn best(values: &[f64]) -> (usize, f64) {
    let larger =
        |best: (usize, f64), (i, &v): (usize, &f64)| if v > best.1 { (i, v) } else { best };
    values.iter().enumerate().fold((0, f64::NEG_INFINITY), larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_each_class_is_held_out() {
        let labels: Vec<usize> = [0; 6].into_iter().chain([1; 5]).chain([2]).collect();
        let classes = vec![0, 1, 2];
        let task = TaskRows { classes, train: (0..12).collect(), ..TaskRows::default() };
        let (kept, held_out) = hold_out(&labels, &task);
        assert_eq!(held_out, [4, 5, 10], "a class of one shot keeps it");
        assert_eq!(kept, [0, 1, 2, 3, 6, 7, 8, 9, 11]);
    }

    #[test]
    fn a_posterior_sums_to_one_at_any_temperature() {
        for temperature in [1e-3, 1.0, 1e3] {
            let posterior = posterior(&[1.0, 2.0, 1.5], temperature);
            assert!((posterior.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            assert_eq!(best(&posterior).0, 1);
        }
    }
}
