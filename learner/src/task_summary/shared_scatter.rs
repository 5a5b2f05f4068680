//! Few rows that serve the head nearly as well as all scatters of a task.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::Solve;
use faer::{Accum, Mat, Par, Side};

use crate::ClassStatistics;

/// Rows that tell the task's classes apart, for so many directions: never more than the classes span.
const SHARE_TELLING: f64 = 0.75;

/// Rows `V` with `V^T V` near the sum `S` of the scatters of some modes, `n_rows` at most.
///
/// The head asks of a covariance `A = (1 - s) S / degrees + s t I` what it makes of the differences of means `D`:
/// `W = A^-1 D`. Ours: the first rows are Nyström's for `W`, `S W (W^T S W)^-1 W^T S`, which give the same `S W` and so, at this
/// shrinkage `s`, the very same `W`. What they leave of `S` maps `W` to nothing; its leading eigenvectors follow, stretched
/// so that all rows together have the energy of `S`: they say where else shots vary, and disturb nothing of it.
pub(super) fn shared_scatter(
    modes: &[&ClassStatistics],
    shrinkage: f64,
    n_rows: usize,
) -> Option<Vec<Vec<f64>>> {
    let d = modes.first()?.d_feature();
    let mut scatter = Mat::<f64>::zeros(d, d);
    for mode in modes {
        let (rank, rows) = (mode.scatter().rank(), mode.scatter().rows());
        let rows = Mat::from_fn(rank, d, |r, i| f64::from(rows[r * d + i]));
        matmul(&mut scatter, Accum::Add, rows.transpose(), &rows, 1.0, Par::rayon(0));
    }
    let energy = trace(&scatter);
    if energy <= 0.0 {
        return Some(Vec::new());
    }
    let telling = telling_directions(modes, &scatter, energy, shrinkage, n_rows)?;
    let mut rows = nystroem(&scatter, &telling)?;
    let own = Mat::from_fn(rows.len(), d, |k, i| rows[k][i]);
    let rest = &scatter - own.transpose() * &own;
    let left = trace(&rest).max(0.0);
    let eigen = rest.self_adjoint_eigen(Side::Lower).ok()?;
    let energies: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
    let places = (0..d).rev().take(n_rows.saturating_sub(rows.len()));
    let places: Vec<usize> = places.filter(|&k| energies[k] > 1e-9 * energy).collect();
    let taken: f64 = places.iter().map(|&k| energies[k]).sum();
    for k in places {
        let length = (energies[k] * left / taken).sqrt();
        rows.push(eigen.U().col(k).iter().map(|v| v * length).collect());
    }
    Some(rows)
}

fn trace(matrix: &Mat<f64>) -> f64 {
    (0..matrix.nrows()).map(|i| matrix[(i, i)]).sum()
}

/// The leading directions of `W`: `[d, k]`.
fn telling_directions(
    modes: &[&ClassStatistics],
    scatter: &Mat<f64>,
    energy: f64,
    shrinkage: f64,
    n_rows: usize,
) -> Option<Mat<f64>> {
    let d = scatter.nrows();
    let degrees: f64 = modes.iter().map(|mode| f64::from(mode.count()) - 1.0).sum();
    let degrees = degrees.max(1.0);
    let (scale, ridge) = ((1.0 - shrinkage) / degrees, shrinkage * energy / degrees / d as f64);
    let covariance =
        Mat::from_fn(d, d, |i, j| scatter[(i, j)] * scale + if i == j { ridge } else { 0.0 });
    let factor = covariance.llt(Side::Lower).ok()?;
    let means: Vec<Vec<f32>> = modes.iter().map(|mode| mode.mean()).collect();
    let centre = |i: usize| means.iter().map(|m| f64::from(m[i])).sum::<f64>() / means.len() as f64;
    let centre: Vec<f64> = (0..d).map(centre).collect();
    let differences = Mat::from_fn(d, means.len(), |i, c| f64::from(means[c][i]) - centre[i]);
    let solved = factor.solve(&differences);
    let gram = differences.transpose() * &solved;
    let eigen = gram.self_adjoint_eigen(Side::Lower).ok()?;
    let energies: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
    let most = ((n_rows as f64 * SHARE_TELLING) as usize).min(means.len().saturating_sub(1));
    let total: f64 = energies.iter().sum();
    let places: Vec<usize> =
        (0..means.len()).rev().filter(|&k| energies[k] > 1e-9 * total).take(most).collect();
    let turn = Mat::from_fn(means.len(), places.len(), |c, k| eigen.U()[(c, places[k])]);
    Some(solved * turn)
}

/// Rows `V` with `V^T V = S W (W^T S W)^-1 W^T S`.
fn nystroem(scatter: &Mat<f64>, directions: &Mat<f64>) -> Option<Vec<Vec<f64>>> {
    if directions.ncols() == 0 {
        return Some(Vec::new());
    }
    let seen = scatter * directions;
    let eigen = (directions.transpose() * &seen).self_adjoint_eigen(Side::Lower).ok()?;
    let energies: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
    let total: f64 = energies.iter().sum();
    let turned = seen * eigen.U();
    let places = (0..energies.len()).rev().filter(|&k| energies[k] > 1e-9 * total);
    let row = |k: usize| turned.col(k).iter().map(|v| v / energies[k].sqrt()).collect();
    Some(places.map(row).collect())
}
