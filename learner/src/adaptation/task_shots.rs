//! Shots of a task: grouped by class, split into training and held-out shots, added to statistics.

use std::ops::Range;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::trainer::TokenCache;
use crate::{Class, ClassName, Prior, Shots, StatisticsError};

/// One class of the task: its name and the rows of its shots in the token cache.
#[derive(Debug, Clone)]
pub struct TaskClass {
    /// Name of the class.
    pub name: ClassName,
    /// Rows of its shots in the token cache.
    pub rows: Vec<usize>,
}

/// Pictures of a task, as tokens and as features before the task.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// Classes with their shots.
    pub classes: &'a [TaskClass],
    /// Rows of each shot's views in the cache, by row of the shot. Shots beyond the end have no
    /// views.
    pub views: &'a [Range<usize>],
    /// Tokens of the shots and of their views.
    pub tokens: &'a TokenCache,
    /// Features of shots and views with the present adapter, by row of the cache.
    pub features: &'a [Vec<f32>],
    /// The prior in these features, if the base has one.
    pub prior: Option<&'a Prior>,
}

impl Task<'_> {
    /// Returns the rows of a shot's views.
    pub fn views_of(&self, shot: usize) -> Range<usize> {
        self.views.get(shot).cloned().unwrap_or(0..0)
    }
}

/// Split of a task's shots into training shots and held-out shots.
///
/// Views of a training shot are trained on too. Views of a held-out shot are not used.
pub(super) struct Split {
    /// Rows of the training shots.
    pub(super) shots: Vec<usize>,
    /// Rows of the training shots and of their views.
    pub(super) rows: Vec<usize>,
    /// Class of each of `rows`.
    pub(super) labels: Vec<usize>,
    /// Rows of the held-out shots.
    pub(super) held_out: Vec<usize>,
    /// Class of each of `held_out`.
    pub(super) held_out_labels: Vec<usize>,
}

impl Split {
    /// Holds out a `share` of each class's shots: at most half, and at least one of three or more.
    pub(super) fn new(task: &Task<'_>, share: f64, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x0068_6f6c_6400_0000);
        let mut split = Self {
            shots: Vec::new(),
            rows: Vec::new(),
            labels: Vec::new(),
            held_out: Vec::new(),
            held_out_labels: Vec::new(),
        };
        for (label, class) in task.classes.iter().enumerate() {
            let mut rows = class.rows.clone();
            rows.shuffle(&mut rng);
            let n = rows.len();
            let held = ((n as f64 * share).round() as usize).max(usize::from(n >= 3)).min(n / 2);
            split.held_out.extend(&rows[..held]);
            split.held_out_labels.extend(std::iter::repeat_n(label, held));
            for &shot in &rows[held..] {
                let views = task.views_of(shot);
                split.labels.extend(std::iter::repeat_n(label, 1 + views.len()));
                split.rows.push(shot);
                split.rows.extend(views);
                split.shots.push(shot);
            }
        }
        split
    }
}

/// Adds shots of a task and their views to the statistics of its classes.
///
/// Adds only shots with a row for which `taken` returns true. Extends the known class of the same
/// name, or appends a new class.
///
/// # Errors
///
/// [`StatisticsError`] if a shot does not fit.
pub fn with_task(
    known: &[Arc<Class>],
    task: &Task<'_>,
    taken: impl Fn(usize) -> bool,
) -> Result<Vec<Arc<Class>>, StatisticsError> {
    let mut all = known.to_vec();
    for class in task.classes {
        let mut shots = Shots::default();
        for &row in class.rows.iter().filter(|&&row| taken(row)) {
            shots.push(task.features[row].clone(), &task.features[task.views_of(row)]);
        }
        if shots.is_empty() {
            continue;
        }
        let place = all.iter().position(|c| c.name.key() == class.name.key());
        let class = match place {
            Some(place) => all[place].with_viewed(&shots)?,
            None => Class::from_viewed(class.name.clone(), &shots)?,
        };
        let class = Arc::new(class);
        match place {
            Some(place) => all[place] = class,
            None => all.push(class),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ClassName {
        ClassName::new(text).expect("a name")
    }

    /// Two classes of four shots with two views each. Rows 0 to 7 are shots, rows 8 to 23 views.
    fn with_a_task(check: impl FnOnce(&Task<'_>)) {
        let classes = [
            TaskClass { name: name("cup"), rows: (0..4).collect() },
            TaskClass { name: name("plant"), rows: (4..8).collect() },
        ];
        let views: Vec<Range<usize>> = (0..8).map(|shot| 8 + 2 * shot..10 + 2 * shot).collect();
        let tokens = TokenCache::new(1, 1);
        let features: Vec<Vec<f32>> = (0..24).map(|row| vec![row as f32, 1.0]).collect();
        let features = features.as_slice();
        check(&Task { classes: &classes, views: &views, tokens: &tokens, features, prior: None });
    }

    #[test]
    fn views_train_where_their_shot_does_and_never_judge() {
        with_a_task(|task| {
            let split = Split::new(task, 0.25, 7);
            assert_eq!((split.shots.len(), split.held_out.len()), (6, 2));
            assert_eq!(split.rows.len(), 6 * 3);
            assert_eq!(split.labels.len(), split.rows.len());
            for &shot in &split.shots {
                assert!(task.views_of(shot).all(|view| split.rows.contains(&view)));
            }
            for &shot in &split.held_out {
                assert!(!split.rows.contains(&shot));
                assert!(task.views_of(shot).all(|view| !split.rows.contains(&view)));
            }
        });
    }

    #[test]
    fn a_shot_counts_once_at_the_mean_of_its_views() {
        with_a_task(|task| {
            let classes = with_task(&[], task, |row| row == 0).expect("a shot");
            let mode = &classes[0].modes[0];
            assert_eq!((classes.len(), mode.count()), (1, 1));
            // Rows 0, 8 and 9.
            assert!((mode.mean()[0] - 17.0 / 3.0).abs() < 0.01, "{:?}", mode.mean());
        });
    }
}
