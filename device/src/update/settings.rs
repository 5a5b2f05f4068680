//! The operator's settings of updates.

use std::io::Read;
use std::path::Path;

use super::origin::Origin;
use super::transport::MAX_METADATA;
use crate::EdgeError;

/// Repository, trusted root, channel and retries.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) from: Origin,
    /// The root.json that the operator trusts; needed once.
    pub(crate) root: Option<Vec<u8>>,
    pub(crate) channel: String,
    /// Adapters that were refused or rolled back and may be retried.
    pub(crate) again: Again,
}

/// Adapters that were refused or rolled back and may be retried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Again {
    None,
    All,
    /// The one of this target. All others are ignored.
    Only(String),
}

impl Again {
    /// Returns all for an empty name, else the named target.
    pub(crate) fn named(target: &str) -> Self {
        if target.is_empty() { Self::All } else { Self::Only(target.to_owned()) }
    }

    /// Returns true if this target may be retried.
    pub(super) fn lets(&self, target: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Only(only) => only == target,
        }
    }
}

/// Reads a root.json. Its signature by itself is checked later.
///
/// # Errors
///
/// [`EdgeError::File`], also for a file that is too large for a root.
pub(crate) fn read_root(path: &Path) -> Result<Vec<u8>, EdgeError> {
    let fail = |source| EdgeError::File { path: path.to_owned(), what: "read the root", source };
    let mut root = Vec::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(MAX_METADATA + 1).read_to_end(&mut root).map_err(fail)?;
    if root.len() as u64 > MAX_METADATA {
        return Err(fail(std::io::Error::other(format!("larger than {MAX_METADATA} bytes"))));
    }
    Ok(root)
}
