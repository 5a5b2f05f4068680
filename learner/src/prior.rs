//! The prior: feature statistics of generic pictures, known before any class was taught.

use faer::{Mat, Side};
use fmlora_models::HalfTensorError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Matrix;
use crate::byte_rows::ByteRows;

/// Covariance within a class and means of classes, estimated on generic pictures. Part of a base.
///
/// Ours. The covariance replaces that of the taught classes while they have few shots. The means
/// represent untaught things: they are the background of the test for unknown pictures.
///
/// # Shapes
///
/// - `directions`: `[k, d]`, f16 in files
/// - `means`: `[g, d]`, eight bits a number in files
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prior {
    /// Leading eigenvectors of the covariance, each as long as the standard deviation along it, the
    /// longest first.
    directions: Matrix,
    /// Mean variance in the other directions.
    floor: f32,
    /// Means of the generic classes.
    means: ByteRows,
}

/// Number of directions in a base: with 16 or 64 the head is as good, on CIFAR-100, PACS and
/// grocery-160.
const DIRECTIONS: usize = 32;

/// Reason why features give no prior, or why a prior does not fit a base.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PriorError {
    /// Too few classes to separate the spread within classes from the differences between them.
    #[error("{classes} classes of two or more pictures, expected at least two")]
    TooFewClasses {
        /// Classes found.
        classes: usize,
    },
    /// Fewer pictures than the estimated directions need.
    #[error(
        "{pictures} pictures in {classes} classes of two or more, expected at least {expected}"
    )]
    TooFewPictures {
        /// Pictures found.
        pictures: usize,
        /// Classes found.
        classes: usize,
        /// Pictures needed for this number of classes.
        expected: usize,
    },
    /// Numbers that are not finite, or out of the range of f16.
    #[error(transparent)]
    Number(#[from] HalfTensorError),
    /// A part of another size.
    #[error("{part} of the prior do not fit features of {expected} numbers")]
    Shape {
        /// The part.
        part: &'static str,
        /// Numbers of a feature.
        expected: usize,
    },
}

impl Prior {
    /// Estimates the prior from the features of each generic class.
    ///
    /// # Shapes
    ///
    /// - `classes`: pictures of a class, each of `d` numbers
    ///
    /// # Errors
    ///
    /// [`PriorError`].
    pub fn estimate(classes: &[Vec<Vec<f32>>]) -> Result<Self, PriorError> {
        let usable: Vec<&Vec<Vec<f32>>> = classes.iter().filter(|c| c.len() > 1).collect();
        if usable.len() < 2 {
            return Err(PriorError::TooFewClasses { classes: usable.len() });
        }
        let d = usable[0][0].len();
        let k = DIRECTIONS.min(d / 2);
        // Each direction takes a degree of freedom, and one must be left for all others.
        let classes = usable.len();
        let expected = usable.len() + k + 1;
        let pictures = usable.iter().map(|class| class.len()).sum();
        if pictures < expected {
            return Err(PriorError::TooFewPictures { pictures, classes, expected });
        }
        let means: Vec<Vec<f64>> = usable.iter().map(|class| mean_of(class)).collect();
        let mut scatter = Mat::<f64>::zeros(d, d);
        for (class, mean) in usable.iter().zip(&means) {
            let rows = Mat::from_fn(class.len(), d, |p, i| f64::from(class[p][i]) - mean[i]);
            scatter += rows.transpose() * &rows;
        }
        let degrees = (pictures - classes) as f64;
        let nan = HalfTensorError::OutOfRange { index: 0, value: f32::NAN };
        let eigen = scatter.self_adjoint_eigen(Side::Lower).map_err(|_| nan)?;
        let variance = |k: usize| eigen.S().column_vector()[k].max(0.0) / degrees;
        // Eigenvalues come in ascending order.
        let direction = |row: usize, i: usize| {
            let column = d - 1 - row;
            (eigen.U()[(i, column)] * variance(column).sqrt()) as f32
        };
        let floor = (0..d - k).map(variance).sum::<f64>() / (d - k) as f64;
        Ok(Self {
            directions: Matrix::from_fn(k, d, direction).rounded()?,
            floor: floor as f32,
            means: ByteRows::new(d, means.iter().map(Vec::as_slice)),
        })
    }

    /// Numbers of a feature.
    pub fn d_feature(&self) -> usize {
        self.means.n_columns()
    }

    /// Leading directions of the covariance within a class, each as long as the standard deviation
    /// along it: `[k, d]`.
    pub fn directions(&self) -> &Matrix {
        &self.directions
    }

    /// Variance in every other direction.
    pub fn floor(&self) -> f64 {
        f64::from(self.floor)
    }

    /// Means of generic classes: `[g, d]`.
    pub fn means(&self) -> &ByteRows {
        &self.means
    }

    /// Approximate size in a file, in bytes.
    pub fn n_bytes(&self) -> usize {
        2 * self.directions.values().len() + self.means.n_bytes()
    }

    /// Returns the prior in the features after a drift. `point` is the drift map from a feature
    /// before to the feature after.
    ///
    /// # Errors
    ///
    /// [`PriorError::Number`] for numbers that cannot be stored.
    pub fn moved(&self, point: impl Fn(&[f32]) -> Vec<f32>) -> Result<Self, PriorError> {
        let d = self.d_feature();
        let zero = point(&vec![0.0; d]);
        let moved = |mean: Vec<f64>| -> Vec<f64> {
            let mean: Vec<f32> = mean.iter().map(|&v| v as f32).collect();
            point(&mean).into_iter().map(f64::from).collect()
        };
        let means: Vec<Vec<f64>> = self.means.rows().map(moved).collect();
        // A direction moves as the difference of two points.
        let direction = |row: &[f32]| -> Vec<f32> {
            point(row).iter().zip(&zero).map(|(moved, zero)| moved - zero).collect()
        };
        let rows = self.directions.values().chunks_exact(d.max(1));
        let directions: Vec<f32> = rows.flat_map(direction).collect();
        let n_directions = self.directions.shape()[0];
        let directions = Matrix::from_fn(n_directions, d, |i, j| directions[i * d + j]);
        Ok(Self {
            directions: directions.rounded()?,
            floor: self.floor,
            means: ByteRows::new(d, means.iter().map(Vec::as_slice)),
        })
    }

    /// Checks a prior that was read from outside this program.
    ///
    /// # Errors
    ///
    /// [`PriorError::Shape`].
    pub fn check(&self, d_feature: usize) -> Result<(), PriorError> {
        let [n, d] = self.directions.shape();
        let finite = self.directions.values().iter().all(|v| v.is_finite());
        for (part, fits) in [
            ("the directions", n > 0 && d == d_feature && finite),
            ("the variances", self.floor.is_finite() && self.floor > 0.0),
            ("the means", !self.means.is_empty() && self.means.fits(None, d_feature)),
        ] {
            if !fits {
                return Err(PriorError::Shape { part, expected: d_feature });
            }
        }
        Ok(())
    }
}

fn mean_of(class: &[Vec<f32>]) -> Vec<f64> {
    let mut mean = vec![0.0; class[0].len()];
    let share = 1.0 / class.len() as f64;
    for picture in class {
        mean.iter_mut().zip(picture).for_each(|(m, &v)| *m += share * f64::from(v));
    }
    mean
}
