//! What is kept of the shots of a class: how many, where, how spread.

mod scatter_factor;

use fmlora_models::{HalfTensor, HalfTensorError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use scatter_factor::ScatterFactor;

/// Count, mean and scatter of one class's shots.
///
/// The mean stands for where the class is; it is all that an adapter carries. The scatter is what makes
/// forgetting exact: the covariance that all classes share is the sum of their scatters, so that a class
/// that is taken away leaves nothing behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassStatistics {
    count: u32,
    #[serde(deserialize_with = "HalfTensor::owned")]
    mean: HalfTensor<'static>,
    scatter: ScatterFactor,
}

/// Why shots cannot be summed up.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum StatisticsError {
    /// No shot at all.
    #[error("a class needs at least one shot")]
    NoShots,
    /// A feature of another length.
    #[error("a shot has {found} numbers, expected {expected}")]
    Length {
        /// Numbers found.
        found: usize,
        /// Numbers of a feature here.
        expected: usize,
    },
    /// A feature with NaN, an infinity or a number that f16 cannot hold.
    #[error("a shot cannot be stored")]
    Number(#[from] HalfTensorError),
    /// More shots than a count can hold.
    #[error("a class cannot hold more than {} shots", u32::MAX)]
    TooMany,
    /// Statistics whose parts do not fit together.
    #[error("{what} of a class does not fit the {expected} numbers of a feature")]
    Inconsistent {
        /// The part that does not fit.
        what: &'static str,
        /// Numbers of a feature here.
        expected: usize,
    },
}

impl ClassStatistics {
    /// Sums up the first shots of a class.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if there are none, or one does not fit.
    pub fn from_shots(shots: &[Vec<f32>]) -> Result<Self, StatisticsError> {
        let first = shots.first().ok_or(StatisticsError::NoShots)?;
        let empty = Self {
            count: 0,
            mean: HalfTensor::from_f32(&[first.len()], &vec![0.0; first.len()])?,
            scatter: ScatterFactor::empty(first.len()),
        };
        empty.with_shots(shots)
    }

    /// These statistics and more shots of the same class.
    ///
    /// With `n` shots so far, `m` new ones, and `d` the difference of their means, the scatter about the
    /// common mean is `S + S_new + n m / (n + m) d d^T` (Chan, Golub, LeVeque 1979), so the order of
    /// shots and how they are grouped do not matter beyond rounding. The mean is rounded to f16 at each call:
    /// beyond some thousand shots taught one by one it stops moving, while shots taught together always count.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if there are no shots, or one does not fit.
    pub fn with_shots(&self, shots: &[Vec<f32>]) -> Result<Self, StatisticsError> {
        let d = self.d_feature();
        if shots.is_empty() {
            return Err(StatisticsError::NoShots);
        }
        if let Some(odd) = shots.iter().find(|s| s.len() != d) {
            return Err(StatisticsError::Length { found: odd.len(), expected: d });
        }
        let count = u32::try_from(shots.len()).ok().and_then(|m| self.count.checked_add(m));
        let count = count.ok_or(StatisticsError::TooMany)?;
        let (old, new) = (f64::from(self.count), shots.len() as f64);
        let old_mean = self.mean();
        let mut new_mean = vec![0.0f64; d];
        for shot in shots {
            new_mean.iter_mut().zip(shot).for_each(|(m, &v)| *m += f64::from(v) / new);
        }
        let mut rows: Vec<Vec<f64>> = shots
            .iter()
            .map(|shot| shot.iter().zip(&new_mean).map(|(&v, m)| f64::from(v) - m).collect())
            .collect();
        if self.count > 0 {
            let weight = (old * new / (old + new)).sqrt();
            let between = new_mean.iter().zip(&old_mean);
            rows.push(between.map(|(m, &o)| weight * (m - f64::from(o))).collect());
        }
        let mean: Vec<f32> = new_mean
            .iter()
            .zip(&old_mean)
            .map(|(m, &o)| ((old * f64::from(o) + new * m) / (old + new)) as f32)
            .collect();
        Ok(Self {
            count,
            mean: HalfTensor::from_f32(&[d], &mean)?,
            scatter: self.scatter.with_rows(&rows, count as usize - 1)?,
        })
    }

    /// Statistics from their parts: the scatter is the sum of the outer products of `rows`.
    pub(crate) fn from_parts(
        count: u32,
        mean: &[f32],
        rows: &[Vec<f64>],
    ) -> Result<Self, StatisticsError> {
        let scatter = ScatterFactor::empty(mean.len());
        let scatter = scatter.with_rows(rows, (count as usize).saturating_sub(1))?;
        Ok(Self { count, mean: HalfTensor::from_f32(&[mean.len()], mean)?, scatter })
    }

    /// These statistics and those of other shots, as if all had been summed up together.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if they do not fit together.
    pub fn merged(&self, other: &Self) -> Result<Self, StatisticsError> {
        let d = self.d_feature();
        if other.d_feature() != d {
            return Err(StatisticsError::Length { found: other.d_feature(), expected: d });
        }
        let count = self.count.checked_add(other.count).ok_or(StatisticsError::TooMany)?;
        let (n, m) = (f64::from(self.count), f64::from(other.count));
        let means: Vec<(f64, f64)> = self
            .mean()
            .iter()
            .zip(other.mean())
            .map(|(&a, b)| (f64::from(a), f64::from(b)))
            .collect();
        let mean: Vec<f32> =
            means.iter().map(|(a, b)| ((n * a + m * b) / (n + m)) as f32).collect();
        let weight = (n * m / (n + m)).sqrt();
        let factor = other.scatter.rows();
        let row = |row: &[f32]| row.iter().map(|&v| f64::from(v)).collect();
        let mut rows: Vec<Vec<f64>> = factor.chunks_exact(d.max(1)).map(row).collect();
        rows.push(means.iter().map(|(a, b)| weight * (b - a)).collect());
        Ok(Self {
            count,
            mean: HalfTensor::from_f32(&[d], &mean)?,
            scatter: self.scatter.with_rows(&rows, count as usize - 1)?,
        })
    }

    /// Sum of the squared distances of the shots from their mean.
    pub fn energy(&self) -> f64 {
        self.scatter.rows().iter().map(|&v| f64::from(v).powi(2)).sum()
    }

    /// Number of shots.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Numbers of a feature.
    pub fn d_feature(&self) -> usize {
        self.scatter.d_feature()
    }

    /// Mean of the shots.
    pub fn mean(&self) -> Vec<f32> {
        self.mean.to_f32()
    }

    /// Scatter of the shots about their mean.
    pub fn scatter(&self) -> &ScatterFactor {
        &self.scatter
    }

    /// Bytes of the numbers: the mean, and the scatter that exact forgetting needs.
    pub fn n_bytes(&self) -> (usize, usize) {
        (self.mean.n_bytes(), self.scatter.n_bytes())
    }

    /// Checks statistics that came from outside.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] names the part that does not fit.
    pub fn check(&self, d_feature: usize) -> Result<(), StatisticsError> {
        let inconsistent = |what| StatisticsError::Inconsistent { what, expected: d_feature };
        self.mean.check()?;
        self.scatter.check(d_feature)?;
        if self.count == 0 {
            return Err(StatisticsError::NoShots);
        }
        if self.mean.shape() != [d_feature] {
            return Err(inconsistent("the mean"));
        }
        let rank_fits = self.scatter.rank() < self.count as usize || self.scatter.rank() == 0;
        if self.scatter.d_feature() != d_feature || !rank_fits {
            return Err(inconsistent("the scatter"));
        }
        if self.mean().iter().any(|v| !v.is_finite()) {
            return Err(inconsistent("a number that is not finite"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
