//! The one integration binary: what holds across crates.

mod architecture;
mod decoding;
mod formats;
mod head;
mod import;
mod learning;
mod parity;
mod preprocess;
