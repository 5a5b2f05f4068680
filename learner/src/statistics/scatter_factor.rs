//! The scatter of a class, stored as a factor with few rows.

use faer::{Mat, Side};
use fmlora_models::{HalfTensor, HalfTensorError};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// A scatter matrix `S = sum (x - mean)(x - mean)^T` (`d x d`), stored as `V` with `S = V^T V`.
///
/// `n` shots give at most `n - 1` rows, so for the few shots of a device `V` is far smaller than
/// `S`, and exact. The rows are orthogonal and ordered by energy (singular values times right
/// singular vectors): they determine the shots only up to a rotation that is not stored. For one or
/// two shots there is no such rotation; docs/security.md describes the information in a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScatterFactor {
    /// `[rank, d]`
    #[serde(deserialize_with = "matrix")]
    rows: HalfTensor<'static>,
}

/// Deserialises a tensor and rejects any shape but a matrix. [`ScatterFactor::check`] checks its
/// numbers later.
fn matrix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HalfTensor<'static>, D::Error> {
    let tensor = HalfTensor::owned(deserializer)?;
    match tensor.shape().len() {
        2 => Ok(tensor),
        n => Err(D::Error::custom(format!("the scatter has {n} dimensions, expected 2"))),
    }
}

/// Share of the total energy below which a row is rounding noise.
const NOISE: f64 = 1e-7;

impl ScatterFactor {
    /// Returns an empty scatter: that of a single shot.
    pub fn empty(d_feature: usize) -> Self {
        let rows = HalfTensor::from_f32(&[0, d_feature], &[]);
        Self { rows: rows.expect("no number can be out of range") }
    }

    /// Returns this scatter plus the outer products of `rows`, with at most `max_rank` rows.
    ///
    /// Large numbers of rows are added in parts of at most `d` rows, so that the cost stays linear
    /// in their number.
    pub(super) fn with_rows(
        &self,
        rows: &[Vec<f64>],
        max_rank: usize,
    ) -> Result<Self, HalfTensorError> {
        let parts = rows.chunks(self.d_feature().max(1));
        parts.into_iter().try_fold(self.clone(), |sum, part| sum.with_part(part, max_rank))
    }

    fn with_part(&self, rows: &[Vec<f64>], max_rank: usize) -> Result<Self, HalfTensorError> {
        let d = self.d_feature();
        let old_rank = self.rank();
        let old = self.rows();
        let all = Mat::from_fn(old_rank + rows.len(), d, |i, j| {
            if i < old_rank { f64::from(old[i * d + j]) } else { rows[i - old_rank][j] }
        });
        let gram = &all * all.transpose();
        let Ok(eigen) = gram.self_adjoint_eigen(Side::Lower) else {
            // The decomposition fails only for numbers that are not finite.
            return Err(HalfTensorError::OutOfRange { index: 0, value: f32::NAN });
        };
        let energies: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
        let total: f64 = energies.iter().sum();
        // Eigenvalues come in ascending order.
        let kept: Vec<usize> =
            (0..energies.len()).rev().filter(|&i| energies[i] > NOISE * total).collect();
        let kept = &kept[..kept.len().min(max_rank).min(d)];
        let rotation = Mat::from_fn(kept.len(), all.nrows(), |i, j| eigen.U()[(j, kept[i])]);
        let rotated = rotation * &all;
        let mut values = Vec::with_capacity(kept.len() * d);
        for i in 0..kept.len() {
            let row: Vec<f64> = (0..d).map(|j| rotated[(i, j)]).collect();
            // The sign of a row is arbitrary. It is fixed here, so that equal shots give equal
            // bytes.
            let peak = row.iter().fold(0.0f64, |m, &v| if v.abs() > m.abs() { v } else { m });
            values.extend(row.iter().map(|v| (v * peak.signum()) as f32));
        }
        Ok(Self { rows: HalfTensor::from_f32(&[kept.len(), d], &values)? })
    }

    /// Number of rows.
    pub fn rank(&self) -> usize {
        self.rows.shape()[0]
    }

    /// Length of a row.
    pub fn d_feature(&self) -> usize {
        self.rows.shape()[1]
    }

    /// The rows, one after the other.
    pub fn rows(&self) -> Vec<f32> {
        self.rows.to_f32()
    }

    /// Returns the first `n` rows: the directions of most energy.
    pub fn leading_rows(&self, n: usize) -> Vec<f32> {
        self.rows.leading(n.min(self.rank()) * self.d_feature())
    }

    /// Size of the numbers in bytes.
    pub fn n_bytes(&self) -> usize {
        self.rows.n_bytes()
    }

    pub(super) fn check(&self, d_feature: usize) -> Result<(), super::StatisticsError> {
        self.rows.check()?;
        if !self.rows.is_finite() {
            let what = "the scatter";
            return Err(super::StatisticsError::Inconsistent { what, expected: d_feature });
        }
        Ok(())
    }
}
