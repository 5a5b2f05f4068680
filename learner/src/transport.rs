//! The drift map: moves the statistics of old classes when training changes the features.

mod low_rank;

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use thiserror::Error;

use crate::{ClassStatistics, StatisticsError};

pub use low_rank::LowRankDrift;

/// Map of a feature to its place after a training: `x -> offset + x + (x - origin) D`, fitted on
/// the current task's pictures.
///
/// `D = argmin ||Z D - (Z' - Z)||^2 + lambda ||D||^2` over centred features `Z` before and `Z'`
/// after: a ridge regression that tends to "no change" in directions without pictures. Class
/// statistics follow exactly: a mean moves like a feature, a factor row `v` becomes `v + v D`.
#[derive(Debug, Clone)]
pub struct DriftMap {
    origin: Vec<f64>,
    offset: Vec<f64>,
    /// `D`: `[d, d]`.
    drift: Mat<f64>,
}

/// Reason why no drift map can be fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TransportError {
    /// No pictures, or different numbers of pictures before and after.
    #[error("{before} features before and {after} after, expected as many and at least one")]
    Pictures {
        /// Features before.
        before: usize,
        /// Features after.
        after: usize,
    },
    /// Features that are not finite.
    #[error("the features give no usable covariance")]
    Covariance,
}

impl DriftMap {
    /// Fits the map on features of the same pictures before and after. `ridge` is `lambda` as a
    /// share of the mean variance of a feature's numbers, summed over the pictures.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    pub fn fit(
        before: &[Vec<f32>],
        after: &[Vec<f32>],
        ridge: f64,
    ) -> Result<Self, TransportError> {
        let n = before.len();
        if n == 0 || after.len() != n {
            return Err(TransportError::Pictures { before: n, after: after.len() });
        }
        let d = before[0].len();
        let mut origin = vec![0.0; d];
        let mut offset = vec![0.0; d];
        for (old, new) in before.iter().zip(after) {
            for i in 0..d {
                origin[i] += f64::from(old[i]) / n as f64;
                offset[i] += (f64::from(new[i]) - f64::from(old[i])) / n as f64;
            }
        }
        let z = Mat::from_fn(n, d, |p, i| f64::from(before[p][i]) - origin[i]);
        let moved =
            Mat::from_fn(n, d, |p, i| f64::from(after[p][i]) - f64::from(before[p][i]) - offset[i]);
        let energy = z.squared_norm_l2() / d as f64;
        let lambda = ridge * energy + 1e-9;
        // Solves the smaller of the two normal equations: pictures by pictures, or numbers by
        // numbers.
        let drift = if n < d {
            let gram = with_diagonal(&z * z.transpose(), lambda);
            let factor = gram.llt(Side::Lower).map_err(|_| TransportError::Covariance)?;
            z.transpose() * factor.solve(moved)
        } else {
            let gram = with_diagonal(z.transpose() * &z, lambda);
            let factor = gram.llt(Side::Lower).map_err(|_| TransportError::Covariance)?;
            factor.solve(z.transpose() * moved)
        };
        Ok(Self { origin, offset, drift })
    }

    /// Returns the feature after the training.
    pub fn apply(&self, feature: &[f32]) -> Vec<f32> {
        let centred = feature.iter().zip(&self.origin).map(|(&x, o)| f64::from(x) - o);
        let moved = self.moved(&Mat::from_fn(1, feature.len(), {
            let centred: Vec<f64> = centred.collect();
            move |_, i| centred[i]
        }));
        let parts = feature.iter().zip(&self.offset).enumerate();
        parts.map(|(i, (&x, o))| (f64::from(x) + o + moved[(0, i)]) as f32).collect()
    }

    fn moved(&self, centred: &Mat<f64>) -> Mat<f64> {
        centred * &self.drift
    }

    /// Returns statistics in the new features.
    ///
    /// # Errors
    ///
    /// [`StatisticsError::Number`] if a moved number cannot be stored.
    pub fn transport(
        &self,
        statistics: &ClassStatistics,
    ) -> Result<ClassStatistics, StatisticsError> {
        let d = statistics.d_feature();
        let scatter = statistics.scatter();
        let rows = scatter.rows();
        let factor = Mat::from_fn(scatter.rank(), d, |r, i| f64::from(rows[r * d + i]));
        let moved = self.moved(&factor);
        let rows: Vec<Vec<f64>> = (0..scatter.rank())
            .map(|r| (0..d).map(|i| factor[(r, i)] + moved[(r, i)]).collect())
            .collect();
        let mean = self.apply(&statistics.mean());
        let moved = ClassStatistics::from_parts(statistics.count(), &mean, &rows)?;
        let direction = |row: &[f32]| -> Vec<f64> {
            let row = Mat::from_fn(1, d, |_, i| f64::from(row[i]));
            let moved = self.moved(&row);
            (0..d).map(|i| row[(0, i)] + moved[(0, i)]).collect()
        };
        moved.with_details_of(statistics, |mean| self.apply(mean), direction)
    }
}

fn with_diagonal(mut gram: Mat<f64>, value: f64) -> Mat<f64> {
    for i in 0..gram.nrows() {
        gram[(i, i)] += value;
    }
    gram
}
