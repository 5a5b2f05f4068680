//! Transport of tough: reads a repository through [`Origin`]. Limits the size of every file, and
//! does not read a file twice that has its version in its name.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::Deserialize;
use tokio_stream::iter;
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

use super::origin::{FetchError, Origin};

/// Maximum size of a file of metadata. tough has the same limit; one byte more shows it that a file
/// is larger.
pub(super) const MAX_METADATA: u64 = 1 << 20;

/// URL prefix of the files of the repository.
pub(super) const HERE: &str = "http://repository.invalid/";

/// Files by their path below a repository.
pub(super) type Copies = BTreeMap<String, Vec<u8>>;

/// A repository's metadata.
#[derive(Debug, Clone)]
pub(super) struct Files {
    origin: Origin,
    /// Snapshots and lists of targets that were read, in this round or before. tough checks them
    /// like new files.
    copies: Arc<Mutex<Copies>>,
    /// True if one of them was read instead of the repository.
    gave: Arc<AtomicBool>,
}

impl Files {
    pub(super) fn new(origin: Origin, copies: Copies) -> Self {
        Self { origin, copies: Arc::new(Mutex::new(copies)), gave: Arc::default() }
    }

    /// Returns the files that were read.
    pub(super) fn copies(&self) -> Copies {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns true if a copy from an earlier round was read in this round.
    pub(super) fn gave_copies(&self) -> bool {
        self.gave.load(Ordering::Acquire)
    }

    fn of_its_type(&self, file: &str, bytes: Vec<u8>) -> Result<Vec<u8>, FetchError> {
        let file_is = |why| {
            let file = self.origin.location().address(file);
            FetchError::Failed { file, why }
        };
        check_type(&bytes, expected_type(file)).map_err(file_is)?;
        Ok(bytes)
    }

    fn read(&self, url: &Url) -> Result<Vec<u8>, TransportError> {
        let file = url.as_str().strip_prefix(HERE).unwrap_or_default();
        let numbered = [".snapshot.json", ".targets.json"].iter().any(|end| file.ends_with(end));
        if let Some(copy) = self.copies().remove(file) {
            self.gave.store(true, Ordering::Release);
            return Ok(copy);
        }
        let read = self
            .origin
            .read(file, 0, MAX_METADATA + 1)
            .and_then(|(bytes, _)| self.of_its_type(file, bytes));
        if let (Ok(bytes), true) = (&read, numbered) {
            let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
            copies.insert(file.to_owned(), bytes.clone());
        }
        read.map_err(|error| {
            let kind = match error {
                FetchError::Missing(_) => TransportErrorKind::FileNotFound,
                FetchError::Failed { .. } => TransportErrorKind::Other,
            };
            TransportError::new_with_cause(kind, file, error)
        })
    }
}

/// The type of metadata. All other fields are ignored.
#[derive(Deserialize)]
struct Typed {
    signed: Type,
}

#[derive(Deserialize)]
struct Type {
    _type: String,
}

/// Returns the type that a file of metadata must have by its name: `N.root.json` is a root. Files
/// of delegated roles are lists of targets.
fn expected_type(file: &str) -> &'static str {
    let name = file.rsplit('/').next().unwrap_or(file);
    let name = name.strip_suffix(".json").unwrap_or(name);
    let role = name.split_once('.').map_or(name, |(_version, role)| role);
    ["root", "timestamp", "snapshot"].into_iter().find(|known| *known == role).unwrap_or("targets")
}

/// Checks that metadata has the expected type. Bytes that are not metadata are left to tough.
///
/// # Errors
///
/// A message with the type found and the type expected.
pub(super) fn check_type(bytes: &[u8], expected: &str) -> Result<(), String> {
    match serde_json::from_slice::<Typed>(bytes) {
        Ok(Typed { signed: Type { _type: found } }) if found != expected => {
            Err(format!("its _type is {found:?}, expected {expected:?}"))
        }
        _ => Ok(()),
    }
}

type Fetched<'a> =
    Pin<Box<dyn Future<Output = Result<TransportStream, TransportError>> + Send + 'a>>;

impl Transport for Files {
    fn fetch<'a, 'b>(&'a self, url: Url) -> Fetched<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        let files = self.clone();
        Box::pin(async move {
            let asked = url.clone();
            let finished = tokio::task::spawn_blocking(move || files.read(&asked)).await;
            let read = finished.map_err(|error| {
                TransportError::new_with_cause(TransportErrorKind::Other, url.as_str(), error)
            })?;
            let piece = match read {
                Ok(bytes) => Ok(Bytes::from(bytes)),
                Err(error) if error.kind() == TransportErrorKind::FileNotFound => {
                    return Err(error);
                }
                // tough takes any error here for a missing next root. Within the stream, it is a
                // failure.
                Err(error) => Err(error),
            };
            Ok(Box::pin(iter([piece])) as TransportStream)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_says_of_which_type_it_is() {
        let types = ["2.root", "timestamp", "7.snapshot", "7.targets", "7.others", "7.a.root"]
            .map(|name| expected_type(&format!("metadata/{name}.json")));
        assert_eq!(types, ["root", "timestamp", "snapshot", "targets", "targets", "targets"]);
        let snapshot = br#"{"signed": {"_type": "snapshot", "version": 1}, "signatures": []}"#;
        assert_eq!(check_type(snapshot, "snapshot"), Ok(()));
        let says = "its _type is \"snapshot\", expected \"timestamp\"".to_owned();
        assert_eq!(check_type(snapshot, "timestamp"), Err(says));
    }
}
