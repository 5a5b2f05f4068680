//! How tough reads a repository: through [`Location`], with an end to every file, and none twice that has its version
//! in its name.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio_stream::iter;
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

use super::location::{FetchError, Location};

/// Largest file of metadata. tough is told the same; one byte more tells it that a file is larger.
pub(super) const MAX_METADATA: u64 = 1 << 20;

/// Addresses below this one are files of the repository.
pub(super) const HERE: &str = "http://repository.invalid/";

/// Files by their path below a repository.
pub(super) type Copies = BTreeMap<String, Vec<u8>>;

/// A repository's metadata.
#[derive(Debug, Clone)]
pub(super) struct Files {
    location: Location,
    /// Snapshots and lists of targets that were read, in this round or before. tough checks them as if they had just come.
    copies: Arc<Mutex<Copies>>,
    /// Whether one of them was read instead of the repository.
    gave: Arc<AtomicBool>,
}

impl Files {
    pub(super) fn new(location: Location, copies: Copies) -> Self {
        Self { location, copies: Arc::new(Mutex::new(copies)), gave: Arc::default() }
    }

    /// Those that were read.
    pub(super) fn copies(&self) -> Copies {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether one of those that were there before was read in this round.
    pub(super) fn gave_copies(&self) -> bool {
        self.gave.load(Ordering::Acquire)
    }

    fn read(&self, url: &Url) -> Result<Vec<u8>, TransportError> {
        let file = url.as_str().strip_prefix(HERE).unwrap_or_default();
        let numbered = [".snapshot.json", ".targets.json"].iter().any(|end| file.ends_with(end));
        if let Some(copy) = self.copies().remove(file) {
            self.gave.store(true, Ordering::Release);
            return Ok(copy);
        }
        let read = self.location.read(file, 0, MAX_METADATA + 1).map(|(bytes, _)| bytes);
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
            let read = tokio::task::spawn_blocking(move || files.read(&asked)).await;
            let bytes = read.map_err(|error| {
                TransportError::new_with_cause(TransportErrorKind::Other, url.as_str(), error)
            })??;
            Ok(Box::pin(iter([Ok(Bytes::from(bytes))])) as TransportStream)
        })
    }
}
