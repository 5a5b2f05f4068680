//! Expands a summary's shared scatter into the scatters of its classes on a device.

use faer::{Mat, Side};

use super::TaskSummary;

/// Rows of a class for the energy outside the shape, different ones for each class.
const N_FILL: usize = 8;

/// Largest number of rows of the shape for one class: more than a task of a dozen classes has.
const MAX_ROWS: usize = 48;

/// Share of a row's length below which the part outside the basis is rounding noise.
const SHORT: f64 = 1e-4;

/// The shape of the scatter that all classes share.
pub(super) struct Shape {
    /// Orthogonal rows. Their outer products sum to `V^T V` plus the floor in all directions of
    /// `basis`.
    rows: Vec<Vec<f64>>,
    /// Orthonormal rows: the span of `V` and of the differences of means, the only directions in
    /// which the task's classes differ.
    basis: Vec<Vec<f64>>,
    /// Energy of all classes.
    total: f64,
    /// Index of the next row to assign.
    turn: usize,
}

impl Shape {
    /// Computes the shape from a summary. `None` for numbers that are not finite.
    pub(super) fn of(summary: &TaskSummary) -> Option<Self> {
        let d = summary.d_feature();
        let scatter: Vec<Vec<f64>> = summary.scatter.rows().collect();
        let total = summary.classes.iter().map(|class| f64::from(class.energy)).sum();
        let basis = orthonormal(scatter.iter().cloned().chain(differences(summary)));
        // This also covers the case that all rows are zero and there is one mean.
        if scatter.is_empty() || basis.is_empty() {
            return Some(Self { rows: Vec::new(), basis: Vec::new(), total, turn: 0 });
        }
        // In coordinates of the basis the matrices are small.
        let q = Mat::from_fn(basis.len(), d, |k, i| basis[k][i]);
        let v = Mat::from_fn(scatter.len(), d, |k, i| scatter[k][i]);
        let inside = v * q.transpose();
        let gram = inside.transpose() * &inside;
        let floor = f64::from(summary.floor);
        let gram = Mat::from_fn(basis.len(), basis.len(), |i, j| {
            gram[(i, j)] + if i == j { floor } else { 0.0 }
        });
        let eigen = gram.self_adjoint_eigen(Side::Lower).ok()?;
        let turned = eigen.U().transpose() * &q;
        let row = |k: usize| -> Vec<f64> {
            let length = eigen.S().column_vector()[k].max(0.0).sqrt();
            turned.row(k).iter().map(|v| v * length).collect()
        };
        let rows = (0..basis.len()).rev().map(row).collect();
        Some(Self { rows, basis, total, turn: 0 })
    }

    /// Returns the rows of the next class: its share of the shape, and its remaining energy if it
    /// has enough shots.
    ///
    /// A class gets at most half as many rows as it has shots, from which the head detects an
    /// outline, and at most [`MAX_ROWS`]. With fewer rows than the shape has, each class gets
    /// others, and longer ones.
    pub(super) fn next(&mut self, count: u32, energy: f64) -> Vec<Vec<f64>> {
        let n = self.rows.len();
        let most = if count < 3 { 0 } else { count as usize / 2 };
        if n == 0 || most == 0 || self.total <= 0.0 {
            return Vec::new();
        }
        let taken = n.min(most).min(MAX_ROWS);
        let share = energy / self.total * n as f64 / taken.max(1) as f64;
        let scaled = |k: usize| -> Vec<f64> {
            self.rows[(self.turn + k) % n].iter().map(|v| v * share.sqrt()).collect()
        };
        let mut rows: Vec<Vec<f64>> = (0..taken).map(scaled).collect();
        let used: f64 = rows.iter().flatten().map(|v| v * v).sum();
        let n_fill = N_FILL.min(most - taken);
        let mut noise = Noise(self.turn as u64);
        for _ in 0..n_fill {
            let mut row: Vec<f64> = (0..rows[0].len()).map(|_| noise.next()).collect();
            take_away(&mut row, &self.basis);
            let length = ((energy - used).max(0.0) / n_fill as f64).sqrt() / norm(&row);
            rows.push(row.iter().map(|v| v * length).collect());
        }
        self.turn += taken;
        rows
    }
}

/// Iterates over the means about their centre.
fn differences(summary: &TaskSummary) -> impl Iterator<Item = Vec<f64>> {
    let means = summary.classes.iter().map(|class| class.mean.values());
    let n = summary.classes.len() as f64;
    let mut centre = vec![0.0; summary.d_feature()];
    means.clone().for_each(|mean| {
        centre.iter_mut().zip(mean).for_each(|(c, &m)| *c += f64::from(m) / n);
    });
    means.map(move |mean| mean.iter().zip(&centre).map(|(&m, c)| f64::from(m) - c).collect())
}

/// Orthonormalises rows by Gram-Schmidt, each row twice. Drops rows in the span of those before.
fn orthonormal(rows: impl Iterator<Item = Vec<f64>>) -> Vec<Vec<f64>> {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for mut row in rows {
        let length = norm(&row);
        take_away(&mut row, &basis);
        take_away(&mut row, &basis);
        let left = norm(&row);
        if left > SHORT * length {
            basis.push(row.iter().map(|v| v / left).collect());
        }
    }
    basis
}

/// Subtracts the part of a row that is in the span of orthonormal rows.
fn take_away(row: &mut [f64], basis: &[Vec<f64>]) {
    for direction in basis {
        let along: f64 = row.iter().zip(direction).map(|(a, b)| a * b).sum();
        row.iter_mut().zip(direction).for_each(|(v, b)| *v -= along * b);
    }
}

fn norm(row: &[f64]) -> f64 {
    row.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Pseudorandom signs, plus or minus one, from the top bit of a congruential generator: the same on
/// every device.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if self.0 >> 63 == 0 { 1.0 } else { -1.0 }
    }
}
