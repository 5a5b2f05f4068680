//! What an adapter carries of the classes of its task: less than a device keeps of its own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::byte_rows::ByteRows;
use crate::{Class, ClassName, ClassStatistics, Matrix, StatisticsError};

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
