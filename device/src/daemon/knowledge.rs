//! What the box knows, for everybody who only wants to read it.

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

/// What the box knows after an operation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Knowledge {
    pub(crate) classes: Vec<ClassDto>,
    pub(crate) estimate: Option<EstimateDto>,
    /// Operations that can be taken back, the last one first.
    pub(crate) undo: Vec<String>,
    pub(crate) state_bytes: u64,
    /// The features that the classes are about.
    pub(crate) feature_space: String,
}

/// The newest knowledge.
#[derive(Debug, Default)]
pub(crate) struct SharedKnowledge(Mutex<Arc<Knowledge>>);

impl Knowledge {
    /// What a session knows now.
    pub(crate) fn of(session: &mut Session) -> Result<Self, EdgeError> {
        let estimate = session.estimate()?.map(EstimateDto::new);
        Ok(Self { estimate, ..Self::without_estimate(session)? })
    }

    /// The same without what takes its time to work out.
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

/// The classes of a session.
pub(crate) fn classes(session: &Session) -> Vec<ClassDto> {
    let one = |class: &Arc<fmlora_learner::Class>| {
        let (bytes, forget_bytes) = class.n_bytes();
        let (name, shots) = (class.name.to_string(), class.count());
        ClassDto { name, shots, modes: class.modes.len(), bytes, forget_bytes }
    };
    session.learner().classes().map(one).collect()
}

impl SharedKnowledge {
    /// As it is now.
    pub(crate) fn get(&self) -> Arc<Knowledge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the place of what was known before.
    pub(crate) fn set(&self, knowledge: Knowledge) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(knowledge);
    }
}
