//! What an adapter carries of the classes of its task: less than a device keeps of its own.

mod shared_scatter;

use std::sync::Arc;

use fmlora_models::HalfTensorError;
use serde::{Deserialize, Serialize};

use crate::byte_rows::ByteRows;
use crate::{Class, ClassName, ClassStatistics, Matrix, StatisticsError};

use shared_scatter::shared_scatter;

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

/// Counts, means and energies of the classes of a task, and the scatter that they share.
///
/// The scatters themselves would take 3 KiB a shot. Ours: the task's classes share one, the sum of theirs, as a few
/// rows chosen for what the head asks of it (docs/method.md).
///
/// # Shapes
///
/// - `scatter`: `[k, d]`, eight bits a number; its rows together hold the energy of all classes
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// The classes.
    pub classes: Vec<ClassSummary>,
    /// `V` with `V^T V` near the sum of the classes' scatters.
    pub scatter: ByteRows,
}

/// Most classes of an adapter.
pub const MAX_CLASSES: usize = 4096;

impl TaskSummary {
    /// Sums up the classes of a task, each of them as one mode, with a shared scatter of at most `n_rows` rows.
    ///
    /// `shrinkage` is the one that the head of these classes has: there the few rows tell them apart as well as all
    /// would.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if there is no class or no shot, or for numbers that cannot be stored.
    pub fn of(
        classes: &[Arc<Class>],
        shrinkage: f64,
        n_rows: usize,
    ) -> Result<Self, StatisticsError> {
        let modes: Vec<ClassStatistics> =
            classes.iter().map(|class| class.as_one_mode()).collect::<Result<_, _>>()?;
        let d = modes.first().ok_or(StatisticsError::NoShots)?.d_feature();
        let rows = shared_scatter(&modes.iter().collect::<Vec<_>>(), shrinkage, n_rows);
        // Numbers that are not finite are all that has no eigenvalues.
        let odd = HalfTensorError::OutOfRange { index: 0, value: f32::NAN };
        let rows = rows.ok_or(StatisticsError::Number(odd))?;
        let summary = |(class, mode): (&Arc<Class>, &ClassStatistics)| ClassSummary {
            name: class.name.clone(),
            count: mode.count(),
            energy: mode.energy() as f32,
            mean: Matrix::from_fn(1, d, {
                let mean = mode.mean();
                move |_, i| mean[i]
            }),
        };
        Ok(Self {
            classes: classes.iter().zip(&modes).map(summary).collect(),
            scatter: ByteRows::new(d, rows.iter().map(Vec::as_slice)),
        })
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
    /// A class of fewer shots than rows gets as many rows as its shots can have, each class others.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] for numbers that a device cannot store.
    pub fn to_classes(&self) -> Result<Vec<Arc<Class>>, StatisticsError> {
        let rows: Vec<Vec<f64>> = self.scatter.rows().collect();
        let mut turn = 0;
        let class = |summary: &ClassSummary| {
            let most = rows.len().min((summary.count as usize).saturating_sub(1));
            let taken: Vec<&Vec<f64>> =
                (0..most).map(|k| &rows[(turn + k) % rows.len().max(1)]).collect();
            turn += most;
            let energy: f64 = taken.iter().flat_map(|row| row.iter()).map(|v| v * v).sum();
            let scale =
                if energy > 0.0 { (f64::from(summary.energy) / energy).sqrt() } else { 0.0 };
            let scaled: Vec<Vec<f64>> =
                taken.iter().map(|row| row.iter().map(|v| v * scale).collect()).collect();
            let mode = ClassStatistics::from_parts(summary.count, summary.mean.values(), &scaled)?;
            Ok(Arc::new(Class { name: summary.name.clone(), modes: vec![mode] }))
        };
        self.classes.iter().map(class).collect()
    }
}
