//! An adapter put to use: what becomes of the network and of everything that a device knows.

use std::sync::Arc;

use thiserror::Error;

use super::AdapterFile;
use crate::{
    Adapter, AdapterError, AdapterState, AdapterTask, BaseId, Class, FeatureSpaceId,
    StatisticsError,
};

/// What a device has, for an adapter to be applied to.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// Its base.
    pub base_id: BaseId,
    /// The shared bases of that base, with what a broad first task left in them.
    pub adapter: Option<&'a Adapter>,
    /// What tasks have left since; `None` if nothing.
    pub state: Option<&'a AdapterState>,
    /// Numbers of a feature.
    pub d_feature: usize,
    /// The classes that it knows.
    pub classes: &'a [Arc<Class>],
}

/// What follows from an adapter; nothing of it is in use yet.
#[derive(Debug, Clone)]
pub struct Applied {
    /// What tasks, with this one, have left in the network; `None` if nothing, as before.
    pub state: Option<AdapterState>,
    /// The features from now on.
    pub space: FeatureSpaceId,
    /// The classes known before, in the same order, with their statistics in these features. `None` if there are
    /// some and the adapter says nothing of where they went: only with the operator's word may they be lost.
    pub known: Option<Vec<Arc<Class>>>,
    /// The classes that the adapter brings.
    pub brought: Vec<Arc<Class>>,
}

/// Why an adapter cannot be used here; nothing has changed.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// For another base.
    #[error("the adapter is for base {expected}, this device has {found}")]
    Base {
        /// The base of the adapter.
        expected: BaseId,
        /// The base here.
        found: BaseId,
    },
    /// For other features, because other tasks were learnt here.
    #[error("the adapter is for features {expected}, this device has {found}")]
    Before {
        /// The features that the adapter continues.
        expected: FeatureSpaceId,
        /// The features here.
        found: FeatureSpaceId,
    },
    /// The network that follows is not the one that was published.
    #[error("the adapter leads to features {found}, its header says {expected}")]
    After {
        /// The features that the header states.
        expected: FeatureSpaceId,
        /// Those that follow from its numbers.
        found: FeatureSpaceId,
    },
    /// Features of another length.
    #[error("the adapter is for features of {found} numbers, this device has {expected}")]
    Length {
        /// Numbers of a feature of the adapter.
        found: usize,
        /// Numbers of a feature here.
        expected: usize,
    },
    /// It changes the network, but the base has no shared bases.
    #[error("the adapter changes the network, but the base has no shared bases")]
    NoBases,
    /// Its matrices do not fit those of the base.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// Statistics or matrices that cannot be stored.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// Numbers that a file cannot hold.
    #[error("the features after the adapter have no name")]
    Unnamed(#[source] postcard::Error),
}

impl Applied {
    /// All classes from now on: those known before, and those brought. A class of the same name joins the known one, as
    /// shots of it taught here would ([`Class::joined`]). Classes that cannot be moved are not among them: see
    /// [`Applied::known`]. `adapter` is the SHA-256 of the adapter's content.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if two classes of one name do not fit together.
    pub fn classes(&self, adapter: [u8; 32]) -> Result<Vec<Arc<Class>>, StatisticsError> {
        let mut classes = self.known.clone().unwrap_or_default();
        for brought in &self.brought {
            let key = brought.name.key();
            if let Some(class) = classes.iter_mut().find(|class| class.name.key() == key) {
                *class = Arc::new(class.joined(brought, adapter)?);
            } else {
                classes.push(Arc::new(brought.brought_by(adapter)));
            }
        }
        Ok(classes)
    }
}

impl AdapterFile {
    /// Computes what follows from using this adapter.
    ///
    /// The state of the network is the same to the bit on every processor: sums of f32 in one order, rounded to f16 after
    /// each step.
    ///
    /// # Errors
    ///
    /// [`ApplyError`].
    pub fn apply(&self, ground: &Ground<'_>) -> Result<Applied, ApplyError> {
        let facts = &self.facts;
        if facts.base_id != ground.base_id {
            return Err(ApplyError::Base { expected: facts.base_id, found: ground.base_id });
        }
        let before = space(ground.base_id, ground.state)?;
        if facts.space_before != before {
            return Err(ApplyError::Before { expected: facts.space_before, found: before });
        }
        if self.d_feature() != ground.d_feature {
            let (found, expected) = (self.d_feature(), ground.d_feature);
            return Err(ApplyError::Length { found, expected });
        }
        let state = match &self.task {
            None => ground.state.cloned(),
            Some(task) => Some(merged(task, ground)?.state),
        };
        let after = space(ground.base_id, state.as_ref())?;
        if facts.space_after != after {
            return Err(ApplyError::After { expected: facts.space_after, found: after });
        }
        let known = match &self.drift {
            _ if self.task.is_none() || ground.classes.is_empty() => Some(ground.classes.to_vec()),
            Some(drift) => Some(
                ground
                    .classes
                    .iter()
                    .map(|class| class.moved(|mode| drift.transport(mode)).map(Arc::new))
                    .collect::<Result<_, _>>()?,
            ),
            None => None,
        };
        Ok(Applied { state, space: after, known, brought: self.summary.to_classes()? })
    }
}

/// The features of a device.
fn space(base_id: BaseId, state: Option<&AdapterState>) -> Result<FeatureSpaceId, ApplyError> {
    match state {
        None => Ok(base_id.feature_space()),
        Some(state) => base_id.feature_space_after(state).map_err(ApplyError::Unnamed),
    }
}

/// The network's adapter after the task, as files hold it.
fn merged(task: &AdapterTask, ground: &Ground<'_>) -> Result<Adapter, ApplyError> {
    let base = ground.adapter.ok_or(ApplyError::NoBases)?;
    let before = match ground.state {
        Some(state) => base.with_state(state.clone())?,
        None => base.clone(),
    };
    before.check_update(&task.update)?;
    Ok(before.with_task(task).map_err(StatisticsError::from)?)
}
