//! Low-rank drift map, small enough for an adapter file.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use serde::{Deserialize, Serialize};

use super::DriftMap;
use crate::byte_rows::ByteRows;
use crate::{ClassStatistics, Matrix, StatisticsError};

/// `x -> shift + x + (x U) V^T`: a [`DriftMap`] with few columns.
///
/// Ours: reduced-rank regression. With `V` the leading directions in which the full map moves the
/// pictures that it was fitted on, and `U = D V`, no map with as many columns is nearer to the full
/// map on these pictures. It is computed number by number in f64, in one order, so that the result
/// is the same on every processor.
///
/// # Shapes
///
/// - `shift`: `[1, d]`, f16 in files
/// - `down` (`U^T`), `up` (`V^T`): `[k, d]`, eight bits a number
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LowRankDrift {
    shift: Matrix,
    down: ByteRows,
    up: ByteRows,
}

impl DriftMap {
    /// Returns the nearest map of at most `rank` columns. `before` are the features of the pictures
    /// that this map was fitted on.
    ///
    /// # Errors
    ///
    /// `None` for features that are not finite.
    pub fn low_rank(&self, before: &[Vec<f32>], rank: usize) -> Option<LowRankDrift> {
        let d = self.origin.len();
        let ups = self.leading_directions(before, rank)?;
        let up = ByteRows::new(d, ups.iter().map(Vec::as_slice));
        // Coordinates in the quantised `V`: its columns are no longer exactly orthonormal.
        let rows: Vec<Vec<f64>> = up.rows().collect();
        let onto = Mat::from_fn(rows.len(), d, |k, i| rows[k][i]);
        let gram = &onto * onto.transpose();
        let onto = gram.llt(Side::Lower).ok()?.solve(onto);
        let downs = &self.drift * onto.transpose();
        let downs: Vec<Vec<f64>> =
            (0..downs.ncols()).map(|k| downs.col(k).iter().copied().collect()).collect();
        let down = ByteRows::new(d, downs.iter().map(Vec::as_slice));
        let mut map = LowRankDrift { shift: Matrix::zeros(1, d), down, up };
        // The shift takes the mean of the pictures exactly where the full map takes it.
        let along = map.moved(&self.origin);
        let shift = |_, i: usize| (self.offset[i] - along[i]) as f32;
        map.shift = Matrix::from_fn(1, d, shift).rounded().ok()?;
        Some(map)
    }

    /// Returns the right singular vectors of the largest moves, through the smaller of the two Gram
    /// matrices.
    fn leading_directions(&self, before: &[Vec<f32>], rank: usize) -> Option<Vec<Vec<f64>>> {
        let n = before.len();
        let d = self.origin.len();
        let moves =
            self.moved(&Mat::from_fn(n, d, |p, i| f64::from(before[p][i]) - self.origin[i]));
        let few = n < d;
        let gram = if few { &moves * moves.transpose() } else { moves.transpose() * &moves };
        let eigen = gram.self_adjoint_eigen(Side::Lower).ok()?;
        let energies: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
        let direction = |k: usize| -> Vec<f64> {
            if few {
                let along = moves.transpose() * eigen.U().subcols(k, 1);
                along.col(0).iter().map(|v| v / energies[k].sqrt()).collect()
            } else {
                eigen.U().col(k).iter().copied().collect()
            }
        };
        Some(leading(&energies, rank).into_iter().map(direction).collect())
    }
}

/// Returns the indices of the largest energies above the noise. Energies are in ascending order.
fn leading(energies: &[f64], rank: usize) -> Vec<usize> {
    let noise = energies.iter().sum::<f64>() * 1e-9;
    (0..energies.len()).rev().filter(|&k| energies[k] > noise).take(rank).collect()
}

impl LowRankDrift {
    /// Number of columns.
    pub fn rank(&self) -> usize {
        self.down.len()
    }

    /// Length of a feature.
    pub fn d_feature(&self) -> usize {
        self.down.n_columns()
    }

    /// Approximate size in a file, in bytes.
    pub fn n_bytes(&self) -> usize {
        2 * self.shift.values().len() + self.down.n_bytes() + self.up.n_bytes()
    }

    /// Returns `(x U) V^T`.
    fn moved(&self, x: &[f64]) -> Vec<f64> {
        let mut moved = vec![0.0; x.len()];
        for (down, up) in self.down.rows().zip(self.up.rows()) {
            let along: f64 = x.iter().zip(&down).map(|(x, u)| x * u).sum();
            moved.iter_mut().zip(&up).for_each(|(m, v)| *m += along * v);
        }
        moved
    }

    /// Returns the feature after the training.
    ///
    /// # Shapes
    ///
    /// - `feature`: `d_feature` numbers
    pub fn apply(&self, feature: &[f32]) -> Vec<f32> {
        let x: Vec<f64> = feature.iter().map(|&v| f64::from(v)).collect();
        let moved = self.moved(&x);
        let parts = x.iter().zip(self.shift.values()).zip(&moved);
        parts.map(|((x, &s), m)| (x + f64::from(s) + m) as f32).collect()
    }

    /// Returns statistics in the new features.
    ///
    /// # Errors
    ///
    /// [`StatisticsError::Length`] for features of another length, [`StatisticsError::Number`] if a
    /// moved number cannot be stored.
    pub fn transport(
        &self,
        statistics: &ClassStatistics,
    ) -> Result<ClassStatistics, StatisticsError> {
        let d = statistics.d_feature();
        if d != self.d_feature() {
            return Err(StatisticsError::Length { found: d, expected: self.d_feature() });
        }
        let rows = statistics.scatter().rows();
        let row = |row: &[f32]| -> Vec<f64> {
            let x: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
            self.moved(&x).iter().zip(&x).map(|(m, x)| x + m).collect()
        };
        let rows: Vec<Vec<f64>> = rows.chunks_exact(d.max(1)).map(&row).collect();
        let mean = self.apply(&statistics.mean());
        let moved = ClassStatistics::from_parts(statistics.count(), &mean, &rows)?;
        moved.with_details_of(statistics, |mean| self.apply(mean), row)
    }

    /// Returns statistics in the features before: the inverse of [`LowRankDrift::transport`], up to
    /// the rounding to eight bits and f16.
    ///
    /// # Errors
    ///
    /// [`StatisticsError::Length`] for features of another length, [`StatisticsError::Number`] if a
    /// moved number cannot be stored, for instance if the map has no inverse.
    pub fn transport_back(
        &self,
        statistics: &ClassStatistics,
    ) -> Result<ClassStatistics, StatisticsError> {
        let d = statistics.d_feature();
        if d != self.d_feature() {
            return Err(StatisticsError::Length { found: d, expected: self.d_feature() });
        }
        let downs: Vec<Vec<f64>> = self.down.rows().collect();
        let ups: Vec<Vec<f64>> = self.up.rows().collect();
        let k = downs.len();
        // With `c = U^T x`, the feature after is `x + V c`, and `U^T` of that is `(I + U^T V) c`.
        let small = Mat::from_fn(k, k, |i, j| f64::from(i == j) + dot(&downs[i], &ups[j]));
        let small = small.partial_piv_lu();
        let back = |x: &[f64]| -> Vec<f64> {
            let along = Mat::from_fn(k, 1, |i, _| dot(&downs[i], x));
            let along = small.solve(along);
            let mut before = x.to_vec();
            for (i, up) in ups.iter().enumerate() {
                before.iter_mut().zip(up).for_each(|(b, v)| *b -= along[(i, 0)] * v);
            }
            before
        };
        let point_back = |point: &[f32]| -> Vec<f32> {
            let shifted = point.iter().zip(self.shift.values());
            let shifted: Vec<f64> = shifted.map(|(&x, &s)| f64::from(x) - f64::from(s)).collect();
            back(&shifted).into_iter().map(|v| v as f32).collect()
        };
        let mean = point_back(&statistics.mean());
        let rows = statistics.scatter().rows();
        let wide = |row: &[f32]| row.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let rows: Vec<Vec<f64>> = rows.chunks_exact(d.max(1)).map(|row| back(&wide(row))).collect();
        let moved = ClassStatistics::from_parts(statistics.count(), &mean, &rows)?;
        moved.with_details_of(statistics, point_back, |row| back(&wide(row)))
    }

    /// Returns true if all parts are for features of `d_feature` numbers.
    pub(crate) fn fits(&self, d_feature: usize) -> bool {
        self.shift.shape() == [1, d_feature]
            && self.down.fits(None, d_feature)
            && self.up.fits(Some(self.down.len()), d_feature)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
