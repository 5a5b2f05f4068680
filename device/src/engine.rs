//! The network on its device: pictures to features, in batches.

use std::time::{Duration, Instant};

use burn::tensor::Device;
use fmlora_learner::format::Base;
use fmlora_learner::{Adapter, AdapterState, TokenCache};
use fmlora_models::{Backbone, Preprocess};

use crate::EdgeError;

/// Pictures of one forward pass: enough to fill the caches, little enough to start soon.
pub(crate) const BATCH: usize = 16;

/// The network and what tasks have left in it, owned by the one thread that computes with tensors.
#[derive(Debug)]
pub struct Engine {
    /// As the base has it.
    backbone: Backbone,
    /// With everything learnt folded into its weights.
    adapted: Backbone,
    /// Shared bases, if the base has any, with everything learnt.
    adapter: Option<Adapter>,
    /// Tokens of the pictures since [`Engine::record`]; they live no longer than the task.
    recording: Option<TokenCache>,
    forward: Duration,
}

impl Engine {
    /// Builds the network of a base on the processor, with what tasks have left.
    ///
    /// # Errors
    ///
    /// [`EdgeError::Backbone`] if the base's parts do not fit together, [`EdgeError::Adapter`] if what tasks
    /// have left does not fit the base.
    pub fn new(base: &Base<'_>, state: Option<&AdapterState>) -> Result<Self, EdgeError> {
        let backbone = Backbone::new(&base.weights, base.backbone.clone(), &Device::flex())
            .map_err(EdgeError::Backbone)?;
        let mut engine = Self {
            adapted: backbone.clone(),
            backbone,
            adapter: base.adapter.clone(),
            recording: None,
            forward: Duration::ZERO,
        };
        if let Some(adapter) = engine.adapter.clone() {
            let adapter = match state {
                Some(state) => adapter.with_state(state.clone())?,
                None => adapter,
            };
            engine.set_adapter(adapter);
        }
        Ok(engine)
    }

    /// The network as the base has it: what trainings run on.
    pub(crate) fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// Shared bases with everything learnt; `None` for a base without.
    pub(crate) fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// Folds another adapter into the network.
    pub(crate) fn set_adapter(&mut self, adapter: Adapter) {
        self.adapted = self.backbone.folded(&adapter.side_branches(self.backbone.device()));
        self.adapter = Some(adapter);
    }

    /// Keeps the tokens of the pictures that follow, for a training.
    pub(crate) fn record(&mut self) {
        let vit = self.backbone.vit_config();
        self.recording = Some(TokenCache::new(vit.n_tokens(), vit.d_model));
    }

    /// The tokens kept since [`Engine::record`], one row a picture; none are kept from here on.
    pub(crate) fn recorded(&mut self) -> Option<TokenCache> {
        self.recording.take()
    }

    /// How pictures become numbers.
    pub fn preprocess(&self) -> Preprocess {
        self.backbone.config().preprocess
    }

    /// Time spent in forward passes so far.
    pub fn forward_time(&self) -> Duration {
        self.forward
    }

    /// Features of preprocessed pictures, in order.
    ///
    /// # Errors
    ///
    /// [`EdgeError::Device`] if the backend fails.
    pub fn features(&mut self, pictures: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, EdgeError> {
        let mut features = Vec::with_capacity(pictures.len());
        for batch in pictures.chunks(BATCH) {
            let started = Instant::now();
            let tokens = self.backbone.tokens(batch.concat());
            if let Some(recording) = &mut self.recording {
                let numbers = tokens.clone().try_into_data().map_err(device)?;
                let numbers = numbers.try_into_vec::<f32>().map_err(device)?;
                recording.push(&numbers).map_err(device)?;
            }
            let found = self.adapted.suffix(tokens).try_into_data().map_err(device)?;
            let found = found.try_into_vec::<f32>().map_err(device)?;
            features.extend(found.chunks_exact(self.backbone.d_feature()).map(<[f32]>::to_vec));
            self.forward += started.elapsed();
        }
        Ok(features)
    }
}

fn device(error: impl std::fmt::Display) -> EdgeError {
    EdgeError::Device(error.to_string())
}
