//! Own covariance of each mode: the shared one, wider along the mode's own strongest directions.
//!
//! Mode `c` with leading factor rows `V` (`K x d`) and `n` shots has the covariance
//! `A_c = A + V^T V / (nu + n)`. `nu` is the weight of `A`, as a number of shots: the more shots a
//! mode has, the more its own shape counts. Regularised discriminant analysis goes back to Friedman
//! 1989; FeCAM (arXiv:2309.14062) showed the value of per-class covariances in continual learning.
//! Ours: a few rows a class are enough (docs/method.md).

use std::ops::Range;

use faer::{Mat, Side};

use super::gaussians::{Factorised, Gaussians};
use crate::{ClassStatistics, OwnTerms};

/// Largest number of rows of a mode: on CIFAR-100 at 200 shots 16 rows are as good as all 199.
const MAX_ROWS: usize = 16;

/// Largest number of rows of all modes together. It bounds the cost of a prediction for any number
/// of classes: 4096 rows of 1536 numbers are 6 million products, under 1 % of the embedded base's
/// network.
const ROW_BUDGET: usize = 4096;

/// `nu`, chosen on PACS (28 classes of 5 to 60 shots): smaller values cost accuracy at 20 shots,
/// larger ones at 60.
const PRIOR_SHOTS: f64 = 500.0;

/// Leading factor rows of all modes.
pub(super) struct OwnRows {
    /// `[m, rows]`, mode by mode.
    rows: Mat<f64>,
    /// Columns of each mode.
    ranges: Vec<Range<usize>>,
}

/// Returns the number of rows allowed for each mode.
fn rows_a_mode(n_modes: usize) -> usize {
    (ROW_BUDGET / n_modes.max(1)).clamp(1, MAX_ROWS)
}

impl OwnRows {
    pub(super) fn empty() -> Self {
        Self { rows: Mat::new(), ranges: Vec::new() }
    }

    /// Takes the leading rows of each mode; `in_span` maps `[d, n]` to `[m, n]`.
    pub(super) fn new(modes: &[&ClassStatistics], in_span: impl Fn(Mat<f64>) -> Mat<f64>) -> Self {
        let most = rows_a_mode(modes.len());
        let mut ranges = Vec::with_capacity(modes.len());
        let mut columns: Vec<f64> = Vec::new();
        let mut n_rows = 0;
        for mode in modes {
            let scatter = mode.scatter();
            let taken = scatter.rank().min(most);
            columns.extend(scatter.leading_rows(taken).iter().map(|&v| f64::from(v)));
            ranges.push(n_rows..n_rows + taken);
            n_rows += taken;
        }
        let d = modes.first().map_or(0, |mode| mode.d_feature());
        let rows = in_span(Mat::from_fn(d, n_rows, |i, r| columns[r * d + i]));
        Self { rows, ranges }
    }
}

/// Terms that the modes' own covariances add to their scores. By Woodbury,
/// `A_c^-1 = A^-1 - sum_k kappa_k (A^-1 v_k)(A^-1 v_k)^T` with the rows turned to be orthogonal
/// under `A^-1`: only `K x K` matrices are decomposed. `None` for numbers that are not finite.
pub(super) fn own_terms(gaussians: &Gaussians, covariance: &Factorised<'_>) -> Option<OwnTerms> {
    let own = &gaussians.own_rows;
    let solved = covariance.solve(&own.rows);
    let mut terms = OwnTerms::default();
    for (mode, range) in own.ranges.iter().enumerate() {
        if range.is_empty() {
            terms.counts.push(0);
            terms.biases.push(0.0);
            continue;
        }
        let of_mode = own.rows.subcols(range.start, range.len());
        let solved = solved.subcols(range.start, range.len());
        let gram = of_mode.transpose() * solved;
        let eigen = gram.self_adjoint_eigen(Side::Lower).ok()?;
        let turned = solved * eigen.U();
        let offsets = turned.transpose() * gaussians.means.subcols(mode, 1);
        let turned = gaussians.out_of_span(&turned);
        let mut log_volume = 0.0;
        for k in 0..range.len() {
            let energy = eigen.S().column_vector()[k].max(0.0);
            let wider = energy / (PRIOR_SHOTS + gaussians.counts[mode]);
            // Square root of kappa over the squared length of the direction under A.
            let scale = if energy > 0.0 { (wider / (1.0 + wider) / energy).sqrt() } else { 0.0 };
            terms.rows.extend(turned.col(k).iter().map(|v| (v * scale) as f32));
            terms.offsets.push((offsets[(k, 0)] * scale) as f32);
            log_volume += wider.ln_1p();
        }
        terms.counts.push(range.len() as u32);
        terms.biases.push((-log_volume / 2.0) as f32);
    }
    Some(terms)
}
