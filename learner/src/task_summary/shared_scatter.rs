//! Few rows that serve the head nearly as well as all scatters of a task.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::Solve;
use faer::{Accum, Mat, Par, Side};

use crate::ClassStatistics;
use crate::byte_rows::ByteRows;

/// What a task's classes share.
pub(super) struct SharedScatter {
    /// Rows `V`.
    pub(super) rows: Vec<Vec<f64>>,
    /// What is added to `V^T V` in every direction that matters.
    pub(super) floor: f64,
}

impl SharedScatter {
    /// Takes what a head of `shrinkage` `s` asks out of the sum `S` of the scatters of some modes.
    ///
    /// That head has `A = (1 - s) S / degrees + s t I` and asks it what it makes of the differences of means `D`: `W = A^-1 D`. Ours:
    /// Nyström's rows for `W`, `V^T V = (1 - s) S W (W^T S W)^-1 W^T S`, and the floor `degrees s t` map `W` to `degrees D` as
    /// `degrees A` does: a head that shrinks them little more finds `W` itself. The `n_rest` rows that follow are leading
    /// eigenvectors of what Nyström leaves of `S`; they map `W` to nothing and say where else shots vary.
    pub(super) fn new(modes: &[&ClassStatistics], shrinkage: f64, n_rest: usize) -> Option<Self> {
        let d = modes.first()?.d_feature();
        let mut scatter = Mat::<f64>::zeros(d, d);
        for mode in modes {
            let (rank, rows) = (mode.scatter().rank(), mode.scatter().rows());
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
        // One class alone is told from nothing in the task: the head that shrinks all away says nothing of its shape.
        let scale = if modes.len() == 1 { 1.0 } else { (1.0 - shrinkage).sqrt() };
        let rows = all.map(|row: Vec<f64>| row.iter().map(|v| v * scale).collect());
        Some(Self { rows: rows.collect(), floor })
    }
}

impl SharedScatter {
    /// The rows, stretched by the square root of `noise`.
    pub(super) fn rows(&self, d: usize, noise: f64) -> ByteRows {
        let by = noise.sqrt();
        let rows: Vec<Vec<f64>> =
            self.rows.iter().map(|row| row.iter().map(|v| v * by).collect()).collect();
        ByteRows::new(d, rows.iter().map(Vec::as_slice))
    }
}

/// The modes' means about their centre: `[d, modes]`.
fn differences(modes: &[&ClassStatistics]) -> Mat<f64> {
    let means: Vec<Vec<f32>> = modes.iter().map(|mode| mode.mean()).collect();
    let n = means.len() as f64;
    let centre = |i: usize| means.iter().map(|mean| f64::from(mean[i])).sum::<f64>() / n;
    let centre: Vec<f64> = (0..means[0].len()).map(centre).collect();
    Mat::from_fn(centre.len(), means.len(), |i, c| f64::from(means[c][i]) - centre[i])
}

/// Rows `V` with `V^T V = S W (W^T S W)^-1 W^T S`.
fn nystroem(scatter: &Mat<f64>, directions: &Mat<f64>) -> Option<Vec<Vec<f64>>> {
    let seen = scatter * directions;
    let eigen = (directions.transpose() * &seen).self_adjoint_eigen(Side::Lower).ok()?;
    let energies: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
    let total: f64 = energies.iter().sum();
    let turned = seen * eigen.U();
    // The differences sum to zero: one direction too many is noise.
    let places = (0..energies.len()).rev().filter(|&k| energies[k] > 1e-9 * total);
    let row = |k: usize| turned.col(k).iter().map(|v| v / energies[k].sqrt()).collect();
    Some(places.map(row).collect())
}
