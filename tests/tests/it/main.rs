//! The one integration binary: what holds across crates.

mod parity;
mod preprocess;
