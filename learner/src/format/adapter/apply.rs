//! Applies an adapter: computes the network state and the moved statistics of a device's classes.

use std::sync::Arc;

use thiserror::Error;

use super::AdapterFile;
use crate::{
    Adapter, AdapterError, AdapterState, AdapterTask, BaseId, Class, FeatureSpaceId,
    StatisticsError,
};

/// State of a device to which an adapter is applied.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// Its base.
    pub base_id: BaseId,
    /// The shared bases of that base, with the state of a broad first task.
    pub adapter: Option<&'a Adapter>,
    /// State that tasks have learned since. `None` if there is none.
    pub state: Option<&'a AdapterState>,
    /// Numbers of a feature.
    pub d_feature: usize,
    /// The classes that the device knows.
    pub classes: &'a [Arc<Class>],
}

/// Result of applying an adapter. It is not in use yet.
#[derive(Debug, Clone)]
pub struct Applied {
    /// State of the network after all tasks, this one included. `None` if the network is unchanged.
    pub state: Option<AdapterState>,
    /// Feature space after the adapter.
    pub space: FeatureSpaceId,
    /// The classes known before, in the same order, with their statistics in the new feature space.
    /// `None` if the device has classes and the adapter has no drift map: they are lost, and only
    /// the operator may allow that.
    pub known: Option<Vec<Arc<Class>>>,
    /// The classes that the adapter brings.
    pub brought: Vec<Arc<Class>>,
}

/// Reason why an adapter cannot be used on this device. The device is unchanged.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The adapter is for another base.
    #[error("the adapter is for base {expected}, this device has {found}")]
    Base {
        /// The base of the adapter.
        expected: BaseId,
        /// The base here.
        found: BaseId,
    },
    /// The adapter is for other features: other tasks were learned here.
    #[error("the adapter is for features {expected}, this device has {found}")]
    Before {
        /// The features that the adapter continues.
        expected: FeatureSpaceId,
        /// The features here.
        found: FeatureSpaceId,
    },
    /// The network after the adapter is not the one that was published.
    #[error("the adapter leads to features {found}, its header says {expected}")]
    After {
        /// The features named in the header.
        expected: FeatureSpaceId,
        /// The features that result from the adapter's numbers.
        found: FeatureSpaceId,
    },
    /// The features have another length.
    #[error("the adapter is for features of {found} numbers, this device has {expected}")]
    Length {
        /// Numbers of a feature of the adapter.
        found: usize,
        /// Numbers of a feature here.
        expected: usize,
    },
    /// The adapter changes the network, but the base has no shared bases.
    #[error("the adapter changes the network, but the base has no shared bases")]
    NoBases,
    /// The adapter's matrices do not fit those of the base.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// Statistics or matrices cannot be stored.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// The state after the adapter cannot be encoded, so that its feature space has no id.
    #[error("the features after the adapter have no name")]
    Unnamed(#[source] postcard::Error),
}

impl Applied {
    /// Returns all classes after the adapter: those known before, and those brought. A class with
    /// the name of a known one joins it, as shots taught here would ([`Class::joined`]). Classes
    /// that cannot be moved are missing: see [`Applied::known`]. `adapter` is the SHA-256 of the
    /// adapter's content.
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
    /// Computes the network state and the classes after this adapter.
    ///
    /// The state of the network is the same to the bit on every processor: sums of f32 in one
    /// order, rounded to f16 after each step.
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
            let found = self.d_feature();
            let expected = ground.d_feature;
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

/// Returns the id of a device's feature space.
fn space(base_id: BaseId, state: Option<&AdapterState>) -> Result<FeatureSpaceId, ApplyError> {
    match state {
        None => Ok(base_id.feature_space()),
        Some(state) => base_id.feature_space_after(state).map_err(ApplyError::Unnamed),
    }
}

/// Merges the task into the network's adapter, rounded to f16 as files store it.
fn merged(task: &AdapterTask, ground: &Ground<'_>) -> Result<Adapter, ApplyError> {
    let base = ground.adapter.ok_or(ApplyError::NoBases)?;
    let before = match ground.state {
        Some(state) => base.with_state(state.clone())?,
        None => base.clone(),
    };
    before.check_update(&task.update)?;
    Ok(before.with_task(task).map_err(StatisticsError::from)?)
}
