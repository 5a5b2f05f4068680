//! What an adapter carries of the classes of its task: less than a device keeps of its own.

mod shape;
mod shared_scatter;

use std::sync::Arc;

use fmlora_models::HalfTensorError;
use serde::{Deserialize, Serialize};

use crate::byte_rows::ByteRows;
use crate::{
    Class, ClassName, ClassStatistics, FittedHead, HeadChoice, Matrix, StatisticsError, fit_head,
};

use shape::Shape;
use shared_scatter::SharedScatter;

/// One class of the task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassSummary {
    /// Its name.
    pub name: ClassName,
    /// Its shots.
    pub count: u32,
    /// Sum of the squared distances of its shots from their mean.
    pub energy: f32,
    /// Their mean: `[1, d]`, f16 in files.
    pub mean: Matrix,
}

/// Counts, means and energies of the classes of a task, and an outline of the scatter that they share.
///
/// The scatters themselves would take 3 KiB a shot. Ours: a few rows, chosen for what the head asks of them
/// (docs/method.md).
///
/// # Shapes
///
/// - `scatter`: `[k, d]`, eight bits a number
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// The classes.
    pub classes: Vec<ClassSummary>,
    /// `V`: `V^T V` and the floor stand for the sum of the classes' scatters.
    pub scatter: ByteRows,
    /// What is added to `V^T V` in every direction in which the classes differ, or `V` has a row.
    pub floor: f32,
}

/// Doublings of the noise among which the one that fits is looked for, by so many halvings.
const NOISE_DOUBLINGS: f64 = 6.0;
const HALVINGS: usize = 6;

/// Shrinkages that are tried, from nearly plain LDA to nearly the nearest mean.
const SHRINKAGES: [f64; 6] = [0.01, 0.03, 0.1, 0.3, 0.6, 0.9];

/// Shrinkage of the nearest mean, where nothing can be left out.
const NEAREST_MEAN: f64 = 1.0;

/// Most classes of an adapter.
pub const MAX_CLASSES: usize = 4096;

impl TaskSummary {
    /// Sums up the classes of a task, each of them as one mode, with a shared scatter of `n_rest` rows beside those that
    /// tell the classes apart, which are one fewer than classes.
    ///
    /// The shape is stretched until a head expects of it what leaving out shots says of the real scatters: few rows look surer
    /// than they are.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if there is no class or no shot, or for numbers that cannot be stored.
    pub fn of(classes: &[Arc<Class>], n_rest: usize) -> Result<Self, StatisticsError> {
        let one_mode = |class: &Arc<Class>| {
            let modes = vec![class.as_one_mode()?];
            Ok(Arc::new(Class { name: class.name.clone(), modes, parts: None }))
        };
        let classes: Vec<Arc<Class>> =
            classes.iter().map(one_mode).collect::<Result<_, StatisticsError>>()?;
        let modes: Vec<&ClassStatistics> = classes.iter().map(|class| &class.modes[0]).collect();
        let d = modes.first().ok_or(StatisticsError::NoShots)?.d_feature();
        let shrinkage = best_shrinkage(&classes, d)?;
        let expected = expected_of(&classes, d, shrinkage)?;
        let shared = SharedScatter::new(&modes, shrinkage, n_rest).ok_or_else(not_finite)?;
        let summaries = classes.iter().zip(&modes).map(|(class, mode)| summary_of(class, mode));
        let mut summary = Self {
            classes: summaries.collect(),
            scatter: shared.rows(d, 1.0),
            floor: shared.floor as f32,
        };
        let Some(expected) = expected else { return Ok(summary) };
        let (mut low, mut high) = (0.0f64, NOISE_DOUBLINGS);
        for _ in 0..HALVINGS {
            let doublings = f64::midpoint(low, high);
            summary.scatter = shared.rows(d, doublings.exp2());
            summary.floor = (shared.floor * doublings.exp2()) as f32;
            // The more noise, the less a head expects of itself.
            let of_outline = expected_of(&summary.to_classes()?, d, shrinkage)?;
            let surer = of_outline.is_none_or(|e| e > expected);
            (low, high) = if surer { (doublings, high) } else { (low, doublings) };
        }
        Ok(summary)
    }

    /// Bytes in a file of the means and of the scatter, but for a few.
    pub fn n_bytes(&self) -> (usize, usize) {
        let means = self.classes.iter().map(|class| 2 * class.mean.values().len());
        (means.sum(), self.scatter.n_bytes())
    }

    /// Numbers of a feature.
    pub fn d_feature(&self) -> usize {
        self.scatter.n_columns()
    }

    /// The classes as a device keeps them: every class has its own count, mean and energy, and the shape of the scatter
    /// that they share.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] for numbers that a device cannot store.
    pub fn to_classes(&self) -> Result<Vec<Arc<Class>>, StatisticsError> {
        let mut shape = Shape::of(self).ok_or_else(not_finite)?;
        let class = |summary: &ClassSummary| {
            let rows = shape.next(summary.count, f64::from(summary.energy));
            let mode = ClassStatistics::from_parts(summary.count, summary.mean.values(), &rows)?;
            Ok(Arc::new(Class { name: summary.name.clone(), modes: vec![mode], parts: None }))
        };
        self.classes.iter().map(class).collect()
    }
}

fn summary_of(class: &Class, mode: &ClassStatistics) -> ClassSummary {
    let mean = mode.mean();
    ClassSummary {
        name: class.name.clone(),
        count: mode.count(),
        energy: mode.energy() as f32,
        mean: Matrix::from_fn(1, mean.len(), |_, i| mean[i]),
    }
}

/// The shrinkage of LDA with the least log-loss on shots left out. A task of a workstation has shots enough to choose by, and
/// pictures of many occasions.
fn best_shrinkage(classes: &[Arc<Class>], d: usize) -> Result<f64, StatisticsError> {
    let mut best = (f64::INFINITY, NEAREST_MEAN);
    for shrinkage in SHRINKAGES {
        let head = lda(classes, d, shrinkage)?;
        let losses: Vec<f64> = head.log_losses.into_iter().flatten().collect();
        let loss = losses.iter().sum::<f64>() / losses.len() as f64;
        if loss < best.0 {
            best = (loss, shrinkage);
        }
    }
    Ok(best.1)
}

/// The accuracy that LDA over some classes expects of itself; `None` for a single class.
fn expected_of(
    classes: &[Arc<Class>],
    d: usize,
    shrinkage: f64,
) -> Result<Option<f64>, StatisticsError> {
    Ok(lda(classes, d, shrinkage)?.estimate.map(|estimate| estimate.accuracy))
}

fn lda(classes: &[Arc<Class>], d: usize, shrinkage: f64) -> Result<FittedHead, StatisticsError> {
    fit_head(classes, d, None, HeadChoice::Lda(shrinkage), &[]).map_err(|_| not_finite())
}

/// Numbers that are not finite are all that has no eigenvalues.
fn not_finite() -> StatisticsError {
    HalfTensorError::OutOfRange { index: 0, value: f32::NAN }.into()
}
