//! Operations change a state: a list of classes before and after, so that it can be undone.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{AdapterState, Class};

/// Kind of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationKind {
    /// Shots of one class were added.
    Teach,
    /// A task was learned: shots of several classes were added.
    Learn,
    /// A class was forgotten.
    Forget,
    /// A class was renamed.
    Rename,
    /// Classes of another state were imported.
    Import,
    /// An adapter of an update was put to use or rolled back.
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

/// Adapter state before and after an operation; `None` is the base without tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterChange {
    /// The state before.
    pub before: Option<Arc<AdapterState>>,
    /// The state after.
    pub after: Option<Arc<AdapterState>>,
}

/// A change of state that happens as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Purpose of the operation.
    pub kind: OperationKind,
    /// Changes of classes; each class occurs once.
    pub changes: Vec<Change>,
    /// Change of the network, and with it of the features of all classes; `None` if the network
    /// stays.
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
