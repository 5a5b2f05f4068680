//! Transaction of an update: classes, network and the record of updates change together.

use fmlora_learner::{Operation, Predictor};

use super::record::Value;
use super::tables::{ADAPTERS, JOURNAL, JOURNAL_PARTS, META};
use super::{About, Store, StoreError, write_classes};

impl Store {
    /// Writes an operation, the head that follows from it, and values of the table `meta` as one
    /// transaction that is on disk when this returns. The journal is emptied: an update has its own
    /// rollback, and earlier operations cannot be undone after it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`]; the state is then unchanged.
    pub(crate) fn switch(
        &mut self,
        operation: &Operation,
        head: &Predictor,
        values: &[Value],
    ) -> Result<(), StoreError> {
        let next_operation = self.about.next_operation + 1;
        let about = About { next_operation, ..self.about.clone() };
        let after = operation.adapter.as_ref().map_or(self.adapter.clone(), |c| c.after.clone());
        self.write(about, after, head, |transaction| {
            JOURNAL.write(transaction)?.retain(|_| false)?;
            ADAPTERS.write(transaction)?.retain(|_| false)?;
            JOURNAL_PARTS.write(transaction)?.retain(|_| false)?;
            let mut meta = META.write(transaction)?;
            for (key, value) in values {
                meta.insert_bytes(key, value.clone())?;
            }
            drop(meta);
            write_classes(transaction, operation)
        })
    }
}
