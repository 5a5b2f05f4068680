//! Finds the damaged record in a damaged file.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use redb::ReadableDatabase;

use super::error::Fault;
use super::file::in_memory_unchecked;
use super::tables::{ADAPTERS, CLASSES, HEAD, JOURNAL, JOURNAL_PARTS, META, PARTS};

/// Returns the first record with a wrong checksum, if the file as a whole is damaged and there is
/// one; else `fault`.
pub(super) fn named(fault: Fault, bytes: &[u8]) -> Fault {
    if !matches!(fault, Fault::Redb(redb::Error::Corrupted(_))) {
        return fault;
    }
    // redb may panic on unchecked bytes. Such a panic is silenced: the file is known to be damaged.
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let verified = catch_unwind(AssertUnwindSafe(|| verify(bytes)));
    set_hook(hook);
    match verified {
        Ok(Err(record @ Fault::Damaged { .. })) => record,
        _ => fault,
    }
}

fn verify(bytes: &[u8]) -> Result<(), Fault> {
    let database = in_memory_unchecked(bytes)?;
    let read = database.begin_read()?;
    for table in [&META, &CLASSES, &PARTS, &HEAD] {
        table.read(&read)?.map_or(Ok(()), |rows| rows.verify())?;
    }
    for table in [&JOURNAL, &JOURNAL_PARTS, &ADAPTERS] {
        table.read(&read)?.map_or(Ok(()), |rows| rows.verify())?;
    }
    Ok(())
}
