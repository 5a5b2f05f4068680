//! What the tests of several crates share: where data is, how tensors compare.

mod golden;

pub use golden::{Golden, data_dir, golden_dir, largest_difference, relative_difference};
