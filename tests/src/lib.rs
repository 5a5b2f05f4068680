//! What the tests of several crates share: where data is, how tensors compare, shots from known Gaussians.

mod gaussian;
mod golden;

pub use gaussian::GaussianClasses;
pub use golden::{Golden, data_dir, golden_dir, largest_difference, relative_difference};
