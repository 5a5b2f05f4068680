//! The file of a state: made whole or not at all, owned by one process.

use std::path::Path;
use std::sync::Arc;

use redb::{Database, DatabaseError, ReadOnlyDatabase};

use super::{Handle, StoreError, failed};

/// Whether there is a state; a folder that may not be looked into is an error, not an empty state.
pub(super) fn exists(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(|e| failed(path, "be looked for")(redb::Error::Io(e)))
}

/// Makes an empty state under another name first: redb writes its magic last, and a file that a power cut
/// left without it could never be opened again.
fn create(path: &Path) -> Result<(), StoreError> {
    let new = path.with_extension("new");
    let fail = |e: std::io::Error| failed(path, "be created")(redb::Error::Io(e));
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(e)),
        _ => {}
    }
    drop(Database::create(&new).map_err(failed(path, "be created"))?);
    std::fs::rename(&new, path).map_err(fail)?;
    // The name is on disk only when the folder is.
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(fail)
}

/// Pages that redb keeps in memory: by itself it would keep up to a gibibyte of them, and what is read often is in memory
/// anyway.
const CACHE_BYTES: usize = 2 << 20;

pub(super) fn open_reader(path: &Path) -> Result<Handle, StoreError> {
    match ReadOnlyDatabase::open(path) {
        Ok(database) => Ok(Handle::Reader(database)),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(StoreError::InUse { path: path.to_owned() }),
        // After a power cut redb wants to write first.
        Err(DatabaseError::RepairAborted) => Ok(Handle::Writer(Arc::new(open_writer(path)?))),
        Err(error) => Err(failed(path, "be opened")(error)),
    }
}

pub(super) fn open_writer(path: &Path) -> Result<Database, StoreError> {
    if !exists(path)? {
        create(path)?;
    }
    match Database::builder().set_cache_size(CACHE_BYTES).create(path) {
        Ok(database) => Ok(database),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(StoreError::InUse { path: path.to_owned() }),
        Err(error) => Err(failed(path, "be opened for writing")(error)),
    }
}
