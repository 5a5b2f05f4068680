//! Compresses all scatters of a task into a few rows that serve the head nearly as well.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::Solve;
use faer::{Accum, Mat, Par, Side};

use crate::ClassStatistics;
use crate::byte_rows::ByteRows;

/// Scatter shared by the classes of a task.
pub(super) struct SharedScatter {
    /// Rows `V`.
    pub(super) rows: Vec<Vec<f64>>,
    /// Variance added to `V^T V` in every relevant direction.
    pub(super) floor: f64,
}

impl SharedScatter {
    /// Compresses the sum `S` of the scatters of some modes for a head of `shrinkage` `s`.
    ///
    /// That head has `A = (1 - s) S / degrees + s t I` and applies its inverse to the differences
    /// of means `D`: `W = A^-1 D`. Ours: Nyström's rows for `W`,
    /// `V^T V = (1 - s) S W (W^T S W)^-1 W^T S`, and the floor `degrees s t` map `W` to `degrees D`
    /// as `degrees A` does, so that a head with little further shrinkage finds `W` itself. The
    /// `n_rest` rows that follow are leading eigenvectors of the remainder of `S` after Nyström;
    /// they map `W` to zero and describe the other directions in which shots vary.
    pub(super) fn new(modes: &[&ClassStatistics], shrinkage: f64, n_rest: usize) -> Option<Self> {
        let d = modes.first()?.d_feature();
        let mut scatter = Mat::<f64>::zeros(d, d);
        for mode in modes {
            let rank = mode.scatter().rank();
            let rows = mode.scatter().rows();
            let rows = Mat::from_fn(rank, d, |r, i| f64::from(rows[r * d + i]));
            matmul(&mut scatter, Accum::Add, rows.transpose(), &rows, 1.0, Par::rayon(0));
        }
        let energy = (0..d).map(|i| scatter[(i, i)]).sum::<f64>();
        if energy <= 0.0 {
            return Some(Self { rows: Vec::new(), floor: 0.0 });
        }
        let floor = shrinkage * energy / d as f64;
        let covariance = Mat::from_fn(d, d, |i, j| {
            scatter[(i, j)] * (1.0 - shrinkage) + if i == j { floor } else { 0.0 }
        });
        let solved = covariance.llt(Side::Lower).ok()?.solve(&differences(modes));
        let seen = nystroem(&scatter, &solved)?;
        let own = Mat::from_fn(seen.len(), d, |k, i| seen[k][i]);
        let rest = &scatter - own.transpose() * &own;
        let eigen = rest.self_adjoint_eigen(Side::Lower).ok()?;
        let energies: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
        let places = (0..d).rev().take(n_rest).filter(|&k| energies[k] > 1e-9 * energy);
        let rest = places.map(|k| {
            let length = energies[k].sqrt();
            eigen.U().col(k).iter().map(|v| v * length).collect()
        });
        let all = seen.into_iter().chain(rest);
        // A single class has no other class in the task: its head shrinks the scatter completely
        // and tells nothing about its shape.
        let scale = if modes.len() == 1 { 1.0 } else { (1.0 - shrinkage).sqrt() };
        let rows = all.map(|row: Vec<f64>| row.iter().map(|v| v * scale).collect());
        Some(Self { rows: rows.collect(), floor })
    }
}

impl SharedScatter {
    /// Returns the rows, stretched by the square root of `noise`.
    pub(super) fn rows(&self, d: usize, noise: f64) -> ByteRows {
        let by = noise.sqrt();
        let rows: Vec<Vec<f64>> =
            self.rows.iter().map(|row| row.iter().map(|v| v * by).collect()).collect();
        ByteRows::new(d, rows.iter().map(Vec::as_slice))
    }
}

/// Returns the modes' means about their centre: `[d, modes]`.
fn differences(modes: &[&ClassStatistics]) -> Mat<f64> {
    let means: Vec<Vec<f32>> = modes.iter().map(|mode| mode.mean()).collect();
    let n = means.len() as f64;
    let centre = |i: usize| means.iter().map(|mean| f64::from(mean[i])).sum::<f64>() / n;
    let centre: Vec<f64> = (0..means[0].len()).map(centre).collect();
    Mat::from_fn(centre.len(), means.len(), |i, c| f64::from(means[c][i]) - centre[i])
}

/// Returns rows `V` with `V^T V = S W (W^T S W)^-1 W^T S`.
fn nystroem(scatter: &Mat<f64>, directions: &Mat<f64>) -> Option<Vec<Vec<f64>>> {
    let seen = scatter * directions;
    let eigen = (directions.transpose() * &seen).self_adjoint_eigen(Side::Lower).ok()?;
    let energies: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
    let total: f64 = energies.iter().sum();
    let turned = seen * eigen.U();
    // The differences sum to zero, so that one direction is only noise.
    let places = (0..energies.len()).rev().filter(|&k| energies[k] > 1e-9 * total);
    let row = |k: usize| turned.col(k).iter().map(|v| v / energies[k].sqrt()).collect();
    Some(places.map(row).collect())
}
