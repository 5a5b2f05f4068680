//! Identifiers of bases and of their feature spaces.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::AdapterState;

/// SHA-256 of a base's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BaseId([u8; 32]);

/// Identifies the features that a base computes with the state it has learned. Statistics of one
/// feature space have no meaning in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FeatureSpaceId([u8; 32]);

/// Reason why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no id, expected 64 hexadecimal digits in lower case")]
pub struct IdError {
    /// The text.
    pub text: String,
}

impl BaseId {
    /// Creates the id of a base from the SHA-256 of its content.
    pub fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// Returns the feature space of the unchanged base, before any task.
    pub fn feature_space(self) -> FeatureSpaceId {
        let mut hash = Sha256::new();
        hash.update(b"fmlora feature space of base ");
        hash.update(self.0);
        FeatureSpaceId(hash.finalize().into())
    }

    /// Returns the feature space after tasks. It depends on their state alone, so that undoing a
    /// task restores the former id.
    ///
    /// # Errors
    ///
    /// [`postcard::Error`] for numbers that a file cannot hold.
    pub fn feature_space_after(
        self,
        state: &AdapterState,
    ) -> Result<FeatureSpaceId, postcard::Error> {
        let mut hash = Sha256::new();
        hash.update(b"fmlora feature space of base ");
        hash.update(self.0);
        hash.update(b" after tasks ");
        hash.update(postcard::to_stdvec(&(&state.merged, &state.prompt))?);
        Ok(FeatureSpaceId(hash.finalize().into()))
    }
}

/// Parses the output of [`hex`].
fn unhex(text: &str) -> Result<[u8; 32], IdError> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks_exact(2).map(pair).collect();
    let bytes = bytes.filter(|_| text.len() == 64).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| IdError { text: text.chars().take(80).collect() })
}

impl FromStr for BaseId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        unhex(text).map(Self)
    }
}

impl FromStr for FeatureSpaceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        unhex(text).map(Self)
    }
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

impl fmt::Display for BaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Display for FeatureSpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}
