//! The state directory: one redb file, one transaction an operation.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `about` | postcard [`About`]: format, base, feature space, next number of the journal |
//! | `classes` | key of the class name | postcard `Class` |
//! | `parts` | key of the class name | postcard `Parts`: the parts of the class that come from adapters |
//! | `meta` | `adapter` | postcard `AdapterState`: the adapter state of all tasks |
//! | `journal` | number of the operation | postcard `Entry`: the data for undo |
//! | `journal-parts` | number of the operation | parts of its classes from adapters, before it |
//! | `adapters` | number of an operation that changed the network | adapter state before it |
//! | `meta` | `prior` | the prior in the feature space after a task: see `Session` |
//! | `meta` | `accounts` | postcard `Accounts`: passwords and tokens of the daemon's interfaces |
//! | `meta` | `update`, `update-...` | state of the update client: see `Updates` |
//! | `head` | `predictor` | postcard `Predictor`, fitted to the classes of the same transaction |
//!
//! A checksum follows each value (`store/tables.rs`).
//!
//! redb commits by writing all new pages beside the old ones and then switching one of two roots,
//! each with a checksum: after a power cut the file holds the last commit that was acknowledged.
//! All checksums are compared when the file is opened. The file is locked, so that only one process
//! owns a state. Read-only commands work on a copy in memory.

mod damage;
mod error;
mod file;
mod journal;
mod parts;
mod record;
mod storage;
mod switch;
mod tables;
#[cfg(test)]
mod tests;
mod upgrade;

use std::path::Path;
use std::sync::Arc;

use fmlora_learner::{
    AdapterChange, AdapterState, BaseId, Change, Class, FeatureSpaceId, Learner, Operation,
    OperationKind, Predictor,
};
use redb::{ReadTransaction, WriteTransaction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use error::Fault;
pub use error::StoreError;
pub use journal::JOURNAL_LIMIT;
pub(crate) use parts::{Parts, fingerprint};
pub(crate) use record::{Record, Value};
use storage::{End, read_only};
pub(crate) use storage::{Storage, refusal};
use tables::{CLASSES, HEAD, META, PARTS};

/// Version of the tables.
const FORMAT: u16 = 4;

/// Name of the file in the state directory.
pub(crate) const FILE: &str = "state.redb";

/// Description of a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    format: u16,
    base_id: BaseId,
    feature_space_id: FeatureSpaceId,
    next_operation: u64,
}

impl Record {
    /// Returns the feature space of the classes, read from the value `about`; `None` before the
    /// first operation.
    ///
    /// # Errors
    ///
    /// Those of [`Record::load`].
    pub(crate) fn feature_space_id(&self) -> Result<Option<FeatureSpaceId>, StoreError> {
        Ok(self.load::<About>()?.map(|about| about.feature_space_id))
    }
}

/// The state of one device on disk.
pub struct Store {
    storage: Arc<Storage>,
    about: About,
    adapter: Option<Arc<AdapterState>>,
}

/// Access of a command to the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Read only; several processes may have it.
    Read,
    /// Read and write; one process owns the state.
    Write,
}

impl Store {
    /// Opens the state in `directory` for a base. With write access, creates it if it is missing.
    pub(crate) fn open(
        directory: &Path,
        base_id: BaseId,
        access: Access,
    ) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let storage = match access {
            Access::Read => Storage::copy(&path)?,
            Access::Write => {
                let fail = |source| StoreError::Directory { path: directory.to_owned(), source };
                std::fs::create_dir_all(directory).map_err(fail)?;
                Storage::open(&path)?
            }
        };
        let feature_space_id = base_id.feature_space();
        let new = About { format: FORMAT, base_id, feature_space_id, next_operation: 0 };
        upgrade::to_current(&storage, &new)?;
        let (about, adapter) = storage.read(described)?;
        let store = Self { storage: Arc::new(storage), about, adapter };
        let expected = store.feature_space_of(store.adapter.as_deref(), base_id)?;
        if store.about.base_id != base_id || store.about.feature_space_id != expected {
            let found = store.about.base_id.to_string();
            let expected = base_id.to_string();
            return Err(StoreError::OtherBase { path, found, expected });
        }
        Ok(store)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        self.storage.path()
    }

    /// Returns the open file, for other threads.
    pub(crate) fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// Returns the size of the file in bytes.
    pub fn n_bytes(&self) -> u64 {
        std::fs::metadata(self.path()).map_or(0, |m| m.len())
    }

    /// Returns the feature space of the classes.
    pub fn feature_space_id(&self) -> FeatureSpaceId {
        self.about.feature_space_id
    }

    fn feature_space_of(
        &self,
        adapter: Option<&AdapterState>,
        base_id: BaseId,
    ) -> Result<FeatureSpaceId, StoreError> {
        let Some(state) = adapter else { return Ok(base_id.feature_space()) };
        let found = base_id.feature_space_after(state);
        found.map_err(|e| self.damaged("the state of the network".to_owned(), e.to_string()))
    }

    /// Returns the number of the next operation.
    pub fn next_operation(&self) -> u64 {
        self.about.next_operation
    }

    /// Reads all classes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] or [`StoreError::Damaged`].
    pub fn load(&self, d_feature: usize) -> Result<Learner, StoreError> {
        self.storage.read(|transaction| learner(transaction, d_feature, self.adapter.clone()))
    }

    /// Reads the file again, and returns the classes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] or [`StoreError::Damaged`]; the store is then unchanged.
    pub(crate) fn reload(&mut self, d_feature: usize) -> Result<Learner, StoreError> {
        let read = |transaction: &ReadTransaction| {
            let (about, adapter) = described(transaction)?;
            let learner = learner(transaction, d_feature, adapter.clone())?;
            Ok((about, adapter, learner))
        };
        let (about, adapter, learner) = self.storage.read(read)?;
        self.about = about;
        self.adapter = adapter;
        Ok(learner)
    }

    /// Reads the head that was fitted to the classes; `None` if this program cannot use it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`]; a damaged head counts as missing.
    pub fn predictor(&self, learner: &Learner) -> Result<Option<Predictor>, StoreError> {
        let stored = self.storage.read(|transaction| match HEAD.read(transaction)? {
            Some(rows) => rows.get::<Predictor>("predictor"),
            None => Ok(None),
        });
        let stored = match stored {
            Err(StoreError::Damaged { .. }) => None,
            other => other?,
        };
        Ok(stored.filter(|p| p.is_current(learner.d_feature(), learner.classes().len())))
    }

    /// Returns a handle to a value of the table `meta`, for another thread.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] if the state was opened without write access.
    pub(crate) fn record(&self, key: &'static str) -> Result<Record, StoreError> {
        self.writable()?;
        Ok(Record::new(self.storage.clone(), key))
    }

    /// Reads a value of the table `meta` that has this version; also with read-only access.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`], [`StoreError::Damaged`] or [`StoreError::Version`].
    pub(crate) fn value<T: DeserializeOwned>(
        &self,
        key: &'static str,
        version: u16,
    ) -> Result<Option<T>, StoreError> {
        Record::new(self.storage.clone(), key).versioned(version).load()
    }

    /// Writes a change of the state and the new head as one transaction.
    fn write(
        &mut self,
        mut about: About,
        adapter: Option<Arc<AdapterState>>,
        head: &Predictor,
        change: impl FnOnce(&WriteTransaction) -> Result<(), Fault>,
    ) -> Result<(), StoreError> {
        about.feature_space_id = self.feature_space_of(adapter.as_deref(), about.base_id)?;
        self.writable()?.write(|transaction| {
            change(transaction)?;
            let mut meta = META.write(transaction)?;
            match &adapter {
                Some(state) => meta.insert("adapter", state)?,
                None => meta.remove("adapter")?,
            }
            meta.insert("about", &about)?;
            HEAD.write(transaction)?.insert("predictor", head)?;
            Ok(((), End::Commit))
        })?;
        self.about = about;
        self.adapter = adapter;
        Ok(())
    }

    fn writable(&self) -> Result<&Storage, StoreError> {
        if self.storage.is_copy() {
            return Err(read_only(self.path()));
        }
        Ok(&self.storage)
    }

    fn damaged(&self, what: String, why: String) -> StoreError {
        StoreError::Damaged { path: self.path().to_owned(), what, why }
    }
}

/// Reads the description and the adapter state.
fn described(transaction: &ReadTransaction) -> Result<(About, Option<Arc<AdapterState>>), Fault> {
    let missing = || Fault::Damaged {
        what: "the description of the state".to_owned(),
        why: "it is missing".to_owned(),
    };
    let meta = META.read(transaction)?.ok_or_else(missing)?;
    let about: About = meta.get("about")?.ok_or_else(missing)?;
    Ok((about, meta.get("adapter")?.map(Arc::new)))
}

fn learner(
    transaction: &ReadTransaction,
    d_feature: usize,
    adapter: Option<Arc<AdapterState>>,
) -> Result<Learner, Fault> {
    let mut learner = Learner::new(d_feature);
    let Some(rows) = CLASSES.read(transaction)? else { return Ok(learner) };
    let parts = PARTS.read(transaction)?;
    let mut changes = Vec::new();
    rows.for_each(|key, class: Class| {
        let part = parts.as_ref().map_or(Ok(None), |parts| parts.get::<Parts>(key))?;
        let class = match part {
            Some(part) => part.attached_to(class),
            None => class,
        };
        let sound = class.check(d_feature).map_err(|e| e.to_string()).and_then(|()| {
            if class.name.key() == key {
                return Ok(());
            }
            Err(format!("it is stored as \"{key}\""))
        });
        let what = || format!("class \"{}\"", class.name);
        sound.map_err(|why| Fault::Damaged { what: what(), why })?;
        changes.push(Change { before: None, after: Some(Arc::new(class)) });
        Ok(())
    })?;
    let adapter = adapter.map(|after| AdapterChange { before: None, after: Some(after) });
    learner.apply(&Operation { kind: OperationKind::Import, changes, adapter });
    Ok(learner)
}

/// Replaces the classes of an operation by their new versions.
fn write_classes(transaction: &WriteTransaction, operation: &Operation) -> Result<(), Fault> {
    let mut classes = CLASSES.write(transaction)?;
    let mut parts = PARTS.write(transaction)?;
    for class in operation.changes.iter().filter_map(|c| c.before.as_ref()) {
        classes.remove(class.name.key().as_str())?;
        parts.remove(class.name.key().as_str())?;
    }
    for class in operation.changes.iter().filter_map(|c| c.after.as_ref()) {
        classes.insert(class.name.key().as_str(), class.as_ref())?;
        if let Some(own) = Parts::of(class) {
            parts.insert(class.name.key().as_str(), &own)?;
        }
    }
    Ok(())
}

/// Writes the description unchanged, as a test of the disk.
fn touch(transaction: &WriteTransaction) -> Result<((), End), Fault> {
    let mut meta = META.write(transaction)?;
    if let Some(about) = meta.bytes("about")? {
        meta.insert_bytes("about", about)?;
    }
    Ok(((), End::Commit))
}
