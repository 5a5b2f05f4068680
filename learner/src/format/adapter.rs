//! `*.fmla`, the adapter file: a task trained elsewhere, for devices with the same base and the
//! same features.

mod apply;
mod check;
mod facts;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::header::{FileKind, HeaderError, decode, open, seal};
use crate::{AdapterTask, Complexity, KnownAnswer, LowRankDrift, TaskSummary};

pub use apply::{Applied, ApplyError, Ground};
pub use facts::{AdapterFacts, AdapterName, DaemonVersion, FactsError};

/// Content of an adapter file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterFile {
    /// Base, features, name and release of the adapter.
    pub facts: AdapterFacts,
    /// Change of the network. `None` with rank 0: the features stay the same.
    pub task: Option<AdapterTask>,
    /// Drift map: moves the statistics of the classes that the device knows. `None` with rank 0.
    /// Also `None` if no map was fitted; the device's own classes would then be lost.
    pub drift: Option<LowRankDrift>,
    /// The classes of the task, in the features after it.
    pub summary: TaskSummary,
    /// Difficulty and novelty of the task.
    pub complexity: Complexity,
    /// Rank `r_t` that was trained, also if training did not help and `task` is `None`.
    pub rank: u32,
    /// Accuracy on test pictures. `None` if there were none.
    pub accuracy: Option<MeasuredAccuracy>,
    /// Feature of a known picture after the task, to check the network.
    pub known_answer: KnownAnswer,
}

/// Accuracy on test pictures among all classes that the workstation knew, as shares in [0, 1], with
/// heads fitted from the file as devices read it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeasuredAccuracy {
    /// Accuracy with the adapter.
    pub with: f32,
    /// Accuracy with the same classes taught to the unchanged network.
    pub without: f32,
    /// Number of test pictures.
    pub n_pictures: u32,
}

/// Reason why a file is not a usable adapter.
#[derive(Debug, Error)]
pub enum AdapterFileError {
    /// Larger than [`MAX_ADAPTER_BYTES`].
    #[error("{found} bytes, expected at most {MAX_ADAPTER_BYTES}")]
    TooLarge {
        /// Bytes found.
        found: usize,
    },
    /// Not an adapter, of another version, truncated or damaged.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The checksum is right, but the content does not decode.
    #[error("the content of the adapter cannot be decoded")]
    Content(#[source] postcard::Error),
    /// Parts that do not fit together.
    #[error("{what} is {found}, expected {expected}")]
    Inconsistent {
        /// The part.
        what: &'static str,
        /// The value found.
        found: String,
        /// The value expected.
        expected: String,
    },
}

/// Largest accepted file, in bytes: some five thousand classes of 1536 numbers.
pub const MAX_ADAPTER_BYTES: usize = 16 << 20;

/// Decodes an adapter. Also returns the SHA-256 of its content.
///
/// # Errors
///
/// [`AdapterFileError`]. Every size is checked, all numbers must be finite, and all parts must fit
/// together.
pub fn decode_adapter(file: &[u8]) -> Result<(AdapterFile, [u8; 32]), AdapterFileError> {
    if file.len() > MAX_ADAPTER_BYTES {
        return Err(AdapterFileError::TooLarge { found: file.len() });
    }
    let opened = open(FileKind::Adapter, file)?;
    let adapter: AdapterFile = decode(opened.content).map_err(AdapterFileError::Content)?;
    adapter.check()?;
    Ok((adapter, opened.sha256))
}

/// Encodes an adapter. The same adapter gives the same bytes.
///
/// # Errors
///
/// [`AdapterFileError::Inconsistent`] if its parts do not fit together,
/// [`AdapterFileError::Content`] for a number that f16 cannot hold, [`AdapterFileError::TooLarge`].
pub fn encode_adapter(adapter: &AdapterFile) -> Result<Vec<u8>, AdapterFileError> {
    adapter.check()?;
    let content = postcard::to_stdvec(adapter).map_err(AdapterFileError::Content)?;
    let file = seal(FileKind::Adapter, &content);
    if file.len() > MAX_ADAPTER_BYTES {
        return Err(AdapterFileError::TooLarge { found: file.len() });
    }
    Ok(file)
}
