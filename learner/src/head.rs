//! From statistics to a head: nearest mean, LDA and own covariances as one family.
//!
//! Every class is a Gaussian. The covariance that they share is a mixture of the pooled covariance within the taught
//! classes, that within generic classes (the [`Prior`](crate::Prior) of the base) and a multiple of the identity; the more
//! was taught, the more its own covariance counts ([`gaussians`]). Regularised discriminant analysis goes back to Friedman
//! 1989. On top, each class may be wider along its own strongest directions ([`own_shape`]).
//!
//! Stand-ins of the shots, each left out ([`leave_one_out`]) and moved to where it would be on another occasion
//! ([`occasions`]), tell temperature, the threshold for unknown things and what accuracy to expect. Unknown things are told by scores and by
//! directions ([`resemblance`]).
//!
//! Ours: a class mean of `n` shots is itself off by `C / n`, which makes classes with few shots look far
//! away. The expected excess, `k / n` with `k = tr(A^-1 C)`, is taken off every distance.

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

/// Arithmetic mean; 0 of no numbers.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = values.fold((0usize, 0.0), |(n, sum), value| (n + 1, sum + value));
    sum / n.max(1) as f64
}
