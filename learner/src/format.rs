//! Binary file formats of this project: a fixed header, then postcard.
//!
//! docs/formats.md describes every byte. A decoder checks every length before it uses it. Its
//! errors name the expected and the found value.

mod adapter;
mod base;
mod header;
mod state;

pub use adapter::{
    AdapterFacts, AdapterFile, AdapterFileError, AdapterName, Applied, ApplyError, DaemonVersion,
    FactsError, Ground, MAX_ADAPTER_BYTES, MeasuredAccuracy, decode_adapter, encode_adapter,
};
pub use base::{Base, BaseError, Provenance, decode_base, encode_base};
pub use header::{FileKind, HEADER_BYTES, HeaderError, Opened, identify, open, seal};
pub use state::{StateError, StateFile, decode_state, encode_state};
