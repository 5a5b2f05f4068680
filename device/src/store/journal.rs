//! Operations on disk: each one transaction, with what takes it back.

use std::sync::Arc;

use fmlora_learner::{
    AdapterChange, AdapterState, Change, Class, Learner, Operation, OperationKind, Predictor,
};
use redb::{ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::parts::JOURNAL_PARTS;
use super::{About, Parts, Store, StoreError};

/// Operations that can be undone.
pub const JOURNAL_LIMIT: usize = 20;

pub(super) const JOURNAL: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("journal");
/// What tasks had left in the network before an operation that changed it.
pub(super) const ADAPTERS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("adapters");

/// What takes one operation back: classes to remove, classes to put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    kind: OperationKind,
    title: String,
    /// For each class: how it was, and its key after the operation.
    changes: Vec<(Option<Arc<Class>>, Option<String>)>,
}

/// What tasks had left in the network before an operation that changed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct AdapterBefore {
    state: Option<Arc<AdapterState>>,
}

/// The last operations taken back.
#[derive(Debug)]
pub struct Undo {
    /// Each operation taken back, the last one first.
    pub(crate) steps: Vec<Operation>,
    /// What they were.
    pub(crate) titles: Vec<String>,
    first: u64,
}

impl Store {
    /// Writes an operation, what takes it back, and the head that follows from it, as one transaction
    /// that is on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`]; the state is then unchanged.
    pub fn commit(&mut self, operation: &Operation, head: &Predictor) -> Result<(), StoreError> {
        let entry = Entry {
            kind: operation.kind,
            title: operation.to_string(),
            changes: operation
                .changes
                .iter()
                .map(|c| (c.before.clone(), c.after.as_ref().map(|c| c.name.key())))
                .collect(),
        };
        let mut about = self.about.clone();
        let number = about.next_operation;
        about.next_operation += 1;
        let transaction = self.begin_write()?;
        {
            let journal = transaction.open_table(JOURNAL);
            let mut journal = journal.map_err(self.failed("open the journal"))?;
            let bytes = self.encode(&entry)?;
            journal.insert(number, bytes.as_slice()).map_err(self.failed("write the journal"))?;
            let old = number.saturating_sub(JOURNAL_LIMIT as u64 - 1);
            journal.retain(|n, _| n >= old).map_err(self.failed("shorten the journal"))?;
            let adapters = transaction.open_table(ADAPTERS);
            let mut adapters = adapters.map_err(self.failed("open the journal"))?;
            if let Some(change) = &operation.adapter {
                let bytes = self.encode(&AdapterBefore { state: change.before.clone() })?;
                let written = adapters.insert(number, bytes.as_slice());
                written.map_err(self.failed("write the journal"))?;
            }
            adapters.retain(|n, _| n >= old).map_err(self.failed("shorten the journal"))?;
            let parts = transaction.open_table(JOURNAL_PARTS);
            let mut parts = parts.map_err(self.failed("open the journal"))?;
            let of_class = |change: &Change| change.before.as_deref().and_then(Parts::of);
            let before: Vec<Option<Parts>> = operation.changes.iter().map(of_class).collect();
            if before.iter().any(Option::is_some) {
                let written = parts.insert(number, self.encode(&before)?.as_slice());
                written.map_err(self.failed("write the journal"))?;
            }
            parts.retain(|n, _| n >= old).map_err(self.failed("shorten the journal"))?;
        }
        self.write_classes(&transaction, operation)?;
        let after = operation.adapter.as_ref().map_or(self.adapter.clone(), |c| c.after.clone());
        self.finish(transaction, about, after, head)
    }

    /// Titles of the operations that can be undone, the last first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] or [`StoreError::Damaged`].
    pub fn journal(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.entries()?.into_iter().map(|(_, entry)| entry.title).collect())
    }

    /// What takes the last `count` operations back, as one operation; `None` if there are fewer.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] or [`StoreError::Damaged`].
    pub fn undo(&self, learner: &Learner, count: usize) -> Result<Option<Undo>, StoreError> {
        let entries = self.entries()?;
        if entries.len() < count {
            return Ok(None);
        }
        let mut state = learner.clone();
        let mut steps = Vec::new();
        for (number, entry) in &entries[..count] {
            for class in entry.changes.iter().filter_map(|(before, _)| before.as_ref()) {
                let check = class.check(learner.d_feature());
                check.map_err(|e| self.damaged(format!("operation {number}"), e.to_string()))?;
            }
            let present = |key: &String| state.classes().find(|c| c.name.key() == *key).cloned();
            let change = |(before, key): &(Option<Arc<Class>>, Option<String>)| Change {
                before: key.as_ref().and_then(present),
                after: before.clone(),
            };
            let changes = entry.changes.iter().map(change).collect();
            let before = self.adapter_before(*number)?;
            let adapter = before.map(|before| AdapterChange {
                before: state.adapter().cloned(),
                after: before.state,
            });
            let step = Operation { kind: entry.kind, changes, adapter };
            state.apply(&step);
            steps.push(step);
        }
        let titles = entries[..count].iter().map(|(_, entry)| entry.title.clone()).collect();
        Ok(Some(Undo { steps, titles, first: entries.get(count - 1).map_or(0, |(n, _)| *n) }))
    }

    /// Writes what [`Store::undo`] gave, and drops the journal's entries that it took back.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`]; the state is then unchanged.
    pub fn commit_undo(&mut self, undo: &Undo, head: &Predictor) -> Result<(), StoreError> {
        let transaction = self.begin_write()?;
        {
            let journal = transaction.open_table(JOURNAL);
            let mut journal = journal.map_err(self.failed("open the journal"))?;
            let first = undo.first;
            journal.retain(|n, _| n < first).map_err(self.failed("shorten the journal"))?;
            let adapters = transaction.open_table(ADAPTERS);
            let mut adapters = adapters.map_err(self.failed("open the journal"))?;
            adapters.retain(|n, _| n < first).map_err(self.failed("shorten the journal"))?;
            let parts = transaction.open_table(JOURNAL_PARTS);
            let mut parts = parts.map_err(self.failed("open the journal"))?;
            parts.retain(|n, _| n < first).map_err(self.failed("shorten the journal"))?;
        }
        let mut after = self.adapter.clone();
        for step in &undo.steps {
            self.write_classes(&transaction, step)?;
            if let Some(change) = &step.adapter {
                after.clone_from(&change.after);
            }
        }
        let about = About { next_operation: undo.first, ..self.about.clone() };
        self.finish(transaction, about, after, head)
    }

    /// What tasks had left before an operation; `None` if it did not change that.
    fn adapter_before(&self, number: u64) -> Result<Option<AdapterBefore>, StoreError> {
        let Some(transaction) = self.begin_read()? else { return Ok(None) };
        let Some(table) = self.table(&transaction, ADAPTERS)? else { return Ok(None) };
        let value = table.get(number).map_err(self.failed("read the journal"))?;
        value.map(|bytes| self.decode(bytes.value(), || format!("operation {number}"))).transpose()
    }

    fn entries(&self) -> Result<Vec<(u64, Entry)>, StoreError> {
        let mut entries = Vec::new();
        let Some(transaction) = self.begin_read()? else { return Ok(entries) };
        let Some(table) = self.table(&transaction, JOURNAL)? else { return Ok(entries) };
        let parts = self.table(&transaction, JOURNAL_PARTS)?;
        for row in table.iter().map_err(self.failed("read the journal"))? {
            let (number, value) = row.map_err(self.failed("read the journal"))?;
            let number = number.value();
            let what = || format!("operation {number}");
            let mut entry: Entry = self.decode(value.value(), what)?;
            let part = match &parts {
                Some(parts) => parts.get(number).map_err(self.failed("read the journal"))?,
                None => None,
            };
            if let Some(part) = part {
                let parts: Vec<Option<Parts>> = self.decode(part.value(), what)?;
                for ((before, _), parts) in entry.changes.iter_mut().zip(parts) {
                    if let (Some(class), Some(parts)) = (before, parts) {
                        *class = Arc::new(parts.attached_to((**class).clone()));
                    }
                }
            }
            entries.push((number, entry));
        }
        entries.reverse();
        Ok(entries)
    }
}
