//! What the operator says of updates.

use std::io::Read;
use std::path::Path;

use super::location::Location;
use super::transport::MAX_METADATA;
use crate::EdgeError;

/// Where adapters come from, and which are meant for this device.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) from: Location,
    /// The root.json that the operator trusts; needed once.
    pub(crate) root: Option<Vec<u8>>,
    pub(crate) channel: String,
    /// Whether one that was refused or taken back may be tried again.
    pub(crate) again: bool,
}

/// Reads a root.json, which is signed by itself or refused later.
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
