//! An update: what was learnt and the network become others at once, together with what is remembered of updates.

use fmlora_learner::{Operation, Predictor};

use super::record::Value;
use super::tables::{ADAPTERS, JOURNAL, JOURNAL_PARTS, META};
use super::{About, Store, StoreError, write_classes};

impl Store {
    /// Writes an operation, the head that follows from it, and values of the table `meta`, as one transaction that is on
    /// disk when this returns. Nothing before it can be undone after it: an update is taken back in a way of its own.
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
