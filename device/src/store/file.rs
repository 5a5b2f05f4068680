//! The file of a state, created atomically, and locked by one process for as long as it runs.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fail::fail_point;
use redb::backends::{FileBackend, InMemoryBackend};
use redb::{BackendError, Database, StorageBackend};

use super::StoreError;
use super::error::Fault;

/// Lock range: every byte of the file, including bytes appended later.
const WHOLE: (Bound<u64>, Bound<u64>) = (Bound::Unbounded, Bound::Unbounded);

/// Size of redb's page cache. Its default is up to 1 GiB, and values that are read often are in
/// memory anyway.
const CACHE_BYTES: usize = 2 << 20;

/// The locked file. Databases on it are opened and closed; the lock stays.
pub(super) struct HeldFile {
    backend: FileBackend,
    identity: Identity,
}

/// Device and inode number of a file, on systems that have them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity([u64; 2]);

impl fmt::Debug for HeldFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the file of the state")
    }
}

impl HeldFile {
    /// Opens and locks the file. Creates an empty state first if there is no file.
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, StoreError> {
        let fail = |fault: Fault| fault.at(path, "be opened for writing");
        if !exists(path)? {
            create(path).map_err(|fault| fault.at(path, "be created"))?;
        }
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let file = opened.map_err(|e| fail(e.into()))?;
        let about = file.metadata().map_err(|e| fail(e.into()))?;
        let identity = identity(&about);
        let backend = FileBackend::new(file).map_err(|e| fail(e.into()))?;
        match backend.try_lock_range(WHOLE.0, WHOLE.1) {
            // Some file systems have no locks.
            Ok(true) | Err(BackendError::Unsupported) => {}
            Ok(false) => return Err(StoreError::InUse { path: path.to_owned() }),
            Err(error) => return Err(fail(lock_failure(error))),
        }
        not_empty(about.len()).map_err(fail)?;
        Ok(Arc::new(Self { backend, identity }))
    }

    /// Opens the database in the file, and checks its integrity.
    pub(super) fn database(self: &Arc<Self>) -> Result<(Database, Retirement), Fault> {
        let retirement = Retirement::default();
        let backend = Door { file: self.clone(), retirement: retirement.clone() };
        let length = self.backend.len()?;
        not_empty(length)?;
        Ok((builder().create_with_backend(backend)?, retirement))
    }

    /// All bytes of the file.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, Fault> {
        bytes_of(&self.backend)
    }

    /// Returns true if the path still names this file.
    pub(super) fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(identity(&std::fs::metadata(path)?) == self.identity)
    }
}

#[cfg(unix)]
fn identity(about: &std::fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    Identity([about.dev(), about.ino()])
}

#[cfg(not(unix))]
fn identity(_: &std::fs::Metadata) -> Identity {
    Identity([0, 0])
}

/// Ends a database's access to the file. The database itself may live on in a reader.
#[derive(Debug, Clone, Default)]
pub(super) struct Retirement(Arc<AtomicBool>);

impl Retirement {
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Acquire) {
            return Err(io::Error::other("the state was opened anew"));
        }
        Ok(())
    }
}

/// One database's access to the locked file.
#[derive(Debug)]
struct Door {
    file: Arc<HeldFile>,
    retirement: Retirement,
}

impl StorageBackend for Door {
    fn len(&self) -> io::Result<u64> {
        self.retirement.check()?;
        self.file.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.retirement.check()?;
        self.file.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.retirement.check()?;
        fail_point!("storage-full", |_| Err(io::ErrorKind::StorageFull.into()));
        self.file.backend.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.retirement.check()?;
        fail_point!("storage-sync", |_| Err(io::Error::other("a test says so")));
        self.file.backend.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.retirement.check()?;
        fail_point!("storage-full", |_| Err(io::ErrorKind::StorageFull.into()));
        self.file.backend.write(offset, data)
    }

    /// The file is locked already, and stays locked when this database is closed.
    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}

/// Returns true if there is a state. A folder without search permission is an error, not an empty
/// state. So is a dangling symlink, for example to a stick that is not plugged in.
pub(super) fn exists(path: &Path) -> Result<bool, StoreError> {
    let fail = |error: io::Error| Fault::from(error).at(path, "be looked for");
    if path.try_exists().map_err(fail)? {
        return Ok(true);
    }
    if path.is_symlink() {
        let why = "it is a link to a file that is not there";
        return Err(fail(io::Error::new(io::ErrorKind::NotFound, why)));
    }
    Ok(false)
}

/// Reads the bytes of a state. The file must not be in use by a writing process.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    let fail = |fault: Fault| fault.at(path, "be opened");
    let file = File::open(path).map_err(|e| fail(e.into()))?;
    let backend = FileBackend::new(file).map_err(|e| fail(e.into()))?;
    match backend.try_lock_shared_range(WHOLE.0, WHOLE.1) {
        Ok(true) | Err(BackendError::Unsupported) => {}
        Ok(false) => return Err(StoreError::InUse { path: path.to_owned() }),
        Err(error) => return Err(fail(lock_failure(error))),
    }
    let bytes = bytes_of(&backend).map_err(fail)?;
    not_empty(bytes.len() as u64).map_err(fail)?;
    Ok(bytes)
}

fn bytes_of(backend: &FileBackend) -> Result<Vec<u8>, Fault> {
    let mut bytes = vec![0; backend.len()? as usize];
    backend.read(0, &mut bytes)?;
    Ok(bytes)
}

/// Opens a database in memory that holds these bytes, and checks its integrity. Without bytes, it
/// is empty.
pub(super) fn in_memory(bytes: &[u8]) -> Result<Database, Fault> {
    Ok(builder().create_with_backend(memory(bytes)?)?)
}

/// Opens it without the integrity check. redb may panic on damaged bytes.
pub(super) fn in_memory_unchecked(bytes: &[u8]) -> Result<Database, Fault> {
    let mut builder = Database::builder();
    Ok(builder.set_cache_size(CACHE_BYTES).create_with_backend(memory(bytes)?)?)
}

fn memory(bytes: &[u8]) -> io::Result<InMemoryBackend> {
    let memory = InMemoryBackend::new();
    memory.set_len(bytes.len() as u64)?;
    memory.write(0, bytes)?;
    Ok(memory)
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

fn not_empty(length: u64) -> Result<(), Fault> {
    if length > 0 {
        return Ok(());
    }
    let why = "it is empty, as a power cut can leave a file".to_owned();
    Err(Fault::Damaged { what: "the file".to_owned(), why })
}

fn lock_failure(error: BackendError) -> Fault {
    Fault::from(match error {
        BackendError::Io(error) => error,
        other => io::Error::other(other.to_string()),
    })
}

/// Creates an empty state under another name, and renames it. redb writes its magic number last: a
/// file left without it by a power cut could never be opened again.
fn create(path: &Path) -> Result<(), Fault> {
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    drop(Database::create(&new)?);
    std::fs::rename(&new, path)?;
    // The name is on disk only after a sync of the folder.
    let folder = path.parent().unwrap_or(Path::new("."));
    Ok(File::open(folder).and_then(|f| f.sync_all())?)
}
