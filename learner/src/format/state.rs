//! `*.fmls`: the classes of a device in one file, for a backup or another device with the same base.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::header::{FileKind, HeaderError, open, seal};
use crate::{BaseId, Class, FeatureSpaceId};

/// The content of an exported state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    /// The base that the classes were taught with.
    pub base_id: BaseId,
    /// The features that the statistics are about.
    pub feature_space_id: FeatureSpaceId,
    /// The classes, ordered by key.
    pub classes: Vec<Class>,
}

/// Why a file is no usable state.
#[derive(Debug, Error)]
pub enum StateError {
    /// Not a state, of another version, cut off or damaged.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The checksum is right, but the content is none that this program makes.
    #[error("the content of the state cannot be decoded")]
    Content(#[source] postcard::Error),
}

/// Reads an exported state. The statistics are checked when they are imported.
///
/// # Errors
///
/// [`StateError`].
pub fn decode_state(file: &[u8]) -> Result<StateFile, StateError> {
    let (content, _) = open(FileKind::State, file)?;
    postcard::from_bytes(content).map_err(StateError::Content)
}

/// Writes a state; the same classes give the same bytes.
///
/// # Errors
///
/// [`StateError::Content`] if postcard cannot encode it, which no state of ours brings about.
pub fn encode_state(state: &StateFile) -> Result<Vec<u8>, StateError> {
    let content = postcard::to_stdvec(state).map_err(StateError::Content)?;
    Ok(seal(FileKind::State, &content))
}
