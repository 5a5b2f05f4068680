//! Which record of a damaged file is damaged.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use redb::ReadableDatabase;

use super::error::Fault;
use super::file::in_memory_unchecked;
use super::tables::{ADAPTERS, CLASSES, HEAD, JOURNAL, JOURNAL_PARTS, META, PARTS};

/// Names the first record whose checksum does not match, where the file as a whole is damaged and such a record is found.
pub(super) fn named(fault: Fault, bytes: &[u8]) -> Fault {
    if !matches!(fault, Fault::Redb(redb::Error::Corrupted(_))) {
        return fault;
    }
    // redb may panic on what it has not checked, which is no news: the file is damaged.
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
