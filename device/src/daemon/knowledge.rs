//! Snapshot of the classes and their estimate, for readers without the session.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use utoipa::ToSchema;

use crate::report::EstimateDto;
use crate::{EdgeError, Session};

/// A class that was taught.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ClassDto {
    pub(crate) name: String,
    /// Pictures it was taught with.
    pub(crate) shots: u32,
    /// Looks of it that lie apart.
    pub(crate) modes: usize,
    /// Bytes kept for telling it.
    pub(crate) bytes: usize,
    /// Bytes kept for forgetting it exactly.
    pub(crate) forget_bytes: usize,
}

/// Classes, estimate and journal after an operation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Knowledge {
    pub(crate) classes: Vec<ClassDto>,
    pub(crate) estimate: Option<EstimateDto>,
    /// Titles of the operations that can be undone, the last one first.
    pub(crate) undo: Vec<String>,
    pub(crate) state_bytes: u64,
    /// Feature space of the classes.
    pub(crate) feature_space: String,
}

/// The newest snapshot.
#[derive(Debug, Default)]
pub(crate) struct SharedKnowledge(Mutex<Arc<Knowledge>>);

impl Knowledge {
    /// Returns the snapshot of a session.
    pub(crate) fn of(session: &mut Session) -> Result<Self, EdgeError> {
        let estimate = session.estimate()?.map(EstimateDto::new);
        Ok(Self { estimate, ..Self::without_estimate(session)? })
    }

    /// Returns the snapshot without the estimate, which takes time.
    pub(crate) fn without_estimate(session: &Session) -> Result<Self, EdgeError> {
        Ok(Self {
            classes: classes(session),
            estimate: None,
            undo: session.store().journal()?,
            state_bytes: session.store().n_bytes(),
            feature_space: session.store().feature_space_id().to_string(),
        })
    }
}

/// Returns the classes of a session.
pub(crate) fn classes(session: &Session) -> Vec<ClassDto> {
    let one = |class: &Arc<fmlora_learner::Class>| {
        let (bytes, forget_bytes) = class.n_bytes();
        ClassDto {
            name: class.name.to_string(),
            shots: class.count(),
            modes: class.modes.len(),
            bytes,
            forget_bytes,
        }
    };
    session.learner().classes().map(one).collect()
}

impl SharedKnowledge {
    /// Returns the newest snapshot.
    pub(crate) fn get(&self) -> Arc<Knowledge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the snapshot.
    pub(crate) fn set(&self, knowledge: Knowledge) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(knowledge);
    }
}
