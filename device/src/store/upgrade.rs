//! Upgrades states of older formats to the current format, in one transaction.

use redb::{ReadTransaction, WriteTransaction};

use super::error::Fault;
use super::storage::{End, Storage};
use super::tables::{ADAPTERS, CLASSES, HEAD, JOURNAL, META};
use super::{About, FORMAT, StoreError};

/// Format with values without checksums.
const UNSEALED: u16 = 2;

/// Format with classes without occasions and views. Their bytes are read unchanged.
const PLAIN: u16 = 3;

/// Upgrades a state to the current format. `new` describes a state in which nothing was written
/// yet.
///
/// # Errors
///
/// [`StoreError::Format`] for an unknown format. The state is then unchanged.
pub(super) fn to_current(storage: &Storage, new: &About) -> Result<(), StoreError> {
    let found = storage.read(format)?;
    if found == Some(FORMAT) {
        return Ok(());
    }
    match found {
        // A new state gets its description at once. Values that another program writes into it
        // later are then not mistaken for an old state.
        None | Some(UNSEALED) => {
            storage.write(|transaction| Ok((seal(transaction, new)?, End::Commit)))?;
        }
        Some(PLAIN) => storage.write(|transaction| Ok((renumber(transaction)?, End::Commit)))?,
        Some(found) => return Err(Fault::Format { found }.at(storage.path(), "be read")),
    }
    if let Some(found) = found {
        tracing::info!("state {}: format {found} is now {FORMAT}", storage.path().display());
    }
    Ok(())
}

/// Writes the current format number into a state that needs no other change.
fn renumber(transaction: &WriteTransaction) -> Result<(), Fault> {
    let mut meta = META.write(transaction)?;
    let about: About = match meta.bytes("about")? {
        Some(bytes) => postcard::from_bytes(&bytes).map_err(|e| damaged(&e))?,
        None => return Err(damaged(&"it is missing")),
    };
    meta.insert("about", &About { format: FORMAT, ..about })
}

/// Reads the format number, which comes first in the description, before its checksum; `None` if
/// there is no description.
fn format(transaction: &ReadTransaction) -> Result<Option<u16>, Fault> {
    let Some(rows) = META.read(transaction)? else { return Ok(None) };
    let Some(stored) = rows.stored("about")? else { return Ok(None) };
    Ok(Some(postcard::take_from_bytes(&stored).map_err(|e| damaged(&e))?.0))
}

/// Adds a checksum to every value. Programs of the former format stored accounts and updates before
/// the first description.
fn seal(transaction: &WriteTransaction, new: &About) -> Result<(), Fault> {
    let mut meta = META.write(transaction)?;
    let about = match meta.stored("about")? {
        Some(stored) => match postcard::take_from_bytes::<About>(&stored) {
            Ok((about, [])) => about,
            Ok(_) => return Err(damaged(&"there are bytes behind its end")),
            Err(error) => return Err(damaged(&error)),
        },
        None => new.clone(),
    };
    meta.seal_all()?;
    meta.insert("about", &About { format: FORMAT, ..about })?;
    drop(meta);
    for table in [&CLASSES, &HEAD] {
        table.write(transaction)?.seal_all()?;
    }
    for table in [&JOURNAL, &ADAPTERS] {
        table.write(transaction)?.seal_all()?;
    }
    Ok(())
}

fn damaged(why: &dyn std::fmt::Display) -> Fault {
    Fault::Damaged { what: "the description of the state".to_owned(), why: why.to_string() }
}
