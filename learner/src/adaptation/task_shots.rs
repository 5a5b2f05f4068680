//! The shots of a task: by class, divided, and added to statistics.

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::trainer::TokenCache;
use crate::{Class, ClassName, Prior, StatisticsError};

/// One class of the task: its name and the rows of its shots in the token cache.
#[derive(Debug, Clone)]
pub struct TaskClass {
    /// The class.
    pub name: ClassName,
    /// Rows of the cache.
    pub rows: Vec<usize>,
}

/// The pictures of a task, as tokens and as features before the task.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// Classes with their shots.
    pub classes: &'a [TaskClass],
    /// Tokens of the shots.
    pub tokens: &'a TokenCache,
    /// Features of the shots with the adapter as it is, by row of the cache.
    pub features: &'a [Vec<f32>],
    /// The prior in these features, for a base that carries one.
    pub prior: Option<&'a Prior>,
}

/// The task's shots, divided into those that train and those that judge.
pub(super) struct Split {
    /// Rows that train, and the class of each.
    pub(super) rows: Vec<usize>,
    pub(super) labels: Vec<usize>,
    /// Rows that judge, and the class of each.
    pub(super) held_out: Vec<usize>,
    pub(super) held_out_labels: Vec<usize>,
}

impl Split {
    /// Holds out `share` of every class, at least one shot of every class that has three.
    pub(super) fn new(classes: &[TaskClass], share: f64, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x0068_6f6c_6400_0000);
        let mut split = Self {
            rows: Vec::new(),
            labels: Vec::new(),
            held_out: Vec::new(),
            held_out_labels: Vec::new(),
        };
        for (label, class) in classes.iter().enumerate() {
            let mut rows = class.rows.clone();
            rows.shuffle(&mut rng);
            let n = rows.len();
            let held = ((n as f64 * share).round() as usize).max(usize::from(n >= 3)).min(n / 2);
            split.held_out.extend(&rows[..held]);
            split.held_out_labels.extend(std::iter::repeat_n(label, held));
            split.rows.extend(&rows[held..]);
            split.labels.extend(std::iter::repeat_n(label, n - held));
        }
        split
    }
}

/// Statistics of a task's classes from some rows of the cache, added to those of old classes of the same name.
///
/// # Errors
///
/// [`StatisticsError`] if a shot does not fit.
pub fn with_task(
    known: &[Arc<Class>],
    classes: &[TaskClass],
    features: &[Vec<f32>],
    taken: impl Fn(usize) -> bool,
) -> Result<Vec<Arc<Class>>, StatisticsError> {
    let mut all = known.to_vec();
    for class in classes {
        let rows = class.rows.iter().filter(|&&row| taken(row));
        let shots: Vec<Vec<f32>> = rows.map(|&row| features[row].clone()).collect();
        if shots.is_empty() {
            continue;
        }
        let place = all.iter().position(|c| c.name.key() == class.name.key());
        let class = match place {
            Some(place) => all[place].with_shots(&shots)?,
            None => Class::from_shots(class.name.clone(), &shots)?,
        };
        let class = Arc::new(class);
        match place {
            Some(place) => all[place] = class,
            None => all.push(class),
        }
    }
    Ok(all)
}
