//! The scatter of a class as a factor with few rows.

use faer::{Mat, Side};
use fmlora_models::{HalfTensor, HalfTensorError};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// A scatter matrix `S = sum (x - mean)(x - mean)^T` (`d x d`), kept as `V` with `S = V^T V`.
///
/// `n` shots give at most `n - 1` rows, so for the few shots of a device this is far smaller than `S`,
/// and exact. The rows are orthogonal and ordered by energy (singular values times right singular
/// vectors), so they tell the shots only up to a rotation that is not kept. For one or two shots there is
/// no such rotation: docs/security.md says what can be read off a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScatterFactor {
    /// `[rank, d]`
    #[serde(deserialize_with = "matrix")]
    rows: HalfTensor<'static>,
}

/// Reads a tensor and refuses any shape but a matrix. Its numbers are checked later, by [`ScatterFactor::check`].
fn matrix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HalfTensor<'static>, D::Error> {
    let tensor = HalfTensor::owned(deserializer)?;
    match tensor.shape().len() {
        2 => Ok(tensor),
        n => Err(D::Error::custom(format!("the scatter has {n} dimensions, expected 2"))),
    }
}

/// Rows below this share of the total energy are rounding noise.
const NOISE: f64 = 1e-7;

impl ScatterFactor {
    /// No scatter at all: a single shot.
    pub fn empty(d_feature: usize) -> Self {
        let rows = HalfTensor::from_f32(&[0, d_feature], &[]);
        Self { rows: rows.expect("no number can be out of range") }
    }

    /// This scatter plus the outer products of `rows`, with at most `max_rank` rows.
    ///
    /// More rows than a feature has numbers are taken in parts, so that cost stays linear in their number.
    pub(super) fn with_rows(
        &self,
        rows: &[Vec<f64>],
        max_rank: usize,
    ) -> Result<Self, HalfTensorError> {
        let parts = rows.chunks(self.d_feature().max(1));
        parts.into_iter().try_fold(self.clone(), |sum, part| sum.with_part(part, max_rank))
    }

    fn with_part(&self, rows: &[Vec<f64>], max_rank: usize) -> Result<Self, HalfTensorError> {
        let (d, old_rank) = (self.d_feature(), self.rank());
        let old = self.rows();
        let all = Mat::from_fn(old_rank + rows.len(), d, |i, j| {
            if i < old_rank { f64::from(old[i * d + j]) } else { rows[i - old_rank][j] }
        });
        let gram = &all * all.transpose();
        let Ok(eigen) = gram.self_adjoint_eigen(Side::Lower) else {
            // Only numbers that are not finite keep the iteration from ending.
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
            // A factor is the same with any row negated: fix the sign, so that equal shots give equal bytes.
            let peak = row.iter().fold(0.0f64, |m, &v| if v.abs() > m.abs() { v } else { m });
            values.extend(row.iter().map(|v| (v * peak.signum()) as f32));
        }
        Ok(Self { rows: HalfTensor::from_f32(&[kept.len(), d], &values)? })
    }

    /// Number of rows.
    pub fn rank(&self) -> usize {
        self.rows.shape()[0]
    }

    /// Numbers of a row.
    pub fn d_feature(&self) -> usize {
        self.rows.shape()[1]
    }

    /// The rows, one after the other.
    pub fn rows(&self) -> Vec<f32> {
        self.rows.to_f32()
    }

    /// The first `n` rows: the directions of most energy.
    pub fn leading_rows(&self, n: usize) -> Vec<f32> {
        self.rows.leading(n.min(self.rank()) * self.d_feature())
    }

    /// Bytes of the numbers.
    pub fn n_bytes(&self) -> usize {
        self.rows.n_bytes()
    }

    pub(super) fn check(&self, d_feature: usize) -> Result<(), super::StatisticsError> {
        self.rows.check()?;
        if !self.rows.is_finite() {
            let (what, expected) = ("the scatter", d_feature);
            return Err(super::StatisticsError::Inconsistent { what, expected });
        }
        Ok(())
    }
}
