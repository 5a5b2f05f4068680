//! The journal: writes each operation as one transaction, with its undo data.

use std::sync::Arc;

use fmlora_learner::{
    AdapterChange, AdapterState, Change, Class, Learner, Operation, OperationKind, Predictor,
};
use redb::ReadTransaction;
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::tables::{ADAPTERS, JOURNAL, JOURNAL_PARTS};
use super::{About, Parts, Store, StoreError, write_classes};

/// Number of operations that can be undone.
pub const JOURNAL_LIMIT: usize = 20;

/// Undo data of one operation: classes to remove, and classes to restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    kind: OperationKind,
    title: String,
    /// For each class: the class before the operation, and its key after it.
    changes: Vec<(Option<Arc<Class>>, Option<String>)>,
}

/// Adapter state before an operation that changed the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct AdapterBefore {
    state: Option<Arc<AdapterState>>,
}

/// Undo of the last operations.
#[derive(Debug)]
pub struct Undo {
    /// Inverse of each operation, the last operation first.
    pub(crate) steps: Vec<Operation>,
    /// Titles of the operations.
    pub(crate) titles: Vec<String>,
    /// Number of the earliest operation.
    first: u64,
}

impl Store {
    /// Writes an operation, its undo data and the new head as one transaction, which is on disk
    /// when this returns.
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
        let parts_of = |change: &Change| change.before.as_deref().and_then(Parts::of);
        let parts_before: Vec<Option<Parts>> = operation.changes.iter().map(parts_of).collect();
        let number = self.about.next_operation;
        let about = About { next_operation: number + 1, ..self.about.clone() };
        let after = operation.adapter.as_ref().map_or(self.adapter.clone(), |c| c.after.clone());
        self.write(about, after, head, |transaction| {
            let old = number.saturating_sub(JOURNAL_LIMIT as u64 - 1);
            let mut journal = JOURNAL.write(transaction)?;
            journal.insert(number, &entry)?;
            journal.retain(|n| n >= old)?;
            let mut adapters = ADAPTERS.write(transaction)?;
            if let Some(change) = &operation.adapter {
                adapters.insert(number, &AdapterBefore { state: change.before.clone() })?;
            }
            adapters.retain(|n| n >= old)?;
            let mut parts = JOURNAL_PARTS.write(transaction)?;
            if parts_before.iter().any(Option::is_some) {
                parts.insert(number, &parts_before)?;
            }
            parts.retain(|n| n >= old)?;
            write_classes(transaction, operation)
        })
    }

    /// Returns the titles of the operations that can be undone, the last one first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] or [`StoreError::Damaged`].
    pub fn journal(&self) -> Result<Vec<String>, StoreError> {
        let entries = self.storage.read(entries)?;
        Ok(entries.into_iter().map(|(_, entry)| entry.title).collect())
    }

    /// Returns the undo of the last `count` operations; `None` if there are fewer.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] or [`StoreError::Damaged`].
    pub fn undo(&self, learner: &Learner, count: usize) -> Result<Option<Undo>, StoreError> {
        let entries = self.storage.read(entries)?;
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
            let before = self.storage.read(|transaction| adapter_before(transaction, *number))?;
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

    /// Writes the result of [`Store::undo`], and removes the entries of the undone operations from
    /// the journal.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`]; the state is then unchanged.
    pub fn commit_undo(&mut self, undo: &Undo, head: &Predictor) -> Result<(), StoreError> {
        let first = undo.first;
        let about = About { next_operation: first, ..self.about.clone() };
        let mut after = self.adapter.clone();
        for change in undo.steps.iter().filter_map(|step| step.adapter.as_ref()) {
            after.clone_from(&change.after);
        }
        self.write(about, after, head, |transaction| {
            JOURNAL.write(transaction)?.retain(|n| n < first)?;
            ADAPTERS.write(transaction)?.retain(|n| n < first)?;
            JOURNAL_PARTS.write(transaction)?.retain(|n| n < first)?;
            undo.steps.iter().try_for_each(|step| write_classes(transaction, step))
        })
    }
}

/// Reads the adapter state before an operation; `None` if the operation did not change it.
fn adapter_before(
    transaction: &ReadTransaction,
    number: u64,
) -> Result<Option<AdapterBefore>, Fault> {
    ADAPTERS.read(transaction)?.map_or(Ok(None), |rows| rows.get(number))
}

/// Reads the journal, the last operation first.
fn entries(transaction: &ReadTransaction) -> Result<Vec<(u64, Entry)>, Fault> {
    let mut entries = Vec::new();
    if let Some(rows) = JOURNAL.read(transaction)? {
        let parts = JOURNAL_PARTS.read(transaction)?;
        rows.for_each(|number, mut entry: Entry| {
            let parts = parts.as_ref().map_or(Ok(None), |p| p.get::<Vec<Option<Parts>>>(number))?;
            for ((before, _), parts) in entry.changes.iter_mut().zip(parts.unwrap_or_default()) {
                if let (Some(class), Some(parts)) = (before, parts) {
                    *class = Arc::new(parts.attached_to((**class).clone()));
                }
            }
            entries.push((number, entry));
            Ok(())
        })?;
    }
    entries.reverse();
    Ok(entries)
}
