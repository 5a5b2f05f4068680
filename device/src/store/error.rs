//! Errors of opening, reading and writing a state.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::FORMAT;

/// An error of opening, reading or writing a state.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The directory cannot be made.
    #[error("state directory {}: cannot be created", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// Another process owns the state.
    #[error("state {}: in use by another fmlora-edge; stop it, or use another --state", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened, read or written.
    #[error("state {}: cannot {what}", path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// The attempted action.
        what: &'static str,
        /// Error of redb.
        source: Box<redb::Error>,
    },
    /// The file under the path is not the one that was opened.
    #[error("state {}: the file was moved or replaced while the program runs; put it back, or start the program anew", path.display())]
    Replaced {
        /// The path.
        path: PathBuf,
    },
    /// The bytes are damaged: no release wrote them.
    #[error("state {}: {what} is damaged: {why}; restore a backup of this file, or move it away, begin anew and import an exported state", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The value.
        what: String,
        /// The reason.
        why: String,
    },
    /// Written by another release.
    #[error("state {}: format {found}, but this program reads formats up to {FORMAT}; export it with the program that wrote it, and import it here", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u16,
    },
    /// A value of the table `meta` was written by another release.
    #[error("state {}: the value \"{key}\" has version {found}, but this program reads version {expected}; export the classes, and import them into an empty --state", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Key of the value.
        key: &'static str,
        /// The version found.
        found: u16,
        /// The version that is read.
        expected: u16,
    },
    /// Taught with another base.
    #[error("state {}: taught with base {found:.12}, but this is base {expected:.12}; use that base, or another --state", path.display())]
    OtherBase {
        /// The file.
        path: PathBuf,
        /// Base of the state.
        found: String,
        /// Base in use.
        expected: String,
    },
}

/// Cause of a failed transaction.
#[derive(Debug)]
pub(super) enum Fault {
    /// redb or the system refused.
    Redb(redb::Error),
    /// A value differs from the one that was written.
    Damaged { what: String, why: String },
    /// A value of another version.
    Version { key: &'static str, found: u16, expected: u16 },
    /// A state of another format.
    Format { found: u16 },
}

impl Fault {
    /// Adds the file and the attempted action.
    pub(super) fn at(self, path: &Path, what: &'static str) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::Redb(error) => match damage(&error) {
                Some(why) => StoreError::Damaged { path, what: "the file".to_owned(), why },
                None => StoreError::Storage { path, what, source: Box::new(error) },
            },
            Self::Damaged { what, why } => StoreError::Damaged { path, what, why },
            Self::Version { key, found, expected } => {
                StoreError::Version { path, key, found, expected }
            }
            Self::Format { found } => StoreError::Format { path, found },
        }
    }
}

/// Returns the reason if the error means damaged bytes; `None` for an error of another kind.
fn damage(error: &redb::Error) -> Option<String> {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        redb::Error::Corrupted(why) => Some(why.clone()),
        redb::Error::UpgradeRequired(version) => {
            Some(format!("it is a redb file of version {version}"))
        }
        redb::Error::Io(error) if error.kind() == UnexpectedEof => Some("it is cut off".to_owned()),
        redb::Error::Io(error) if error.kind() == InvalidData => Some(error.to_string()),
        _ => None,
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => { $(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Redb(error.into())
            }
        }
    )* };
}

from_redb!(
    redb::CommitError,
    redb::DatabaseError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    std::io::Error
);
