//! The single integration test binary: tests across crates.

mod adaptation;
mod adapter_files;
mod architecture;
mod decoding;
mod devices;
mod difficulty;
mod f_lora;
mod formats;
mod head;
mod import;
mod learning;
mod occasions;
mod packed;
mod parity;
mod preprocess;
