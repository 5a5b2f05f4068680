//! The open database of a state. After the disk failed it is opened anew: redb refuses everything once a write has failed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fail::fail_point;
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::error::Fault;
use super::file::{self, HeldFile, Retirement};
use super::{StoreError, damage};
use crate::report::with_causes;

/// Bytes that are written to see whether the disk takes any: more than most operations need.
const TRIAL_BYTES: usize = 256 << 10;

/// What was tried, in messages.
const WHAT_READ: &str = "be read";

/// A state's database, shared by all threads that read or write it.
pub(crate) struct Storage {
    path: PathBuf,
    /// `None` for a copy in memory, which is only read.
    file: Option<Arc<HeldFile>>,
    /// Held while the file is written or opened anew.
    writing: Mutex<()>,
    state: Mutex<State>,
}

struct State {
    /// `None` from a failure until the file is opened anew.
    open: Option<Arc<Open>>,
    /// Why the last write or read failed; `None` since the last write succeeded.
    trouble: Option<String>,
}

struct Open {
    database: Database,
    retirement: Retirement,
}

/// Whether a transaction is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Commit,
    /// Nothing changed.
    Abort,
}

impl Storage {
    /// Opens the state in a file and locks the file; makes it if there is none.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let held = HeldFile::open(path)?;
        let opened = held.database();
        let (database, retirement) = opened.map_err(|fault| {
            let bytes = held.bytes().unwrap_or_default();
            damage::named(fault, &bytes).at(path, "be opened for writing")
        })?;
        Ok(Self::new(path, Some(held), Open { database, retirement }))
    }

    /// A copy in memory of the state in a file; of an empty state if there is no file.
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

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the state is a copy that must not be written.
    pub(super) fn is_copy(&self) -> bool {
        self.file.is_none()
    }

    /// Why the state cannot be written now; `None` if it can, as far as is known.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }

    /// The same, and what the system says of the place without a write.
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
    /// [`StoreError`]; the state is then unchanged, or, where the disk failed at the very end, perhaps changed.
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
            // A torn commit can then be told from a damaged one.
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

    /// Notices a place that takes no writes before one is lost, and tries one that took none again.
    pub(crate) fn look_after(&self) {
        if self.trouble().is_some() {
            // Before the database is bothered: opening it anew reads all of it.
            if self.takes_bytes().is_ok() {
                // What still fails is remembered as the trouble.
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

    /// The open database; while the disk refuses to open it anew, a copy in memory.
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

    /// Opens the file anew. `_writing` is the lock that says that no other thread does.
    fn reopen(
        &self,
        _writing: &MutexGuard<'_, ()>,
        what: &'static str,
    ) -> Result<Arc<Open>, StoreError> {
        // Another thread may have been quicker.
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

    /// Checks that the path names the file that is open: what is written to another one would be lost.
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

    /// Takes a database out of use that failed.
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

    /// Remembers why the state cannot be written, and says so if that is new.
    fn state_fails(&self, why: &str) {
        let before = self.state().trouble.replace(why.to_owned());
        if before.is_none() {
            tracing::error!("{why}; nothing can be taught or updated until that is mended");
        }
    }

    /// A write succeeded.
    fn works(&self) {
        if self.trouble().is_some() && refusal(&self.path).is_none() {
            self.state().trouble = None;
            tracing::info!("state {}: can be written again", self.path.display());
        }
    }
}

/// Why the system would refuse to write a state there: a disk that failed is often made read-only.
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

/// The error of a command that wants to write but opened the state to read it.
pub(super) fn read_only(path: &Path) -> StoreError {
    Fault::Redb(redb::Error::DatabaseClosed).at(path, "be written: it was opened to be read")
}

/// Whether the system lets this process write there.
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

/// Bytes that this process may still write in a folder; `None` where the system does not say.
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
