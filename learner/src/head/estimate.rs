//! Accuracy estimate: the expected accuracy on new pictures, and the expected confusions.

use std::sync::Arc;

use super::leave_one_out::LeftOut;
use super::mean;
use super::occasions::AnotherOccasion;
use crate::{Class, ClassName};

/// Expected accuracy, from the statistics and the shots at hand. It needs no pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// On pictures like the shots, of the same occasions: mean over the classes that can be judged,
    /// in [0, 1].
    pub accuracy: f64,
    /// On another day, in another place or with another thing of the kind: mean over the same
    /// classes, in [0, 1].
    pub another_day: f64,
    /// `another_day` as expected after one more occasion of every class.
    pub after_one_more: f64,
    /// The estimate of each class, ordered by key.
    pub classes: Vec<ClassEstimate>,
    /// Pairs of classes confused on another day, the most frequent first.
    pub confusions: Vec<Confusion>,
}

/// Estimate of one class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassEstimate {
    /// The class.
    pub class: ClassName,
    /// Number of its shots.
    pub shots: u32,
    /// Occasions on which it was taught, as far as they differ: 1 if all shots could be of one.
    pub occasions: f64,
    /// True if its shots vary far less than pictures of one thing do.
    pub alike: bool,
    /// Share of its pictures, like the shots, that will be classified correctly. `None` with a
    /// single shot.
    pub accuracy: Option<f64>,
    /// The same share on another day.
    pub another_day: Option<f64>,
}

/// A class and the class that it is mistaken for.
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
    /// Real shots. They replace the stand-ins of a class if they are at least half of its shots.
    pub(super) seen: &'a [LeftOut],
    /// Stand-ins as on another occasion.
    pub(super) another: &'a [LeftOut],
    /// Stand-ins as on another occasion, after one more occasion was taught.
    pub(super) after_one_more: &'a [LeftOut],
}

/// Counts of the classes that the pictures of one class are classified as.
struct Tally {
    /// Count of each class.
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

    /// Share classified as a class. `None` if nothing was judged.
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
                    let class = class.name.clone();
                    let taken_for = classes[other].name.clone();
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
