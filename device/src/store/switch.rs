//! An update: what was learnt and the network become others at once, together with what is remembered of updates.

use fmlora_learner::{Operation, Predictor};

use super::journal::{ADAPTERS, JOURNAL};
use super::parts::JOURNAL_PARTS;
use super::{META, Store, StoreError};

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
        values: &[(&'static str, Vec<u8>)],
    ) -> Result<(), StoreError> {
        let transaction = self.begin_write()?;
        {
            let journal = transaction.open_table(JOURNAL);
            let mut journal = journal.map_err(self.failed("open the journal"))?;
            journal.retain(|_, _| false).map_err(self.failed("empty the journal"))?;
            let adapters = transaction.open_table(ADAPTERS);
            let mut adapters = adapters.map_err(self.failed("open the journal"))?;
            adapters.retain(|_, _| false).map_err(self.failed("empty the journal"))?;
            let parts = transaction.open_table(JOURNAL_PARTS);
            let mut parts = parts.map_err(self.failed("open the journal"))?;
            parts.retain(|_, _| false).map_err(self.failed("empty the journal"))?;
            let meta = transaction.open_table(META);
            let mut meta = meta.map_err(self.failed("open a table"))?;
            for (key, value) in values {
                let written = meta.insert(*key, value.as_slice());
                written.map_err(self.failed("write a table"))?;
            }
        }
        self.write_classes(&transaction, operation)?;
        let after = operation.adapter.as_ref().map_or(self.adapter.clone(), |c| c.after.clone());
        let mut about = self.about.clone();
        about.next_operation += 1;
        self.finish(transaction, about, after, head)
    }
}
