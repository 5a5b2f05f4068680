//! Summary of a task's classes for an adapter: smaller than the statistics that a device stores.

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
    /// Name of the class.
    pub name: ClassName,
    /// Number of its shots.
    pub count: u32,
    /// Sum of the squared distances of its shots from their mean.
    pub energy: f32,
    /// Mean of its shots: `[1, d]`, f16 in files.
    pub mean: Matrix,
}

/// Counts, means and energies of the classes of a task, and an outline of the scatter that they
/// share.
///
/// The scatters themselves would take 3 KiB a shot. Ours: a few rows, chosen for the needs of the
/// head (docs/method.md).
///
/// # Shapes
///
/// - `scatter`: `[k, d]`, eight bits a number
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// The classes.
    pub classes: Vec<ClassSummary>,
    /// `V`: `V^T V` plus the floor approximates the sum of the classes' scatters.
    pub scatter: ByteRows,
    /// Variance added to `V^T V` in every direction in which the classes differ or `V` has a row.
    pub floor: f32,
}

/// Range of the bisection for the noise, in doublings, and its number of steps.
const NOISE_DOUBLINGS: f64 = 6.0;
const HALVINGS: usize = 6;

/// Candidate shrinkages, from nearly plain LDA to nearly the nearest mean.
const SHRINKAGES: [f64; 6] = [0.01, 0.03, 0.1, 0.3, 0.6, 0.9];

/// Shrinkage of the nearest mean, if no shot can be left out.
const NEAREST_MEAN: f64 = 1.0;

/// Largest number of classes of an adapter.
pub const MAX_CLASSES: usize = 4096;

impl TaskSummary {
    /// Summarises the classes of a task, each as one mode. The shared scatter has one row fewer
    /// than there are classes to separate them, and `n_rest` more rows.
    ///
    /// The scatter is stretched until a head fitted to the summary expects the accuracy that
    /// leave-one-out gives with the real scatters: with few rows a head is overconfident.
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
        let mut low = 0.0f64;
        let mut high = NOISE_DOUBLINGS;
        for _ in 0..HALVINGS {
            let doublings = f64::midpoint(low, high);
            summary.scatter = shared.rows(d, doublings.exp2());
            summary.floor = (shared.floor * doublings.exp2()) as f32;
            // More noise lowers the accuracy that a head expects.
            let of_outline = expected_of(&summary.to_classes()?, d, shrinkage)?;
            let surer = of_outline.is_none_or(|e| e > expected);
            (low, high) = if surer { (doublings, high) } else { (low, doublings) };
        }
        Ok(summary)
    }

    /// Approximate sizes in a file, in bytes: the means and the scatter.
    pub fn n_bytes(&self) -> (usize, usize) {
        let means = self.classes.iter().map(|class| 2 * class.mean.values().len());
        (means.sum(), self.scatter.n_bytes())
    }

    /// Length of a feature.
    pub fn d_feature(&self) -> usize {
        self.scatter.n_columns()
    }

    /// Returns the classes as a device stores them: every class has its own count, mean and energy,
    /// and the shape of the shared scatter.
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

/// Returns the shrinkage of LDA with the least log-loss on left-out shots. A task on a workstation
/// has enough shots for this choice, and pictures of many occasions.
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

/// Returns the accuracy that LDA over some classes expects. `None` for a single class.
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

/// The error of a failed decomposition: it fails only for numbers that are not finite.
fn not_finite() -> StatisticsError {
    HalfTensorError::OutOfRange { index: 0, value: f32::NAN }.into()
}
