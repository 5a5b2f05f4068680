//! Fits a head to the statistics: nearest mean, LDA and own covariances as one family.
//!
//! Every class is a Gaussian. The covariance that they share is a mixture of the pooled covariance
//! within the taught classes, the covariance within generic classes (the [`Prior`](crate::Prior) of
//! the base) and a multiple of the identity. The weight of the taught covariance grows with the
//! number of shots ([`gaussians`]). Regularised discriminant analysis goes back to Friedman 1989.
//! On top, each class may be wider along its own strongest directions ([`own_shape`]).
//!
//! Stand-ins for the shots are each left out ([`leave_one_out`]) and moved to where they would be
//! on another occasion ([`occasions`]). They give the temperature, the threshold of the test for
//! unknown pictures, and the expected accuracy. The test for unknown pictures uses scores and
//! directions ([`resemblance`]).
//!
//! Ours: a class mean of `n` shots has an error of its own, `C / n`, so that classes with few shots
//! look further away than they are. The expected excess, `k / n` with `k = tr(A^-1 C)`, is
//! subtracted from every distance.

mod estimate;
mod gaussians;
mod leave_one_out;
mod occasions;
mod own_shape;
mod resemblance;
mod select;

pub use estimate::{ClassEstimate, Confusion, Estimate};
pub use leave_one_out::LeftOut;
pub use select::{FittedHead, HeadChoice, HeadError, fit_head};

/// Arithmetic mean; 0 for no numbers.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = values.fold((0usize, 0.0), |(n, sum), value| (n + 1, sum + value));
    sum / n.max(1) as f64
}
