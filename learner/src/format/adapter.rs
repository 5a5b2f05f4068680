//! `*.fmla`: a task trained elsewhere, for devices that have the same base and the same features.

mod apply;
mod check;
mod facts;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::header::{FileKind, HeaderError, decode, open, seal};
use crate::{AdapterTask, Complexity, KnownAnswer, LowRankDrift, TaskSummary};

pub use apply::{Applied, ApplyError, Ground};
pub use facts::{AdapterFacts, AdapterName, DaemonVersion, FactsError};

/// The content of an adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterFile {
    /// What it is for.
    pub facts: AdapterFacts,
    /// What it changes in the network; `None` with rank 0: then features stay as they are.
    pub task: Option<AdapterTask>,
    /// Where the change takes the statistics of classes that the device knows. `None` with rank 0; also where no
    /// map was fitted, and then the device's own classes would be lost.
    pub drift: Option<LowRankDrift>,
    /// The classes of the task, in the features after it.
    pub summary: TaskSummary,
    /// How hard and how new the task was.
    pub complexity: Complexity,
    /// Rank `r_t` that was trained, also where it proved to be no better and is left out.
    pub rank: u32,
    /// What it is worth on test pictures; `None` if there were none.
    pub accuracy: Option<MeasuredAccuracy>,
    /// What the network makes of a known picture after the task.
    pub known_answer: KnownAnswer,
}

/// Share of test pictures told right among all classes that the workstation knew, by heads that follow from the file
/// as devices read it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeasuredAccuracy {
    /// With the adapter.
    pub with: f32,
    /// With the same classes taught to the network as it was before.
    pub without: f32,
    /// Test pictures.
    pub n_pictures: u32,
}

/// Why a file is no usable adapter.
#[derive(Debug, Error)]
pub enum AdapterFileError {
    /// Larger than any adapter may be.
    #[error("{found} bytes, expected at most {MAX_ADAPTER_BYTES}")]
    TooLarge {
        /// Bytes found.
        found: usize,
    },
    /// Not an adapter, of another version, cut off or damaged.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The checksum is right, but the content is none that this program makes.
    #[error("the content of the adapter cannot be decoded")]
    Content(#[source] postcard::Error),
    /// Parts that do not fit together.
    #[error("{what} is {found}, expected {expected}")]
    Inconsistent {
        /// The part.
        what: &'static str,
        /// What it is.
        found: String,
        /// What would fit.
        expected: String,
    },
}

/// Largest file that is read: some five thousand classes of 1536 numbers.
pub const MAX_ADAPTER_BYTES: usize = 16 << 20;

/// Reads an adapter, and gives the SHA-256 of its content.
///
/// # Errors
///
/// [`AdapterFileError`]: every size is checked, no number is NaN or infinite, and all parts fit together.
pub fn decode_adapter(file: &[u8]) -> Result<(AdapterFile, [u8; 32]), AdapterFileError> {
    if file.len() > MAX_ADAPTER_BYTES {
        return Err(AdapterFileError::TooLarge { found: file.len() });
    }
    let opened = open(FileKind::Adapter, file)?;
    let adapter: AdapterFile = decode(opened.content).map_err(AdapterFileError::Content)?;
    adapter.check()?;
    Ok((adapter, opened.sha256))
}

/// Writes an adapter; the same adapter gives the same bytes.
///
/// # Errors
///
/// [`AdapterFileError::Inconsistent`] if its parts do not fit together, [`AdapterFileError::Content`] for a number
/// that f16 cannot hold, [`AdapterFileError::TooLarge`].
pub fn encode_adapter(adapter: &AdapterFile) -> Result<Vec<u8>, AdapterFileError> {
    adapter.check()?;
    let content = postcard::to_stdvec(adapter).map_err(AdapterFileError::Content)?;
    let file = seal(FileKind::Adapter, &content);
    if file.len() > MAX_ADAPTER_BYTES {
        return Err(AdapterFileError::TooLarge { found: file.len() });
    }
    Ok(file)
}
