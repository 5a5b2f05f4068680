//! Shared fixtures of the tests of several crates: data folders, comparison of tensors, shots from
//! known Gaussians, and a network small enough to train.

pub mod devices;
mod gaussian;
mod golden;
mod networks;
mod toy;

pub use gaussian::GaussianClasses;
pub use golden::{Golden, data_dir, golden_dir, largest_difference, relative_difference};
pub use networks::{
    blank_adapter, embedded_network, embedded_network_on, random_network, wave_matrix, wave_pixels,
};
pub use toy::{toy_backbone, toy_backbone_on, toy_tokens};
