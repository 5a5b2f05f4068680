//! A value of the table `meta`, for a thread that does not own the store.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use super::error::Fault;
use super::storage::{End, Storage};
use super::tables::META;

/// One key of the table `meta`. Each write is a transaction of its own.
#[derive(Clone)]
pub(crate) struct Record {
    storage: Arc<Storage>,
    key: &'static str,
    /// Version that is stored before the value, as a varint; `None` for no version.
    version: Option<u16>,
}

/// A key of the table `meta` and its encoded value.
pub(crate) type Value = (&'static str, Vec<u8>);

impl Record {
    pub(super) fn new(storage: Arc<Storage>, key: &'static str) -> Self {
        Self { storage, key, version: None }
    }

    /// Stores this version before the value. A value of any other version is refused.
    pub(crate) fn versioned(self, version: u16) -> Self {
        Self { version: Some(version), ..self }
    }

    /// Reads the value; `None` if it was never written.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`], [`StoreError::Damaged`] or [`StoreError::Version`].
    pub(crate) fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, StoreError> {
        self.storage.read(|transaction| {
            let Some(rows) = META.read(transaction)? else { return Ok(None) };
            rows.bytes(self.key)?.map(|bytes| self.decode(&bytes)).transpose()
        })
    }

    /// Writes the value; it is on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`].
    pub(crate) fn save(&self, value: &impl Serialize) -> Result<(), StoreError> {
        self.storage.write(|transaction| {
            META.write(transaction)?.insert_bytes(self.key, self.encode(value)?)?;
            Ok(((), End::Commit))
        })
    }

    /// Changes the value, and writes the values of `also` with it. If there is no value yet,
    /// changes the one that `new` makes. Reading and writing are one transaction: no write of
    /// another thread comes between.
    ///
    /// # Errors
    ///
    /// The errors of [`Record::load`] and [`Record::save`].
    pub(crate) fn change<T: DeserializeOwned + Serialize, R>(
        &self,
        new: impl FnOnce() -> T,
        also: &[Value],
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<R, StoreError> {
        self.storage.write(|transaction| {
            let mut meta = META.write(transaction)?;
            let before = meta.bytes(self.key)?;
            let known = before.as_deref().map(|bytes| self.decode(bytes)).transpose()?;
            let mut value = known.unwrap_or_else(new);
            let told = change(&mut value);
            let after = self.encode(&value)?;
            if before.as_ref() == Some(&after) && also.is_empty() {
                return Ok((told, End::Abort));
            }
            for (key, bytes) in also {
                meta.insert_bytes(key, bytes.clone())?;
            }
            meta.insert_bytes(self.key, after)?;
            Ok((told, End::Commit))
        })
    }

    /// Encodes the value for a transaction of the store, and returns it with its key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] for a value that cannot be written.
    pub(crate) fn value(&self, value: &impl Serialize) -> Result<Value, StoreError> {
        let bytes = self.encode(value).map_err(|f| f.at(self.storage.path(), "be written"))?;
        Ok((self.key, bytes))
    }

    fn encode(&self, value: &impl Serialize) -> Result<Vec<u8>, Fault> {
        let bytes = match self.version {
            Some(version) => postcard::to_stdvec(&(version, value)),
            None => postcard::to_stdvec(value),
        };
        bytes.map_err(|e| self.damaged(&e))
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Fault> {
        let Some(expected) = self.version else {
            return postcard::from_bytes(bytes).map_err(|e| self.damaged(&e));
        };
        let (found, value) = postcard::take_from_bytes(bytes).map_err(|e| self.damaged(&e))?;
        if found != expected {
            return Err(Fault::Version { key: self.key, found, expected });
        }
        postcard::from_bytes(value).map_err(|e| self.damaged(&e))
    }

    fn damaged(&self, why: &postcard::Error) -> Fault {
        Fault::Damaged { what: format!("the value \"{}\"", self.key), why: why.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn record(folder: &TempDir) -> Record {
        let storage = Storage::open(&folder.path().join("state.redb")).expect("a state");
        Record::new(Arc::new(storage), "update")
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
        // A value from before versions existed: a text of 32 letters.
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
