//! What changes a state: a list of classes before and after, so that it can be undone.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{AdapterState, Class};

/// What an operation was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationKind {
    /// Shots of one class.
    Teach,
    /// A task: shots of several classes.
    Learn,
    /// A class taken away.
    Forget,
    /// A class under another name.
    Rename,
    /// Classes of another state.
    Import,
    /// An adapter from outside put to use, or taken back.
    Update,
    /// A network trained on a task was put to use.
    Train,
}

/// One class before and after an operation; `None` where it does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The class before.
    pub before: Option<Arc<Class>>,
    /// The class after.
    pub after: Option<Arc<Class>>,
}

/// What tasks have left in the network, before and after an operation; `None` is the base as it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterChange {
    /// Before.
    pub before: Option<Arc<AdapterState>>,
    /// After.
    pub after: Option<Arc<AdapterState>>,
}

/// A change of state that happens as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// What it was for.
    pub kind: OperationKind,
    /// Classes that it changes, each once.
    pub changes: Vec<Change>,
    /// A task that changed the network, and with it the features of all classes.
    pub adapter: Option<AdapterChange>,
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Teach => "teach",
            Self::Learn => "learn",
            Self::Forget => "forget",
            Self::Rename => "rename",
            Self::Import => "import",
            Self::Update => "update",
            Self::Train => "train",
        })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if self.kind == OperationKind::Train {
            // A training changes every class, so their names would not describe it.
            let n = self.changes.len();
            return write!(f, " the network ({n} {})", if n == 1 { "class" } else { "classes" });
        }
        for (i, change) in self.changes.iter().enumerate() {
            let name = |class: &Option<Arc<Class>>| class.as_ref().map(|c| c.name.to_string());
            let name = match (name(&change.before), name(&change.after)) {
                (Some(before), Some(after)) if before != after => format!("{before} -> {after}"),
                (before, after) => after.or(before).unwrap_or_default(),
            };
            write!(f, "{} {name}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
