//! Each class's own covariance: the shared one, wider along the class's own strongest directions.
//!
//! Class `c` with leading factor rows `V` (`K x d`) and `n` shots has the covariance
//! `A_c = A + V^T V / (nu + n - 1)`: the posterior mean of a covariance whose prior is `A` with `nu`
//! degrees of freedom, but for the share by which `A` itself would shrink. `nu -> infinity` is LDA; the
//! weight `(n - 1) / (nu + n - 1)` of the class's own scatter grows with its shots. Regularised
//! discriminant analysis goes back to Friedman 1989; FeCAM (arXiv:2309.14062) showed what per-class
//! covariances are worth in continual learning. Ours: few rows a class, one `nu` chosen by leaving out.

use std::ops::Range;
use std::sync::Arc;

use faer::{Mat, Side};

use super::gaussians::{Gaussians, Shrunk};
use crate::Class;

/// Most rows of a class: on CIFAR-100 at 200 shots 16 rows are as good as all 199.
const MAX_ROWS: usize = 16;

/// Most rows of all classes together: they bound what a prediction costs, whatever number of classes is
/// known. 4096 rows of 1536 numbers are 6 million products, under 1 % of the embedded base's network.
const ROW_BUDGET: usize = 4096;

/// Weights of a class's own scatter that are tried, at the mean number of shots; 0 is LDA.
pub(super) const OWN_WEIGHTS: [f64; 6] = [0.0, 0.02, 0.05, 0.1, 0.2, 0.4];

/// The leading factor rows of all classes.
pub(super) struct OwnRows {
    /// `[m, rows]`, class by class.
    rows: Mat<f64>,
    /// Columns of each class.
    pub(super) ranges: Vec<Range<usize>>,
}

/// The same at one shrinkage: directions in which `A_c` differs from `A`.
pub(super) struct OwnDirections {
    /// `[m, rows]`; `p = directions^T x` are the coordinates of `x` along them, of unit variance under `A`.
    pub(super) directions: Mat<f64>,
    /// Scatter of the class along each.
    pub(super) energies: Vec<f64>,
    /// Class means along all of them: `[rows, classes]`.
    pub(super) means: Mat<f64>,
}

/// The covariance of every class at one prior strength.
pub(super) struct OwnShape {
    /// For each direction, the share `kappa` that `A_c^-1` takes off the squared coordinate.
    pub(super) shares: Vec<f64>,
    /// `log |A_c| - log |A|` of each class.
    pub(super) log_volumes: Vec<f64>,
    /// `1 / (nu + n - 1)` of each class; 0 in LDA.
    pub(super) gains: Vec<f64>,
}

/// The rows that each class may have.
fn rows_a_class(n_classes: usize) -> usize {
    (ROW_BUDGET / n_classes.max(1)).clamp(1, MAX_ROWS)
}

impl OwnRows {
    pub(super) fn empty() -> Self {
        Self { rows: Mat::new(), ranges: Vec::new() }
    }

    /// Takes the leading rows of each class; `in_span` maps `[d, n]` to `[m, n]`.
    pub(super) fn new(classes: &[Arc<Class>], in_span: impl Fn(Mat<f64>) -> Mat<f64>) -> Self {
        let most = rows_a_class(classes.len());
        let mut ranges = Vec::with_capacity(classes.len());
        let mut columns: Vec<f64> = Vec::new();
        let mut n_rows = 0;
        for class in classes {
            let scatter = class.statistics.scatter();
            let taken = scatter.rank().min(most);
            columns.extend(scatter.leading_rows(taken).iter().map(|&v| f64::from(v)));
            ranges.push(n_rows..n_rows + taken);
            n_rows += taken;
        }
        let d = classes.first().map_or(0, |c| c.statistics.d_feature());
        let rows = in_span(Mat::from_fn(d, n_rows, |i, r| columns[r * d + i]));
        Self { rows, ranges }
    }

    /// Coordinates of a deviation along the rows of its class: `V_k . u / |V_k|^2`.
    fn coordinates(&self, class: usize, deviations: &Mat<f64>, p: usize) -> Vec<f64> {
        let along = |r: usize| {
            let row = self.rows.col(r);
            let squared = row.squared_norm_l2();
            let product: f64 =
                row.iter().zip(deviations.col(p).iter()).map(|(a, b)| a * b).sum();
            if squared > 0.0 { product / squared } else { 0.0 }
        };
        self.ranges[class].clone().map(along).collect()
    }
}

impl OwnDirections {
    /// Turns the rows of each class so that they are orthonormal under `A`.
    pub(super) fn new(gaussians: &Gaussians, shrunk: &Shrunk<'_>) -> Self {
        let own = &gaussians.own_rows;
        let solved = shrunk.solve(&own.rows);
        let (m, n_rows) = (own.rows.nrows(), own.rows.ncols());
        let mut directions = Mat::zeros(m, n_rows);
        let mut energies = vec![0.0; n_rows];
        for range in &own.ranges {
            if range.is_empty() {
                continue;
            }
            let of_class = own.rows.subcols(range.start, range.len());
            let solved = solved.subcols(range.start, range.len());
            let gram = of_class.transpose() * solved;
            // Only numbers that are not finite keep the iteration from ending; such rows say nothing.
            let Ok(eigen) = gram.self_adjoint_eigen(Side::Lower) else { continue };
            let turned = solved * eigen.U();
            for k in 0..range.len() {
                let energy = eigen.S().column_vector()[k].max(0.0);
                energies[range.start + k] = energy;
                if energy > 0.0 {
                    for i in 0..m {
                        directions[(i, range.start + k)] = turned[(i, k)] / energy.sqrt();
                    }
                }
            }
        }
        let means = directions.transpose() * &gaussians.means;
        Self { directions, energies, means }
    }

    /// Coordinates along the class's directions of what its rows hold of a deviation.
    pub(super) fn row_part(
        &self,
        own: &OwnRows,
        class: usize,
        deviations: &Mat<f64>,
        p: usize,
    ) -> Vec<f64> {
        let range = own.ranges[class].clone();
        let coordinates = own.coordinates(class, deviations, p);
        // directions^T (rows t): the rows are few, so this costs less than projecting all deviations.
        let held: Vec<f64> = (0..own.rows.nrows())
            .map(|i| range.clone().zip(&coordinates).map(|(r, t)| own.rows[(i, r)] * t).sum())
            .collect();
        let along = |r: usize| held.iter().enumerate().map(|(i, v)| self.directions[(i, r)] * v).sum();
        range.map(along).collect()
    }

    /// The classes' covariances when the own scatter weighs `weight` at the mean number of shots.
    pub(super) fn shape(&self, gaussians: &Gaussians, weight: f64) -> OwnShape {
        let counts = &gaussians.counts;
        let mean_degrees = gaussians.degrees / counts.len().max(1) as f64;
        let prior = mean_degrees * (1.0 - weight) / weight;
        let gain = |n: &f64| if weight > 0.0 { 1.0 / (prior + n - 1.0) } else { 0.0 };
        let gains: Vec<f64> = counts.iter().map(gain).collect();
        let mut shares = vec![0.0; self.energies.len()];
        let mut log_volumes = vec![0.0; counts.len()];
        for (class, range) in gaussians.own_rows.ranges.iter().enumerate() {
            for r in range.clone() {
                let wider = self.energies[r] * gains[class];
                shares[r] = wider / (1.0 + wider);
                log_volumes[class] += wider.ln_1p();
            }
        }
        OwnShape { shares, log_volumes, gains }
    }
}
