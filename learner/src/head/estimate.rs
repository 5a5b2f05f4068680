//! "Have I done enough?": the accuracy to expect on new pictures, and what will be confused.

use std::sync::Arc;

use super::leave_one_out::LeftOut;
use super::mean;
use super::occasions::AnotherOccasion;
use crate::{Class, ClassName};

/// Accuracy to expect, from statistics and the shots at hand; no picture is needed.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// On pictures like the shots, of the same occasions: mean over the classes that can be judged, in [0, 1].
    pub accuracy: f64,
    /// On another day, in another place or of another thing of its kind: mean over the same classes, in [0, 1].
    pub another_day: f64,
    /// What `another_day` would be after one more occasion of every class.
    pub after_one_more: f64,
    /// Each class, ordered by key.
    pub classes: Vec<ClassEstimate>,
    /// Pairs that are mistaken for each other on another day, the worst first.
    pub confusions: Vec<Confusion>,
}

/// What to expect of one class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassEstimate {
    /// The class.
    pub class: ClassName,
    /// Its shots.
    pub shots: u32,
    /// Occasions on which it was taught, as far as they differ: 1 if all shots could be of one.
    pub occasions: f64,
    /// Whether its shots vary far less than pictures of one thing do.
    pub alike: bool,
    /// Share of its pictures, like the shots, that will be told right; `None` with a single shot.
    pub accuracy: Option<f64>,
    /// The same on another day.
    pub another_day: Option<f64>,
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

/// Shots and stand-ins that were judged, each left out.
pub(super) struct Judged<'a> {
    /// Stand-ins like the shots; they cover all classes.
    pub(super) alike: &'a [LeftOut],
    /// Real shots, which count instead wherever they are at least half of a class's shots.
    pub(super) seen: &'a [LeftOut],
    /// Stand-ins as on another occasion.
    pub(super) another: &'a [LeftOut],
    /// Stand-ins as on another occasion, after one more was taught.
    pub(super) after_one_more: &'a [LeftOut],
}

/// What the pictures of a class are taken for.
struct Tally {
    /// By class.
    taken_for: Vec<usize>,
    total: usize,
}

impl Tally {
    fn of(judged: &[LeftOut], class: usize, n_classes: usize) -> Self {
        let mut taken_for = vec![0; n_classes];
        for item in judged.iter().filter(|l| l.class == class) {
            taken_for[item.best()] += 1;
        }
        let total = taken_for.iter().sum();
        Self { taken_for, total }
    }

    /// Share taken for a class; `None` of none.
    fn share(&self, class: usize) -> Option<f64> {
        (self.total > 0).then(|| self.taken_for[class] as f64 / self.total as f64)
    }
}

impl Estimate {
    pub(super) fn new(
        classes: &[Arc<Class>],
        judged: &Judged<'_>,
        occasion: &AnotherOccasion,
    ) -> Self {
        let n = classes.len();
        let mut estimate = Self {
            accuracy: 0.0,
            another_day: 0.0,
            after_one_more: 0.0,
            classes: Vec::new(),
            confusions: Vec::new(),
        };
        let mut after_one_more = Vec::new();
        for (index, class) in classes.iter().enumerate() {
            let shots = class.count();
            let seen = Tally::of(judged.seen, index, n);
            let stand_ins = Tally::of(judged.alike, index, n);
            let alike = if 2 * seen.total >= shots as usize { seen } else { stand_ins };
            let another = Tally::of(judged.another, index, n);
            after_one_more.extend(Tally::of(judged.after_one_more, index, n).share(index));
            estimate.classes.push(ClassEstimate {
                class: class.name.clone(),
                shots,
                occasions: occasion.occasions(index),
                alike: occasion.is_alike(index),
                accuracy: alike.share(index),
                another_day: another.share(index),
            });
            for other in (0..n).filter(|&other| other != index) {
                let share = another.share(other).unwrap_or(0.0);
                if share > 0.0 {
                    let (class, taken_for) = (class.name.clone(), classes[other].name.clone());
                    estimate.confusions.push(Confusion { class, taken_for, share });
                }
            }
        }
        let of_classes = |number: fn(&ClassEstimate) -> Option<f64>| {
            mean(estimate.classes.iter().filter_map(number))
        };
        (estimate.accuracy, estimate.another_day) =
            (of_classes(|class| class.accuracy), of_classes(|class| class.another_day));
        estimate.after_one_more = mean(after_one_more.into_iter());
        estimate.confusions.sort_by(|a, b| b.share.total_cmp(&a.share));
        estimate
    }
}
