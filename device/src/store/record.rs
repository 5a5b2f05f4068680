//! A value of the state beside what was learnt, for a thread that does not own the store.

use std::path::PathBuf;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, TableError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{META, StoreError, failed};

/// One key of the table `meta`. Each write is a transaction of its own; redb lets one follow the other.
#[derive(Clone)]
pub(crate) struct Record {
    database: Arc<Database>,
    path: PathBuf,
    key: &'static str,
}

impl Record {
    pub(super) fn new(database: Arc<Database>, path: PathBuf, key: &'static str) -> Self {
        Self { database, path, key }
    }

    /// The value; `None` before the first was written.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] or [`StoreError::Damaged`].
    pub(crate) fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, StoreError> {
        let read = self.database.begin_read().map_err(failed(&self.path, "be read"))?;
        let table = match read.open_table(META) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(failed(&self.path, "open a table")(error)),
        };
        let value = table.get(self.key).map_err(failed(&self.path, "read a table"))?;
        value
            .map(|bytes| postcard::from_bytes(bytes.value()).map_err(|e| self.damaged(&e)))
            .transpose()
    }

    /// Writes the value; it is on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`].
    pub(crate) fn save(&self, value: &impl Serialize) -> Result<(), StoreError> {
        let (_, bytes) = self.value(value)?;
        let write = self.database.begin_write().map_err(failed(&self.path, "be written"))?;
        {
            let mut table = write.open_table(META).map_err(failed(&self.path, "open a table"))?;
            let written = table.insert(self.key, bytes.as_slice());
            written.map_err(failed(&self.path, "write a table"))?;
        }
        write.commit().map_err(failed(&self.path, "write to disk"))
    }

    /// The value as a transaction of the store writes it, with its key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] for a value that cannot be written.
    pub(crate) fn value(
        &self,
        value: &impl Serialize,
    ) -> Result<(&'static str, Vec<u8>), StoreError> {
        let bytes = postcard::to_stdvec(value).map_err(|e| self.damaged(&e))?;
        Ok((self.key, bytes))
    }

    fn damaged(&self, why: &postcard::Error) -> StoreError {
        let what = format!("the value {:?}", self.key);
        StoreError::Damaged { path: self.path.clone(), what, why: why.to_string() }
    }
}
