//! The open database of a state. It is reopened after a disk failure, because redb refuses all
//! access once a write has failed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fail::fail_point;
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::error::Fault;
use super::file::{self, HeldFile, Retirement};
use super::{StoreError, damage};
use crate::report::with_causes;

/// Size of the trial write that tests the disk: more than most operations need.
const TRIAL_BYTES: usize = 256 << 10;

/// The attempted action, in messages.
const WHAT_READ: &str = "be read";

/// A state's database, shared by all threads that read or write it.
pub(crate) struct Storage {
    path: PathBuf,
    /// `None` for a read-only copy in memory.
    file: Option<Arc<HeldFile>>,
    /// Held while the file is written or reopened.
    writing: Mutex<()>,
    state: Mutex<State>,
}

struct State {
    /// `None` from a failure until the file is reopened.
    open: Option<Arc<Open>>,
    /// Reason for the last failed write or read; `None` after a successful write.
    trouble: Option<String>,
}

struct Open {
    database: Database,
    retirement: Retirement,
}

/// End of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Commit,
    /// Nothing changed.
    Abort,
}

impl Storage {
    /// Opens the state in a file and locks the file. Creates it if there is none.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let held = HeldFile::open(path)?;
        let opened = held.database();
        let (database, retirement) = opened.map_err(|fault| {
            let bytes = held.bytes().unwrap_or_default();
            damage::named(fault, &bytes).at(path, "be opened for writing")
        })?;
        Ok(Self::new(path, Some(held), Open { database, retirement }))
    }

    /// Copies the state in a file into memory. Without a file, the state is empty.
    pub(super) fn copy(path: &Path) -> Result<Self, StoreError> {
        let bytes = if file::exists(path)? { file::read(path)? } else { Vec::new() };
        let opened = file::in_memory(&bytes);
        let database =
            opened.map_err(|fault| damage::named(fault, &bytes).at(path, "be opened"))?;
        Ok(Self::new(path, None, Open { database, retirement: Retirement::default() }))
    }

    fn new(path: &Path, file: Option<Arc<HeldFile>>, open: Open) -> Self {
        let state = State { open: Some(Arc::new(open)), trouble: None };
        Self { path: path.to_owned(), file, writing: Mutex::default(), state: Mutex::new(state) }
    }

    /// Path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if the state is a copy that must not be written.
    pub(super) fn is_copy(&self) -> bool {
        self.file.is_none()
    }

    /// Returns the reason why the state cannot be written now; `None` if none is known.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }

    /// Like [`Storage::trouble`], and also asks the system for permissions and free space, without
    /// a write.
    pub(crate) fn trouble_now(&self) -> Option<String> {
        self.trouble().or_else(|| refusal(&self.path))
    }

    /// Reads within one transaction.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    pub(super) fn read<T>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let open = self.readable()?;
        let begun = open.database.begin_read().map_err(Fault::from);
        begun.and_then(|read| look(&read)).map_err(|fault| self.failed(&open, fault, WHAT_READ))
    }

    /// Changes the state within one transaction that is on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. The state is then unchanged, but for a disk failure at the very end, after
    /// which it may be changed.
    pub(super) fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(T, End), Fault>,
    ) -> Result<T, StoreError> {
        const WHAT: &str = "be written";
        let writing = lock(&self.writing);
        self.is_in_place(WHAT)?;
        let open = match self.current() {
            Some(open) => open,
            None => self.reopen(&writing, WHAT)?,
        };
        let commit = || {
            let mut write = open.database.begin_write()?;
            // Tells a torn commit from a damaged one.
            write.set_two_phase_commit(true);
            let (told, end) = change(&write)?;
            match end {
                End::Commit => write.commit()?,
                End::Abort => write.abort()?,
            }
            Ok((told, end))
        };
        let (told, end) = commit().map_err(|fault| self.failed(&open, fault, WHAT))?;
        if end == End::Commit {
            self.works();
        }
        Ok(told)
    }

    /// Checks that the disk takes writes, before an operation fails. After a failure, tries to
    /// write again.
    pub(crate) fn look_after(&self) {
        if self.trouble().is_some() {
            // Tested before the database, because reopening it reads the whole file.
            if self.takes_bytes().is_ok() {
                // A failure is stored as the trouble.
                let _ = self.write(super::touch);
            }
        } else if let Some(why) = refusal(&self.path) {
            self.state_fails(&why);
        }
    }

    fn takes_bytes(&self) -> std::io::Result<()> {
        let mut file = tempfile::tempfile_in(folder_of(&self.path))?;
        file.write_all(&vec![0x55; TRIAL_BYTES])?;
        file.sync_all()
    }

    /// Returns the open database; a copy in memory while the disk refuses to reopen it.
    fn readable(&self) -> Result<Arc<Open>, StoreError> {
        if let Some(open) = self.current() {
            return Ok(open);
        }
        let writing = lock(&self.writing);
        self.reopen(&writing, WHAT_READ).or_else(|error| {
            let held = self.file.as_ref().ok_or(error)?;
            let copied = held.bytes().and_then(|bytes| file::in_memory(&bytes));
            let database = copied.map_err(|fault| fault.at(&self.path, WHAT_READ))?;
            Ok(Arc::new(Open { database, retirement: Retirement::default() }))
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn current(&self) -> Option<Arc<Open>> {
        self.state().open.clone()
    }

    /// Reopens the file. `_writing` is the lock that excludes other threads.
    fn reopen(
        &self,
        _writing: &MutexGuard<'_, ()>,
        what: &'static str,
    ) -> Result<Arc<Open>, StoreError> {
        // Another thread may have reopened it first.
        if let Some(open) = self.current() {
            return Ok(open);
        }
        let held = self.file.as_ref().ok_or_else(|| read_only(&self.path))?;
        let (database, retirement) = held.database().map_err(|fault| {
            let error = fault.at(&self.path, what);
            self.state_fails(&with_causes(&error));
            error
        })?;
        let open = Arc::new(Open { database, retirement });
        self.state().open = Some(open.clone());
        Ok(open)
    }

    /// Checks that the path still names the open file. Writes to a file that was moved would be
    /// lost.
    fn is_in_place(&self, what: &'static str) -> Result<(), StoreError> {
        let Some(held) = &self.file else { return Ok(()) };
        match held.is_at(&self.path) {
            Ok(true) => Ok(()),
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Fault::from(e).at(&self.path, what))
            }
            Ok(false) | Err(_) => Err(StoreError::Replaced { path: self.path.clone() }),
        }
    }

    /// Takes a database out of use after a disk failure.
    fn failed(&self, open: &Arc<Open>, fault: Fault, what: &'static str) -> StoreError {
        let disk = matches!(fault, Fault::Redb(_));
        let error = fault.at(&self.path, what);
        if disk {
            open.retirement.begin();
            let mut state = self.state();
            if state.open.as_ref().is_some_and(|now| Arc::ptr_eq(now, open)) {
                state.open = None;
            }
            drop(state);
            self.state_fails(&with_causes(&error));
        }
        error
    }

    /// Stores the reason why the state cannot be written, and logs it if there was none before.
    fn state_fails(&self, why: &str) {
        let before = self.state().trouble.replace(why.to_owned());
        if before.is_none() {
            tracing::error!("{why}; nothing can be taught or updated until that is mended");
        }
    }

    /// Clears the trouble after a successful write.
    fn works(&self) {
        if self.trouble().is_some() && refusal(&self.path).is_none() {
            self.state().trouble = None;
            tracing::info!("state {}: can be written again", self.path.display());
        }
    }
}

/// Returns the reason why the system would refuse to write a state there. A disk that failed is
/// often made read-only.
pub(crate) fn refusal(path: &Path) -> Option<String> {
    let folder = folder_of(path);
    let refused = [folder, path].into_iter().find_map(|path| {
        let why = writable(path).err()?;
        Some(format!("{}: cannot be written: {why}", path.display()))
    });
    refused.or_else(|| {
        let left = bytes_left(folder).filter(|left| *left < TRIAL_BYTES as u64)?;
        Some(format!("{}: the disk is full: {} KiB are left", folder.display(), left >> 10))
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Error of a write to a state that was opened for reading.
pub(super) fn read_only(path: &Path) -> StoreError {
    Fault::Redb(redb::Error::DatabaseClosed).at(path, "be written: it was opened to be read")
}

/// Checks that the system lets this process write there.
#[cfg(unix)]
fn writable(path: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::access(path, rustix::fs::Access::WRITE_OK)?)
}

#[cfg(not(unix))]
fn writable(path: &Path) -> std::io::Result<()> {
    if std::fs::metadata(path)?.permissions().readonly() {
        return Err(std::io::ErrorKind::PermissionDenied.into());
    }
    Ok(())
}

/// Returns the bytes that this process may still write in a folder; `None` if the system does not
/// report them.
#[cfg(unix)]
fn bytes_left(folder: &Path) -> Option<u64> {
    fail_point!("storage-left", |bytes| bytes.and_then(|bytes| bytes.parse().ok()));
    let about = rustix::fs::statvfs(folder).ok().filter(|about| about.f_blocks > 0)?;
    let is_root = rustix::process::geteuid().is_root();
    let blocks = if is_root { about.f_bfree } else { about.f_bavail };
    Some(blocks.saturating_mul(about.f_frsize))
}

#[cfg(not(unix))]
fn bytes_left(_: &Path) -> Option<u64> {
    None
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
