//! Fetching an adapter, in as many pieces as the line breaks it into.

use std::io::Write;
use std::path::Path;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::location::{FetchError, Location};
use super::offer::{Offered, hex};

/// Name of the file in the state directory that holds what has come so far.
const PART: &str = "update.part";

/// Why an adapter could not be fetched; what has come stays for the next time, unless it is wrong.
#[derive(Debug, Error)]
pub(crate) enum DownloadError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{target}: {found} of {expected} bytes came; the rest is asked for the next time")]
    Short { target: String, found: u64, expected: u64 },
    #[error("{target}: its SHA-256 is {found}, but {expected} was signed")]
    Hash { target: String, found: String, expected: String },
    #[error("{target}: longer than the {expected} bytes that were signed")]
    Long { target: String, expected: u64 },
    #[error("{path}: {source}")]
    File { path: String, source: std::io::Error },
}

/// Fetches an adapter into memory. What came before of the same file is not fetched again.
///
/// # Errors
///
/// [`DownloadError`]
pub(crate) fn download(
    location: &Location,
    offered: &Offered,
    state: &Path,
) -> Result<Vec<u8>, DownloadError> {
    let path = state.join(PART);
    let fail =
        |source: std::io::Error| DownloadError::File { path: path.display().to_string(), source };
    let begun = Part::read(&path, &offered.sha256, offered.length);
    let target = || offered.target.clone();
    // One byte more tells that the file is longer. A server may begin anew, whatever it is asked for.
    let most = offered.length + 1;
    let (bytes, continued) = location.read(&offered.path(), begun.len() as u64, most)?;
    let mut whole = if continued { begun } else { Vec::new() };
    whole.extend_from_slice(&bytes);
    let (found, expected) = (whole.len() as u64, offered.length);
    if found > expected {
        Part::remove(&path);
        return Err(DownloadError::Long { target: target(), expected });
    }
    if found < expected {
        Part::write(&path, &offered.sha256, &whole).map_err(fail)?;
        return Err(DownloadError::Short { target: target(), found, expected });
    }
    Part::remove(&path);
    let hash = Sha256::digest(&whole);
    if hash[..] != offered.sha256 {
        let (found, expected) = (hex(&hash), hex(&offered.sha256));
        return Err(DownloadError::Hash { target: target(), found, expected });
    }
    Ok(whole)
}

/// What has come so far: the SHA-256 of the whole, then the bytes.
struct Part;

impl Part {
    /// The bytes that came of this file; none if they are of another one.
    fn read(path: &Path, sha256: &[u8; 32], length: u64) -> Vec<u8> {
        match std::fs::read(path) {
            Ok(bytes) if (bytes.len() as u64) < 32 + length => match bytes.strip_prefix(sha256) {
                Some(begun) => begun.to_vec(),
                None => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// A torn write is found out by the hash of the whole.
    fn write(path: &Path, sha256: &[u8; 32], bytes: &[u8]) -> std::io::Result<()> {
        let mut file = std::fs::File::create(path)?;
        file.write_all(sha256)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// What is left of it does no harm.
    fn remove(path: &Path) {
        let _ = std::fs::remove_file(path);
    }
}
