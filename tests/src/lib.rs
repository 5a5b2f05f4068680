//! What the tests of several crates share: where data is, how tensors compare, shots from known Gaussians,
//! a network small enough to train.

mod gaussian;
mod golden;
mod networks;
mod toy;

pub use gaussian::GaussianClasses;
pub use golden::{Golden, data_dir, golden_dir, largest_difference, relative_difference};
pub use networks::{blank_adapter, embedded_network, random_network, wave_matrix, wave_pixels};
pub use toy::{toy_backbone, toy_tokens};
