//! "Have I done enough?": the accuracy to expect on new pictures, and what will be confused.

use std::sync::Arc;

use super::leave_one_out::LeftOut;
use crate::{Class, ClassName};

/// Accuracy to expect, from statistics and the shots at hand; no picture is needed.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Mean over the classes that can be judged, in [0, 1].
    pub accuracy: f64,
    /// Each class, ordered by key.
    pub classes: Vec<ClassEstimate>,
    /// Pairs that are mistaken for each other, the worst first.
    pub confusions: Vec<Confusion>,
}

/// What to expect of one class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassEstimate {
    /// The class.
    pub class: ClassName,
    /// Its shots.
    pub shots: u32,
    /// Share of its pictures that will be told right; `None` with a single shot.
    pub accuracy: Option<f64>,
}

/// A class and what it is taken for.
#[derive(Debug, Clone, PartialEq)]
pub struct Confusion {
    /// The class shown.
    pub class: ClassName,
    /// The class named instead.
    pub taken_for: ClassName,
    /// Share of the pictures of `class`.
    pub share: f64,
}

impl Estimate {
    /// `stand_ins` cover all classes; `seen` are real shots and count instead wherever they are at least
    /// half of a class's shots.
    pub(super) fn new(classes: &[Arc<Class>], stand_ins: &[LeftOut], seen: &[LeftOut]) -> Self {
        let count_of = |items: &[LeftOut], class| items.iter().filter(|l| l.class == class).count();
        let mut estimate = Self { accuracy: 0.0, classes: Vec::new(), confusions: Vec::new() };
        for (index, class) in classes.iter().enumerate() {
            let shots = class.count();
            let real = 2 * count_of(seen, index) >= shots as usize;
            let judged = if real { seen } else { stand_ins };
            let mut taken_for = vec![0usize; classes.len()];
            for item in judged.iter().filter(|l| l.class == index) {
                taken_for[item.best()] += 1;
            }
            let total: usize = taken_for.iter().sum();
            let share = |n: usize| n as f64 / total as f64;
            let accuracy = (total > 0).then(|| share(taken_for[index]));
            let name = class.name.clone();
            estimate.classes.push(ClassEstimate { class: name, shots, accuracy });
            for (other, &n) in taken_for.iter().enumerate() {
                if other != index && n > 0 {
                    let (class, taken_for) = (class.name.clone(), classes[other].name.clone());
                    estimate.confusions.push(Confusion { class, taken_for, share: share(n) });
                }
            }
        }
        let judged: Vec<f64> = estimate.classes.iter().filter_map(|c| c.accuracy).collect();
        estimate.accuracy = judged.iter().sum::<f64>() / judged.len().max(1) as f64;
        estimate.confusions.sort_by(|a, b| b.share.total_cmp(&a.share));
        estimate
    }
}
