//! `*.fmls`: the classes of a device in one file, for a backup or another device with the same base.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::header::{FileKind, HeaderError, open, seal};
use crate::{AdapterState, BaseId, Class, FeatureSpaceId};

/// The content of an exported state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateFile {
    /// The base that the classes were taught with.
    pub base_id: BaseId,
    /// The features that the statistics are about.
    pub feature_space_id: FeatureSpaceId,
    /// What tasks have left in the network, for the features to be made again; `None` if nothing.
    pub adapter: Option<AdapterState>,
    /// The classes, ordered by key.
    pub classes: Vec<Class>,
}

/// Version 1 of the content: no tasks.
#[derive(Deserialize)]
struct Version1 {
    base_id: BaseId,
    feature_space_id: FeatureSpaceId,
    classes: Vec<Class>,
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
    let opened = open(FileKind::State, file)?;
    if opened.version == 1 {
        let old: Version1 = postcard::from_bytes(opened.content).map_err(StateError::Content)?;
        let Version1 { base_id, feature_space_id, classes } = old;
        return Ok(StateFile { base_id, feature_space_id, adapter: None, classes });
    }
    postcard::from_bytes(opened.content).map_err(StateError::Content)
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
