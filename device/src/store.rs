//! The state directory: one redb file, one transaction an operation.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `about` | postcard [`About`]: format, base, feature space, next number of the journal |
//! | `classes` | key of the class name | postcard `Class` |
//! | `meta` | `adapter` | postcard `AdapterState`: what tasks have left in the network |
//! | `journal` | number of the operation | postcard `Entry`: what takes the operation back |
//! | `adapters` | number of an operation that changed the network | what tasks had left before it |
//! | `meta` | `accounts` | postcard `Accounts`: who may use the daemon's interfaces |
//! | `meta` | `update`, `update-...` | what is remembered of updates: see `Updates` |
//! | `head` | `predictor` | postcard `Predictor`, fitted to the classes of the same transaction |
//!
//! redb commits by writing everything new beside the old and then switching one of two roots, each with a
//! checksum: after a power cut the file holds the last commit that was acknowledged. It also locks the
//! file, so that only one process owns a state.

mod file;
mod journal;
mod record;
mod switch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fmlora_learner::{
    AdapterChange, AdapterState, BaseId, Change, Class, FeatureSpaceId, Learner, Operation,
    OperationKind, Predictor,
};
use redb::{
    Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    TableError, WriteTransaction,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use file::{exists, open_reader, open_writer};
pub use journal::JOURNAL_LIMIT;
pub(crate) use record::{Record, Value};

/// Version of what the tables hold.
const FORMAT: u16 = 2;

/// Name of the file in the state directory.
pub(crate) const FILE: &str = "state.redb";

const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const CLASSES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("classes");
const HEAD: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("head");

/// Why a state cannot be opened, read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The directory cannot be made.
    #[error("state directory {}: cannot be created", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process owns the state.
    #[error("state {}: in use by another fmlora-edge; stop it, or use another --state", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened, read or written.
    #[error("state {}: cannot {what}", path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What redb says.
        source: Box<redb::Error>,
    },
    /// A value that no release of ours wrote.
    #[error("state {}: {what} is damaged ({why})", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The value.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Written by another release.
    #[error("state {}: format {found}, but this program reads format {FORMAT}; export it with the program that wrote it, and import it here", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u16,
    },
    /// A value beside what was learnt that another release wrote.
    #[error("state {}: the value {key:?} has version {found}, but this program reads version {expected}; export the classes, and import them into an empty --state", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Key of the value.
        key: &'static str,
        /// The version found.
        found: u16,
        /// The version that is read.
        expected: u16,
    },
    /// Taught with another base.
    #[error("state {}: taught with base {found:.12}, but this is base {expected:.12}; use that base, or another --state", path.display())]
    OtherBase {
        /// The file.
        path: PathBuf,
        /// Base of the state.
        found: String,
        /// Base in use.
        expected: String,
    },
}

/// What a state is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    format: u16,
    base_id: BaseId,
    feature_space_id: FeatureSpaceId,
    next_operation: u64,
}

enum Handle {
    /// No file yet, and nobody asked to write.
    Absent,
    Reader(ReadOnlyDatabase),
    Writer(Arc<Database>),
}

/// The state of one device on disk.
pub struct Store {
    path: PathBuf,
    handle: Handle,
    about: About,
    adapter: Option<Arc<AdapterState>>,
}

/// Whether a command changes the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only look; several processes may.
    Read,
    /// Own the state.
    Write,
}

impl Store {
    /// Opens the state in `directory` for a base; makes it if it is to be written.
    pub(crate) fn open(
        directory: &Path,
        base_id: BaseId,
        access: Access,
    ) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let handle = match access {
            Access::Read if !exists(&path)? => Handle::Absent,
            Access::Read => open_reader(&path)?,
            Access::Write => {
                let fail = |source| StoreError::Directory { path: directory.to_owned(), source };
                std::fs::create_dir_all(directory).map_err(fail)?;
                Handle::Writer(Arc::new(open_writer(&path)?))
            }
        };
        let feature_space_id = base_id.feature_space();
        let about = About { format: FORMAT, base_id, feature_space_id, next_operation: 0 };
        let mut store = Self { path, handle, about, adapter: None };
        if let Some(about) = store.read(META, "about", "the description")? {
            store.about = about;
        }
        if store.about.format != FORMAT {
            return Err(StoreError::Format { path: store.path, found: store.about.format });
        }
        store.adapter = store.read(META, "adapter", "what tasks have left")?.map(Arc::new);
        let feature_space_id = store.feature_space_of(store.adapter.as_deref(), base_id)?;
        if store.about.base_id != base_id || store.about.feature_space_id != feature_space_id {
            let (found, expected) = (store.about.base_id.to_string(), base_id.to_string());
            return Err(StoreError::OtherBase { path: store.path, found, expected });
        }
        Ok(store)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub fn n_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |m| m.len())
    }

    /// The features that the classes are about.
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
        found.map_err(|e| self.damaged("what tasks have left".to_owned(), e.to_string()))
    }

    /// Number that the next operation will have.
    pub fn next_operation(&self) -> u64 {
        self.about.next_operation
    }

    /// All classes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] or [`StoreError::Damaged`].
    pub fn load(&self, d_feature: usize) -> Result<Learner, StoreError> {
        let mut learner = Learner::new(d_feature);
        let Some(transaction) = self.begin_read()? else { return Ok(learner) };
        let Some(table) = self.table(&transaction, CLASSES)? else { return Ok(learner) };
        let mut changes = Vec::new();
        for row in table.iter().map_err(self.failed("read the classes"))? {
            let (key, value) = row.map_err(self.failed("read a class"))?;
            let what = || format!("class {:?}", key.value());
            let class: Class = self.decode(value.value(), what)?;
            let sound = class.check(d_feature).map_err(|e| e.to_string());
            let sound = sound.and_then(|()| {
                if class.name.key() == key.value() {
                    return Ok(());
                }
                Err(format!("it is stored as {:?}", class.name.as_str()))
            });
            sound.map_err(|why| self.damaged(what(), why))?;
            changes.push(Change { before: None, after: Some(Arc::new(class)) });
        }
        let adapter =
            self.adapter.clone().map(|after| AdapterChange { before: None, after: Some(after) });
        learner.apply(&Operation { kind: OperationKind::Import, changes, adapter });
        Ok(learner)
    }

    /// The head that was fitted to the classes, if it can serve this program.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`]; a damaged head is as good as none.
    pub fn predictor(&self, learner: &Learner) -> Result<Option<Predictor>, StoreError> {
        let stored = match self.read::<Predictor>(HEAD, "predictor", "the head") {
            Err(StoreError::Damaged { .. }) => None,
            other => other?,
        };
        Ok(stored.filter(|p| p.is_current(learner.d_feature(), learner.classes().len())))
    }

    /// A value beside what was learnt that another thread keeps.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] if the state was not opened to be written.
    pub(crate) fn record(&self, key: &'static str) -> Result<Record, StoreError> {
        match &self.handle {
            Handle::Writer(database) => Ok(Record::new(database.clone(), self.path.clone(), key)),
            Handle::Absent | Handle::Reader(_) => Err(self.read_only()),
        }
    }

    fn write_classes(
        &self,
        transaction: &WriteTransaction,
        operation: &Operation,
    ) -> Result<(), StoreError> {
        let classes = transaction.open_table(CLASSES);
        let mut classes = classes.map_err(self.failed("open the classes"))?;
        for class in operation.changes.iter().filter_map(|c| c.before.as_ref()) {
            let key = class.name.key();
            classes.remove(key.as_str()).map_err(self.failed("remove a class"))?;
        }
        for class in operation.changes.iter().filter_map(|c| c.after.as_ref()) {
            let (key, bytes) = (class.name.key(), self.encode(class.as_ref())?);
            let written = classes.insert(key.as_str(), bytes.as_slice());
            written.map_err(self.failed("write a class"))?;
        }
        Ok(())
    }

    fn finish(
        &mut self,
        transaction: WriteTransaction,
        mut about: About,
        adapter: Option<Arc<AdapterState>>,
        head: &Predictor,
    ) -> Result<(), StoreError> {
        about.feature_space_id = self.feature_space_of(adapter.as_deref(), about.base_id)?;
        {
            let meta = transaction.open_table(META);
            let mut meta = meta.map_err(self.failed("open a table"))?;
            let written = match &adapter {
                Some(state) => meta.insert("adapter", self.encode(state)?.as_slice()),
                None => meta.remove("adapter"),
            };
            written.map_err(self.failed("write a table"))?;
        }
        for (definition, key, bytes) in
            [(META, "about", self.encode(&about)?), (HEAD, "predictor", self.encode(head)?)]
        {
            let table = transaction.open_table(definition);
            let mut table = table.map_err(self.failed("open a table"))?;
            table.insert(key, bytes.as_slice()).map_err(self.failed("write a table"))?;
        }
        transaction.commit().map_err(self.failed("write to disk"))?;
        (self.about, self.adapter) = (about, adapter);
        Ok(())
    }

    fn begin_read(&self) -> Result<Option<ReadTransaction>, StoreError> {
        let begun = match &self.handle {
            Handle::Absent => return Ok(None),
            Handle::Reader(database) => database.begin_read(),
            Handle::Writer(database) => database.begin_read(),
        };
        begun.map(Some).map_err(self.failed("be read"))
    }

    fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        match &self.handle {
            Handle::Writer(database) => database.begin_write().map_err(self.failed("be written")),
            Handle::Absent | Handle::Reader(_) => Err(self.read_only()),
        }
    }

    fn read_only(&self) -> StoreError {
        self.failed("be written: it was opened to be read")(redb::Error::DatabaseClosed)
    }

    fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        transaction: &ReadTransaction,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<Option<redb::ReadOnlyTable<K, V>>, StoreError> {
        match transaction.open_table(definition) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(self.failed("open a table")(error)),
        }
    }

    fn read<T: DeserializeOwned>(
        &self,
        definition: TableDefinition<'static, &'static str, &'static [u8]>,
        key: &str,
        what: &str,
    ) -> Result<Option<T>, StoreError> {
        let Some(transaction) = self.begin_read()? else { return Ok(None) };
        let Some(table) = self.table(&transaction, definition)? else { return Ok(None) };
        let value = table.get(key).map_err(self.failed("read a table"))?;
        value.map(|bytes| self.decode(bytes.value(), || what.to_owned())).transpose()
    }

    fn decode<T: DeserializeOwned>(
        &self,
        bytes: &[u8],
        what: impl Fn() -> String,
    ) -> Result<T, StoreError> {
        postcard::from_bytes(bytes).map_err(|e| self.damaged(what(), e.to_string()))
    }

    fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, StoreError> {
        let why = |e: postcard::Error| self.damaged("a new value".to_owned(), e.to_string());
        postcard::to_stdvec(value).map_err(why)
    }

    fn damaged(&self, what: String, why: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what, why }
    }

    fn failed<E: Into<redb::Error>>(&self, what: &'static str) -> impl FnOnce(E) -> StoreError {
        failed(&self.path, what)
    }
}

fn failed<E: Into<redb::Error>>(path: &Path, what: &'static str) -> impl FnOnce(E) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::Storage { path, what, source: Box::new(error.into()) }
}
