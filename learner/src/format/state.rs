//! `*.fmls`, the state file: the classes of a device, for a backup or for another device with the
//! same base.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::header::{FileKind, HeaderError, decode, open, seal};
use crate::{AdapterState, BaseId, Class, ClassName, ClassStatistics, FeatureSpaceId};

/// Content of a state file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateFile {
    /// The base that the classes were taught with.
    pub base_id: BaseId,
    /// The feature space of the statistics.
    pub feature_space_id: FeatureSpaceId,
    /// State of the network after all tasks, with which the features can be computed again. `None`
    /// if no task has changed it.
    pub adapter: Option<AdapterState>,
    /// The classes, ordered by key.
    pub classes: Vec<Class>,
}

/// A class in versions 1 and 2: a single mode.
#[derive(Deserialize)]
struct OneMode {
    name: ClassName,
    statistics: ClassStatistics,
}

/// Version 1 of the content: no state of tasks.
#[derive(Deserialize)]
struct Version1 {
    base_id: BaseId,
    feature_space_id: FeatureSpaceId,
    classes: Vec<OneMode>,
}

/// Version 2 of the content: with the state of tasks.
#[derive(Deserialize)]
struct Version2 {
    base_id: BaseId,
    feature_space_id: FeatureSpaceId,
    adapter: Option<AdapterState>,
    classes: Vec<OneMode>,
}

impl From<OneMode> for Class {
    fn from(old: OneMode) -> Self {
        Self { name: old.name, modes: vec![old.statistics], parts: None }
    }
}

/// Reason why a file is not a usable state.
#[derive(Debug, Error)]
pub enum StateError {
    /// Not a state, of another version, truncated or damaged.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The checksum is right, but the content does not decode.
    #[error("the content of the state cannot be decoded")]
    Content(#[source] postcard::Error),
}

/// Decodes a state file. The statistics are not checked here, but on import.
///
/// # Errors
///
/// [`StateError`].
pub fn decode_state(file: &[u8]) -> Result<StateFile, StateError> {
    let opened = open(FileKind::State, file)?;
    let old = match opened.version {
        1 => {
            let old: Version1 = decode(opened.content).map_err(StateError::Content)?;
            let Version1 { base_id, feature_space_id, classes } = old;
            Version2 { base_id, feature_space_id, adapter: None, classes }
        }
        2 => decode(opened.content).map_err(StateError::Content)?,
        _ => return decode(opened.content).map_err(StateError::Content),
    };
    let Version2 { base_id, feature_space_id, adapter, classes } = old;
    let classes = classes.into_iter().map(Class::from).collect();
    Ok(StateFile { base_id, feature_space_id, adapter, classes })
}

/// Encodes a state. The same classes give the same bytes.
///
/// # Errors
///
/// [`StateError::Content`] if postcard cannot encode it, which does not happen for a state of this
/// program.
pub fn encode_state(state: &StateFile) -> Result<Vec<u8>, StateError> {
    let content = postcard::to_stdvec(state).map_err(StateError::Content)?;
    Ok(seal(FileKind::State, &content))
}
