//! Header of all file formats of this project.
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | magic: `FMLB` base, `FMLS` state, `FMLA` adapter |
//! | 4..6 | version of the format, little endian |
//! | 6..8 | zero |
//! | 8..16 | length of the content in bytes, little endian |
//! | 16..48 | SHA-256 of the content |
//! | 48.. | content |

use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 48;

/// Kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// `*.fmlb`: a network and its configuration.
    Base,
    /// `*.fmls`: the classes of a device.
    State,
    /// `*.fmla`: a task trained elsewhere.
    Adapter,
}

/// Reason why bytes are not a file of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Another kind of file, or not a file of this project.
    #[error("not {expected}: it begins with {found:?}, expected {magic:?}")]
    Magic {
        /// The kind expected.
        expected: &'static str,
        /// The first bytes expected.
        magic: &'static str,
        /// The first bytes found.
        found: String,
    },
    /// Shorter than a header, or shorter than the header states.
    #[error("cut off: {found} bytes, expected {expected}")]
    Truncated {
        /// Bytes found.
        found: u64,
        /// Bytes expected.
        expected: u64,
    },
    /// Longer than the header states.
    #[error("{extra} bytes too many at the end")]
    TooLong {
        /// Bytes beyond the content.
        extra: u64,
    },
    /// A version that this program does not read.
    #[error("format version {found}, but this program reads versions up to {expected}")]
    Version {
        /// The version found.
        found: u16,
        /// The newest version that this program reads.
        expected: u16,
    },
    /// The content has changed: its SHA-256 differs.
    #[error("damaged: the checksum does not match the content")]
    Checksum,
}

impl FileKind {
    /// First four bytes of the file.
    pub fn magic(self) -> &'static str {
        match self {
            Self::Base => "FMLB",
            Self::State => "FMLS",
            Self::Adapter => "FMLA",
        }
    }

    /// Version of the format that this program writes.
    pub fn version(self) -> u16 {
        match self {
            Self::Base | Self::State => 4,
            Self::Adapter => 1,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Base => "a base (.fmlb)",
            Self::State => "an exported state (.fmls)",
            Self::Adapter => "an adapter (.fmla)",
        }
    }
}

/// Decodes the content and checks that no byte is left. The checksum does not cover the version
/// field: content longer than its version allows means that the version is wrong.
pub(super) fn decode<'a, T: Deserialize<'a>>(content: &'a [u8]) -> postcard::Result<T> {
    match postcard::take_from_bytes(content)? {
        (value, []) => Ok(value),
        _ => Err(postcard::Error::DeserializeBadEncoding),
    }
}

/// Returns the kind of a file from its first bytes.
pub fn identify(bytes: &[u8]) -> Option<FileKind> {
    let kinds = [FileKind::Base, FileKind::State, FileKind::Adapter];
    kinds.into_iter().find(|kind| bytes.starts_with(kind.magic().as_bytes()))
}

/// Returns a file: the header, then the content.
pub fn seal(kind: FileKind, content: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEADER_BYTES + content.len());
    file.extend_from_slice(kind.magic().as_bytes());
    file.extend_from_slice(&kind.version().to_le_bytes());
    file.extend_from_slice(&[0, 0]);
    file.extend_from_slice(&(content.len() as u64).to_le_bytes());
    file.extend_from_slice(&Sha256::digest(content));
    file.extend_from_slice(content);
    file
}

/// Content of a file, after the check of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened<'a> {
    /// Version of the format, from 1 to the version that this program writes.
    pub version: u16,
    /// The content.
    pub content: &'a [u8],
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
}

/// Checks the header and returns the content.
///
/// # Errors
///
/// [`HeaderError`] with the found and the expected value.
pub fn open(kind: FileKind, file: &[u8]) -> Result<Opened<'_>, HeaderError> {
    let magic = kind.magic();
    let start = &file[..file.len().min(4)];
    if start != &magic.as_bytes()[..start.len()] || file.is_empty() {
        let found = String::from_utf8_lossy(start).into_owned();
        return Err(HeaderError::Magic { expected: kind.noun(), magic, found });
    }
    let Some((header, content)) = file.split_at_checked(HEADER_BYTES) else {
        let found = file.len() as u64;
        let expected = HEADER_BYTES as u64;
        return Err(HeaderError::Truncated { found, expected });
    };
    let found = u16::from_le_bytes([header[4], header[5]]);
    let version = found;
    if version == 0 || version > kind.version() {
        return Err(HeaderError::Version { found, expected: kind.version() });
    }
    if header[6..8] != [0, 0] {
        return Err(HeaderError::Checksum);
    }
    let length = header[8..16].iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
    let found = content.len() as u64;
    if found < length {
        let header = HEADER_BYTES as u64;
        let found = found + header;
        let expected = length.saturating_add(header);
        return Err(HeaderError::Truncated { found, expected });
    }
    if found > length {
        return Err(HeaderError::TooLong { extra: found - length });
    }
    let checksum: [u8; 32] = Sha256::digest(content).into();
    if checksum[..] != header[16..48] {
        return Err(HeaderError::Checksum);
    }
    Ok(Opened { version, content, sha256: checksum })
}
