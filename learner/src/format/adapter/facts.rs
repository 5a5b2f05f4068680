//! Target and identity of an adapter: the part of its file that a repository repeats.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{BaseId, FeatureSpaceId};

/// Base, features and release of an adapter: they decide which devices it fits and which adapter is
/// the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterFacts {
    /// Name, for display and file names.
    pub name: AdapterName,
    /// The base with the network that it adapts.
    pub base_id: BaseId,
    /// Feature space of a device before the adapter.
    pub space_before: FeatureSpaceId,
    /// Feature space after it. The same if the network is unchanged.
    pub space_after: FeatureSpaceId,
    /// Release counter: a device never goes back to a smaller one.
    pub release: u64,
    /// Oldest version of the daemon that can use the adapter.
    pub min_daemon: DaemonVersion,
}

/// Name of an adapter: 1 to 64 of `a-z A-Z 0-9 . _ -`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AdapterName(String);

/// Version of the daemon: three numbers, as `0.1.0`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DaemonVersion {
    /// Incremented for breaking changes.
    pub major: u32,
    /// Incremented for additions.
    pub minor: u32,
    /// Incremented for fixes.
    pub patch: u32,
}

/// Reason why a text is not an adapter name, or not a version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FactsError {
    /// Not a name.
    #[error(
        "{text:?} is no name of an adapter: expected 1 to {MAX_NAME} of a-z A-Z 0-9 . _ -, the first a letter or digit"
    )]
    Name {
        /// The text.
        text: String,
    },
    /// Not a version.
    #[error("{text:?} is no version, expected three numbers such as 0.1.0")]
    Version {
        /// The text.
        text: String,
    },
}

/// Longest name.
const MAX_NAME: usize = 64;

/// Most characters of a wrong text that an error repeats.
const SHOWN: usize = 80;

impl AdapterName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`FactsError::Name`].
    pub fn new(text: &str) -> Result<Self, FactsError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let starts = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if starts && text.len() <= MAX_NAME && text.bytes().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(FactsError::Name { text: text.chars().take(SHOWN).collect() })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AdapterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for AdapterName {
    type Error = FactsError;

    fn try_from(text: String) -> Result<Self, FactsError> {
        Self::new(&text)
    }
}

impl FromStr for AdapterName {
    type Err = FactsError;

    fn from_str(text: &str) -> Result<Self, FactsError> {
        Self::new(text)
    }
}

impl From<AdapterName> for String {
    fn from(name: AdapterName) -> Self {
        name.0
    }
}

impl fmt::Display for DaemonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for DaemonVersion {
    type Err = FactsError;

    fn from_str(text: &str) -> Result<Self, FactsError> {
        let numbers: Option<Vec<u32>> = text
            .split('.')
            .map(|n| n.bytes().all(|b| b.is_ascii_digit()).then(|| n.parse().ok())?)
            .collect();
        match numbers.as_deref() {
            Some(&[major, minor, patch]) => Ok(Self { major, minor, patch }),
            _ => Err(FactsError::Version { text: text.chars().take(SHOWN).collect() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        for name in ["garden", "7", "a.b-c_D", &"x".repeat(MAX_NAME)] {
            assert!(AdapterName::new(name).is_ok(), "{name:?} was refused");
        }
        for name in
            ["", ".", "..", "../x", "a/b", "a\\b", "-x", "a b", "ä", &"x".repeat(MAX_NAME + 1)]
        {
            assert!(AdapterName::new(name).is_err(), "{name:?} was accepted");
        }
    }

    #[test]
    fn versions_are_ordered_by_number() {
        let version = |text: &str| text.parse::<DaemonVersion>();
        assert!(version("0.10.0").expect("a version") > version("0.9.12").expect("a version"));
        for wrong in
            ["", "1", "1.2", "1.2.3.4", "1.2.x", "1.-2.3", "1.+2.3", "1.2.", "4294967296.0.0"]
        {
            assert!(version(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
