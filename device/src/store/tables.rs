//! The tables of a state. Each value is followed by a checksum, so that a flipped bit is found when
//! the value is read.

#![allow(
    clippy::needless_pass_by_value,
    reason = "keys are texts and numbers, no larger than references to them"
)]

use redb::{
    Key, ReadTransaction, ReadableTable, TableDefinition, TableError, TableHandle, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::error::Fault;

/// Length of a checksum in bytes: SHA-256 of the table's name, a zero byte, the key, a zero byte
/// and the value.
const CHECKSUM_BYTES: usize = 32;

pub(super) static META: Table<&'static str> =
    Table::new("meta", |key| format!("the value \"{}\"", String::from_utf8_lossy(key)));
pub(super) static CLASSES: Table<&'static str> =
    Table::new("classes", |key| format!("class \"{}\"", String::from_utf8_lossy(key)));
pub(super) static HEAD: Table<&'static str> = Table::new("head", |_| "the head".to_owned());
pub(super) static JOURNAL: Table<u64> = Table::new("journal", operation);
/// Parts of classes that adapters brought.
pub(super) static PARTS: Table<&'static str> = Table::new("parts", |key| {
    format!("what adapters brought to class \"{}\"", String::from_utf8_lossy(key))
});
/// Parts that adapters had brought to the classes before each operation, in the order of its
/// changes.
pub(super) static JOURNAL_PARTS: Table<u64> = Table::new("journal-parts", operation);
/// State of the network before each operation that changed it.
pub(super) static ADAPTERS: Table<u64> = Table::new("adapters", operation);

fn operation(key: &[u8]) -> String {
    let number = key.try_into().map_or(0, u64::from_le_bytes);
    format!("operation {number} of the journal")
}

/// Name and key type of a table.
pub(super) struct Table<K: Key + 'static> {
    definition: TableDefinition<'static, K, &'static [u8]>,
    /// Names a record in messages, by the bytes of its key.
    title: fn(&[u8]) -> String,
}

/// A table opened for reading.
pub(super) struct ReadRows<K: Key + 'static> {
    table: redb::ReadOnlyTable<K, &'static [u8]>,
    of: &'static Table<K>,
}

/// A table opened for writing.
pub(super) struct WriteRows<'t, K: Key + 'static> {
    table: redb::Table<'t, K, &'static [u8]>,
    of: &'static Table<K>,
}

impl<K: Key + 'static> Table<K> {
    const fn new(name: &'static str, title: fn(&[u8]) -> String) -> Self {
        Self { definition: TableDefinition::new(name), title }
    }

    /// Opens the table; `None` if it was never written.
    pub(super) fn read(
        &'static self,
        transaction: &ReadTransaction,
    ) -> Result<Option<ReadRows<K>>, Fault> {
        match transaction.open_table(self.definition) {
            Ok(table) => Ok(Some(ReadRows { table, of: self })),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the table. Creates it if it was never written.
    pub(super) fn write<'t>(
        &'static self,
        transaction: &'t WriteTransaction,
    ) -> Result<WriteRows<'t, K>, Fault> {
        Ok(WriteRows { table: transaction.open_table(self.definition)?, of: self })
    }

    fn checksum(&self, key: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
        let parts = [self.definition.name().as_bytes(), &[0], key, &[0], value];
        let hash = parts.iter().fold(Sha256::new(), Digest::chain_update);
        hash.finalize().into()
    }

    fn sealed(&self, key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
        let checksum = self.checksum(key, &value);
        value.extend(checksum);
        value
    }

    fn unsealed(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, Fault> {
        let sound = stored.split_last_chunk::<CHECKSUM_BYTES>();
        let sound = sound.filter(|(value, checksum)| self.checksum(key, value) == **checksum);
        let Some((value, _)) = sound else {
            let why = "its checksum does not match".to_owned();
            return Err(Fault::Damaged { what: (self.title)(key), why });
        };
        Ok(value.to_vec())
    }

    /// The bytes of a value without their checksum.
    fn bytes_in(
        &self,
        table: &impl ReadableTable<K, &'static [u8]>,
        key: &K::SelfType<'_>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let Some(stored) = table.get(key)? else { return Ok(None) };
        self.unsealed(K::as_bytes(key).as_ref(), stored.value()).map(Some)
    }

    fn decoded<T: DeserializeOwned>(&self, key: &[u8], value: &[u8]) -> Result<T, Fault> {
        let damaged = |e: postcard::Error| self.damaged(key, e.to_string());
        postcard::from_bytes(value).map_err(damaged)
    }

    fn damaged(&self, key: &[u8], why: String) -> Fault {
        Fault::Damaged { what: (self.title)(key), why }
    }
}

/// The bytes of a value as they are stored, with their checksum.
fn stored_in<K: Key + 'static>(
    table: &impl ReadableTable<K, &'static [u8]>,
    key: &K::SelfType<'_>,
) -> Result<Option<Vec<u8>>, Fault> {
    Ok(table.get(key)?.map(|stored| stored.value().to_vec()))
}

impl<K: Key + 'static> ReadRows<K> {
    /// The bytes of a value without their checksum.
    pub(super) fn bytes(&self, key: K::SelfType<'_>) -> Result<Option<Vec<u8>>, Fault> {
        self.of.bytes_in(&self.table, &key)
    }

    /// The bytes of a value as they are stored.
    pub(super) fn stored(&self, key: K::SelfType<'_>) -> Result<Option<Vec<u8>>, Fault> {
        stored_in(&self.table, &key)
    }

    pub(super) fn get<T: DeserializeOwned>(
        &self,
        key: K::SelfType<'_>,
    ) -> Result<Option<T>, Fault> {
        let bytes = self.of.bytes_in(&self.table, &key)?;
        bytes.map(|bytes| self.of.decoded(K::as_bytes(&key).as_ref(), &bytes)).transpose()
    }

    /// Passes each value to `take`, in the order of the keys.
    pub(super) fn for_each<T: DeserializeOwned>(
        &self,
        mut take: impl FnMut(K::SelfType<'_>, T) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        for row in self.table.iter()? {
            let (key, stored) = row?;
            let bytes = K::as_bytes(&key.value()).as_ref().to_vec();
            let value = self.of.unsealed(&bytes, stored.value())?;
            take(key.value(), self.of.decoded(&bytes, &value)?)?;
        }
        Ok(())
    }

    /// Compares each value with its checksum.
    pub(super) fn verify(&self) -> Result<(), Fault> {
        for row in self.table.iter()? {
            let (key, stored) = row?;
            self.of.unsealed(K::as_bytes(&key.value()).as_ref(), stored.value())?;
        }
        Ok(())
    }
}

impl<K: Key + 'static> WriteRows<'_, K> {
    /// The bytes of a value without their checksum.
    pub(super) fn bytes(&self, key: K::SelfType<'_>) -> Result<Option<Vec<u8>>, Fault> {
        self.of.bytes_in(&self.table, &key)
    }

    /// The bytes of a value as they are stored.
    pub(super) fn stored(&self, key: K::SelfType<'_>) -> Result<Option<Vec<u8>>, Fault> {
        stored_in(&self.table, &key)
    }

    pub(super) fn insert_bytes(
        &mut self,
        key: K::SelfType<'_>,
        value: Vec<u8>,
    ) -> Result<(), Fault> {
        let stored = self.of.sealed(K::as_bytes(&key).as_ref(), value);
        self.table.insert(&key, stored.as_slice())?;
        Ok(())
    }

    pub(super) fn insert(
        &mut self,
        key: K::SelfType<'_>,
        value: &impl Serialize,
    ) -> Result<(), Fault> {
        let encoded = postcard::to_stdvec(value);
        let bytes =
            encoded.map_err(|e| self.of.damaged(K::as_bytes(&key).as_ref(), e.to_string()))?;
        self.insert_bytes(key, bytes)
    }

    pub(super) fn remove(&mut self, key: K::SelfType<'_>) -> Result<(), Fault> {
        self.table.remove(&key)?;
        Ok(())
    }

    /// Keeps the rows with keys that satisfy `keep`.
    pub(super) fn retain(&mut self, keep: impl Fn(K::SelfType<'_>) -> bool) -> Result<(), Fault> {
        self.table.retain(|key, _| keep(key))?;
        Ok(())
    }

    /// Adds checksums to values that have none yet.
    pub(super) fn seal_all(&mut self) -> Result<(), Fault> {
        let mut sealed = Vec::new();
        for row in self.table.iter()? {
            let (key, value) = row?;
            let key = K::as_bytes(&key.value()).as_ref().to_vec();
            let value = self.of.sealed(&key, value.value().to_vec());
            sealed.push((key, value));
        }
        for (key, value) in sealed {
            self.table.insert(K::from_bytes(&key), value.as_slice())?;
        }
        Ok(())
    }
}
