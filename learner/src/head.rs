//! From statistics to a head: nearest mean, shrinkage LDA and own covariances as one family.
//!
//! Every class is a Gaussian. The covariance that they share is the pooled within-class covariance `C`,
//! shrunk towards the identity: `A(s) = (1 - s) C + s t I`, `t` the mean variance (Friedman 1989, Ledoit and
//! Wolf 2004). At `s = 1` this is the nearest mean, at `s -> 0` plain LDA. Which `s` serves best depends on
//! the amount of data, so it is chosen by leaving shots out ([`leave_one_out`]) with the log-loss as the
//! criterion; calibration, the estimate and the test for strangers come from the same. On top, each class may
//! be wider along its own strongest directions ([`own_shape`]).
//!
//! Ours: a class mean of `n` shots is itself off by `C / n`, which makes classes with few shots look far
//! away. The expected excess, `k / n` with `k = tr(A^-1 C)`, is taken off every distance.

mod estimate;
mod gaussians;
mod leave_one_out;
mod occasions;
mod own_shape;
mod select;

pub use estimate::{ClassEstimate, Confusion, Estimate};
pub use leave_one_out::LeftOut;
pub use select::{FittedHead, HeadChoice, HeadError, fit_head};
