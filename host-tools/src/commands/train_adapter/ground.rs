//! What the devices have before the task: the base, an exported state, adapters that came before.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use fmlora_learner::format::{Base, Ground, decode_adapter, decode_state};
use fmlora_learner::{Adapter, AdapterState, BaseId, Class, FeatureSpaceId};

use crate::cli::TrainAdapterArgs;
use crate::files;

/// The network and the classes that the task is learnt on top of.
pub(super) struct Start {
    /// What the base brings.
    base: Option<Adapter>,
    /// What tasks have left since.
    pub(super) state: Option<AdapterState>,
    /// Both together.
    pub(super) adapter: Option<Adapter>,
    /// The classes known, in the features that follow.
    pub(super) classes: Vec<Arc<Class>>,
    /// Those features.
    pub(super) space: FeatureSpaceId,
    d_feature: usize,
}

impl Start {
    /// Reads what `--from` and `--after` name.
    pub(super) fn new(args: &TrainAdapterArgs, base: &Base<'_>, base_id: BaseId) -> Result<Self> {
        let mut start = Self {
            base: base.adapter.clone(),
            state: None,
            adapter: None,
            classes: Vec::new(),
            space: base_id.feature_space(),
            d_feature: base.backbone.feature.d_feature(base.weights.config()),
        };
        if let Some(path) = &args.from {
            let name = || path.display().to_string();
            let state = decode_state(&files::read(path)?).with_context(name)?;
            ensure!(
                state.base_id == base_id,
                "{}: made with base {}, but --base is {base_id}",
                name(),
                state.base_id
            );
            for class in &state.classes {
                class.check(start.d_feature).with_context(name)?;
            }
            start.classes = state.classes.into_iter().map(Arc::new).collect();
            start.space = match &state.adapter {
                Some(adapter) => base_id.feature_space_after(adapter)?,
                None => base_id.feature_space(),
            };
            ensure!(
                start.space == state.feature_space_id,
                "{}: its network makes features {}, but it says {}",
                name(),
                start.space,
                state.feature_space_id
            );
            start.state = state.adapter;
        }
        for path in &args.after {
            let name = || path.display().to_string();
            let (file, sha256) = decode_adapter(&files::read(path)?).with_context(name)?;
            let applied = file.apply(&start.ground(base_id)).with_context(name)?;
            ensure!(
                applied.known.is_some(),
                "{}: it has no drift map for the classes known before it",
                name()
            );
            start.classes = applied.classes(sha256).with_context(name)?;
            (start.state, start.space) = (applied.state, applied.space);
        }
        start.adapter = match (&start.base, &start.state) {
            (Some(base), Some(state)) => Some(base.with_state(state.clone())?),
            (base, _) => base.clone(),
        };
        Ok(start)
    }

    /// The same as a device has it.
    pub(super) fn ground(&self, base_id: BaseId) -> Ground<'_> {
        Ground {
            base_id,
            adapter: self.base.as_ref(),
            state: self.state.as_ref(),
            d_feature: self.d_feature,
            classes: &self.classes,
        }
    }
}
