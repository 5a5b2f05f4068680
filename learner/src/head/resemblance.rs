//! Resemblance of a picture to taught and generic classes: the cosine between the two, seen from
//! the middle of the generic classes, under the covariance of the head.
//!
//! Ours. The distance of a picture from every class differs between occasions more than its
//! direction does. The picture's own vector is given the length of a typical picture of a taught
//! class, which makes the cosine linear in the picture.

use faer::Mat;

use super::gaussians::{Factorised, dot};
use crate::predictor::{SCALE, ToResemblance};

/// Vectors from the middle of the generic classes to each mode and each generic class.
pub(super) struct Directions {
    /// `A^-1` times the vectors, the modes first, in the span: `[m, modes + g]`.
    pub(super) solved: Mat<f64>,
    /// `v . A^-1 v` of each vector.
    pub(super) lengths: Vec<f64>,
    /// `middle . A^-1 v` of the middle about the centre of all modes.
    pub(super) middle: Vec<f64>,
    /// `mean . A^-1 v` of the mean of each mode about the centre: `[modes, modes + g]`.
    pub(super) means: Mat<f64>,
    /// Length of a typical picture of a taught class.
    typical: f64,
}

impl Directions {
    /// Computes the vectors. `noise` is the squared distance of a shot from the true mean of its
    /// class.
    pub(super) fn new(covariance: &Factorised<'_>, noise: f64) -> Self {
        let gaussians = covariance.gaussians;
        let means = &gaussians.means;
        let generic = gaussians.generic_means();
        let m = means.nrows();
        let n_modes = means.ncols();
        let middle = mean_column(generic);
        let point = |i: usize, j: usize| {
            if j < n_modes { means[(i, j)] } else { generic[(i, j - n_modes)] }
        };
        let n = n_modes + generic.ncols();
        let vectors = Mat::from_fn(m, n, |i, j| point(i, j) - middle[(i, 0)]);
        let solved = covariance.solve(&vectors);
        // Modes have no part outside the span; generic classes and their middle do.
        let outside = gaussians.generic_outside();
        let middle_outside = mean_column(outside);
        let beyond = |j: usize| -> (f64, f64) {
            if outside.nrows() == 0 {
                return (0.0, 0.0);
            }
            let of_vector = |i: usize| {
                let point = if j < n_modes { 0.0 } else { outside[(i, j - n_modes)] };
                point - middle_outside[(i, 0)]
            };
            let sum = |other: &dyn Fn(usize) -> f64| {
                (0..outside.nrows()).map(|i| of_vector(i) * other(i)).sum::<f64>()
            };
            let with_middle = sum(&|i| middle_outside[(i, 0)]);
            (sum(&of_vector) / covariance.ridge(), with_middle / covariance.ridge())
        };
        let beyond: Vec<(f64, f64)> = (0..n).map(beyond).collect();
        let length = |j: usize| dot(&vectors, j, &solved, j) + beyond[j].0;
        let lengths: Vec<f64> = (0..n).map(length).collect();
        let of_mode = |j: usize| lengths[j] - noise / gaussians.counts[j];
        let typical = (0..n_modes).map(of_mode).sum::<f64>() / n_modes as f64 + noise;
        Self {
            middle: (0..n).map(|j| dot(&middle, 0, &solved, j) + beyond[j].1).collect(),
            means: means.transpose() * &solved,
            typical: typical.max(f64::from(f32::MIN_POSITIVE)).sqrt(),
            lengths,
            solved,
        }
    }

    /// Returns the resemblance to a vector, from the vector's length and its product with the
    /// picture.
    pub(super) fn resemblance(&self, product: f64, length: f64) -> f64 {
        SCALE * product / (self.typical * length.max(f64::from(f32::MIN_POSITIVE)).sqrt())
    }

    /// Returns the maps from scores to resemblances, of the modes and of the generic classes.
    /// `biases` are those of the scores of the modes; scores of generic classes have none.
    pub(super) fn to_resemblance(
        &self,
        biases: &[f32],
    ) -> (Vec<ToResemblance>, Vec<ToResemblance>) {
        let map = |j: usize| {
            let bias = biases.get(j).map_or(0.0, |&bias| f64::from(bias));
            ToResemblance {
                scale: self.resemblance(1.0, self.lengths[j]) as f32,
                offset: self.resemblance(bias + self.middle[j], self.lengths[j]) as f32,
            }
        };
        let n = biases.len();
        ((0..n).map(map).collect(), (n..self.lengths.len()).map(map).collect())
    }
}

/// Returns the mean of all columns: `[n, 1]`; zeros without columns.
fn mean_column(columns: &Mat<f64>) -> Mat<f64> {
    let share = 1.0 / columns.ncols().max(1) as f64;
    let sum = |i: usize| (0..columns.ncols()).map(|j| columns[(i, j)]).sum::<f64>();
    Mat::from_fn(columns.nrows(), 1, |i, _| sum(i) * share)
}
