//! A value of the state beside what was learnt, for a thread that does not own the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{META, StoreError, failed};

/// One key of the table `meta`. Each write is a transaction of its own; redb lets one follow the other.
#[derive(Clone)]
pub(crate) struct Record {
    database: Arc<Database>,
    path: PathBuf,
    key: &'static str,
    /// What stands before the value, as a varint; `None` for nothing.
    version: Option<u16>,
}

/// A key of the table `meta` and the bytes that belong to it.
pub(crate) type Value = (&'static str, Vec<u8>);

impl Record {
    pub(super) fn new(database: Arc<Database>, path: PathBuf, key: &'static str) -> Self {
        Self { database, path, key, version: None }
    }

    /// With this version before the value; any other is refused.
    pub(crate) fn versioned(self, version: u16) -> Self {
        Self { version: Some(version), ..self }
    }

    /// The value; `None` before the first was written.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`], [`StoreError::Damaged`] or [`StoreError::Version`].
    pub(crate) fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, StoreError> {
        let read = self.database.begin_read().map_err(failed(&self.path, "be read"))?;
        let table = match read.open_table(META) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(failed(&self.path, "open a table")(error)),
        };
        let value = table.get(self.key).map_err(failed(&self.path, "read a table"))?;
        value.map(|bytes| self.decode(bytes.value())).transpose()
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

    /// Changes the value, or the one that `new` makes before the first was written, and writes other values with it. It is
    /// one transaction: nothing that another thread writes comes between reading and writing.
    ///
    /// # Errors
    ///
    /// Those of [`Record::load`] and [`Record::save`].
    pub(crate) fn change<T: DeserializeOwned + Serialize, R>(
        &self,
        new: impl FnOnce() -> T,
        also: &[Value],
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<R, StoreError> {
        let write = self.database.begin_write().map_err(failed(&self.path, "be written"))?;
        let told = {
            let mut table = write.open_table(META).map_err(failed(&self.path, "open a table"))?;
            let before = {
                let value = table.get(self.key).map_err(failed(&self.path, "read a table"))?;
                value.map(|bytes| bytes.value().to_vec())
            };
            let known = before.as_deref().map(|bytes| self.decode(bytes)).transpose()?;
            let mut value = known.unwrap_or_else(new);
            let told = change(&mut value);
            let (_, after) = self.value(&value)?;
            if before.as_ref() == Some(&after) && also.is_empty() {
                // What ends without a commit has not been.
                return Ok(told);
            }
            let own = (self.key, after.as_slice());
            for (key, bytes) in also.iter().map(|(key, bytes)| (*key, &**bytes)).chain([own]) {
                let written = table.insert(key, bytes);
                written.map_err(failed(&self.path, "write a table"))?;
            }
            told
        };
        write.commit().map_err(failed(&self.path, "write to disk"))?;
        Ok(told)
    }

    /// The value as a transaction of the store writes it, with its key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] for a value that cannot be written.
    pub(crate) fn value(&self, value: &impl Serialize) -> Result<Value, StoreError> {
        let bytes = match self.version {
            Some(version) => postcard::to_stdvec(&(version, value)),
            None => postcard::to_stdvec(value),
        };
        Ok((self.key, bytes.map_err(|e| self.damaged(&e))?))
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, StoreError> {
        match self.version {
            Some(version) => decode_versioned(&self.path, self.key, version, bytes),
            None => postcard::from_bytes(bytes).map_err(|e| self.damaged(&e)),
        }
    }

    fn damaged(&self, why: &postcard::Error) -> StoreError {
        damaged(&self.path, self.key, why)
    }
}

/// Reads a value that stands behind its version.
pub(super) fn decode_versioned<T: DeserializeOwned>(
    path: &Path,
    key: &'static str,
    expected: u16,
    bytes: &[u8],
) -> Result<T, StoreError> {
    let wrong = |e: postcard::Error| damaged(path, key, &e);
    let (found, value) = postcard::take_from_bytes(bytes).map_err(wrong)?;
    if found != expected {
        return Err(StoreError::Version { path: path.to_owned(), key, found, expected });
    }
    postcard::from_bytes(value).map_err(wrong)
}

fn damaged(path: &Path, key: &str, why: &postcard::Error) -> StoreError {
    let (path, what) = (path.to_owned(), format!("the value {key:?}"));
    StoreError::Damaged { path, what, why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn record(folder: &TempDir) -> Record {
        let path = folder.path().join("state.redb");
        let database = Arc::new(Database::create(&path).expect("a database"));
        Record::new(database, path, "update")
    }

    #[test]
    fn a_value_of_another_version_is_told_from_a_damaged_one() {
        let folder = TempDir::new().expect("a folder");
        let plain = record(&folder);
        let [first, second] = [1, 2].map(|version| plain.clone().versioned(version));
        assert_eq!(first.load::<u64>().expect("nothing yet"), None);
        first.save(&7_u64).expect("written");
        assert_eq!(first.load::<u64>().expect("the value"), Some(7));
        let error = second.load::<u64>().expect_err("another version").to_string();
        let says = "the value \"update\" has version 1, but this program reads version 2; export";
        assert!(error.contains(says), "{error}");
        // As it was before there were versions: a text of 32 letters.
        plain.save(&"a".repeat(32)).expect("written");
        assert!(matches!(first.load::<u64>(), Err(StoreError::Version { found: 32, .. })));
        plain.save(&1_u8).expect("written");
        assert!(matches!(first.load::<u64>(), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn a_change_and_what_belongs_to_it_are_one_transaction() {
        let folder = TempDir::new().expect("a folder");
        let number = record(&folder).versioned(1);
        let other = Record { key: "other", version: None, ..number.clone() };
        let also = [other.value(&"a").expect("a value")];
        let double = |number: &mut u64| {
            *number *= 2;
            *number
        };
        assert_eq!(number.change(|| 5, &also, double).expect("written"), 10);
        assert_eq!(number.change(|| 5, &[], double).expect("written"), 20);
        assert_eq!(number.load::<u64>().expect("read"), Some(20));
        assert_eq!(other.load::<String>().expect("read").as_deref(), Some("a"));
    }
}
