//! Downloads an adapter. Resumes after the connection breaks.

use std::io::Write;
use std::path::Path;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::offer::{Offered, hex};
use super::origin::{FetchError, Origin};

/// Name of the file in the state directory that holds a partial download.
const PART: &str = "update.part";

/// An error of a download. Bytes received so far are kept for the next try, unless they are wrong.
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

/// Treatment of a partial download when the connection breaks. There is room for the part of one
/// file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// It is kept for the next try.
    Keep,
    /// It is dropped. The part of another file came before, and is kept instead.
    Drop,
}

/// Downloads an adapter into memory. Resumes an earlier partial download of the same file.
///
/// # Errors
///
/// [`DownloadError`]
pub(crate) fn download(
    origin: &Origin,
    offered: &Offered,
    state: &Path,
    piece: Piece,
) -> Result<Vec<u8>, DownloadError> {
    let path = state.join(PART);
    let fail =
        |source: std::io::Error| DownloadError::File { path: path.display().to_string(), source };
    let begun = Part::read(&path, &offered.sha256, offered.length);
    let ours = piece == Piece::Keep || !begun.is_empty();
    let target = || offered.target.clone();
    // One byte more reveals a longer file. A server may ignore the range, and begin with the first
    // byte.
    let most = offered.length + 1;
    let (bytes, continued) = origin.read(&offered.path(), begun.len() as u64, most)?;
    let mut whole = if continued { begun } else { Vec::new() };
    whole.extend_from_slice(&bytes);
    let found = whole.len() as u64;
    let expected = offered.length;
    if ours && found >= expected {
        Part::remove(&path);
    }
    if found > expected {
        return Err(DownloadError::Long { target: target(), expected });
    }
    if found < expected {
        if ours {
            Part::write(&path, &offered.sha256, &whole).map_err(fail)?;
        }
        return Err(DownloadError::Short { target: target(), found, expected });
    }
    let hash = Sha256::digest(&whole);
    if hash[..] != offered.sha256 {
        let found = hex(&hash);
        let expected = hex(&offered.sha256);
        return Err(DownloadError::Hash { target: target(), found, expected });
    }
    Ok(whole)
}

/// A partial download: the SHA-256 of the whole file, then the bytes so far.
struct Part;

impl Part {
    /// Reads the bytes so far of this file. Returns none if they belong to another file.
    fn read(path: &Path, sha256: &[u8; 32], length: u64) -> Vec<u8> {
        match std::fs::read(path) {
            Ok(bytes) if (bytes.len() as u64) < 32 + length => match bytes.strip_prefix(sha256) {
                Some(begun) => begun.to_vec(),
                None => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// Writes the part. The hash of the whole file reveals a torn write.
    fn write(path: &Path, sha256: &[u8; 32], bytes: &[u8]) -> std::io::Result<()> {
        let mut file = std::fs::File::create(path)?;
        file.write_all(sha256)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Removes the part. A file that remains does no harm.
    fn remove(path: &Path) {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn offered(file: &[u8]) -> Offered {
        let sha256 = Sha256::digest(file).into();
        Offered { length: file.len() as u64, sha256, ..Offered::example("birds", 1) }
    }

    /// Makes a stick with the first `n` bytes of a file. Its folder serves as state directory too.
    fn stick(file: &[u8], n: usize) -> (Origin, Offered, TempDir) {
        let folder = TempDir::new().expect("a folder");
        let offered = offered(file);
        let path = folder.path().join(offered.path());
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, &file[..n]).expect("written");
        (Origin::folder(folder.path()), offered, folder)
    }

    #[test]
    fn a_piece_that_is_longer_than_its_file_is_no_piece_of_it() {
        let file = b"an adapter";
        let (stick, offered, folder) = stick(file, file.len());
        let path = folder.path().join(PART);
        Part::write(&path, &offered.sha256, b"more than an adapter").expect("written");
        let whole = download(&stick, &offered, folder.path(), Piece::Keep).expect("the file");
        assert_eq!((whole.as_slice(), path.exists()), (&file[..], false));
    }

    #[test]
    fn the_piece_of_another_file_stays_where_that_is_to_come_too() {
        let file = b"an adapter";
        let (half, offered, folder) = stick(file, file.len() / 2);
        let path = folder.path().join(PART);
        Part::write(&path, &[7; 32], b"of another").expect("written");
        let other = std::fs::read(&path).expect("a piece");
        let fetch = |from, piece| download(from, &offered, folder.path(), piece);
        let short = |piece| matches!(fetch(&half, piece), Err(DownloadError::Short { .. }));
        assert!(short(Piece::Drop));
        assert_eq!(std::fs::read(&path).expect("a piece"), other);
        let (all, _, _kept) = stick(file, file.len());
        assert!(fetch(&all, Piece::Drop).is_ok());
        assert_eq!(std::fs::read(&path).expect("a piece"), other);
        assert!(short(Piece::Keep));
        assert_ne!(std::fs::read(&path).expect("a piece"), other);
        assert!(fetch(&all, Piece::Keep).is_ok() && !path.exists());
    }
}
