//! The network on its device: pictures to features, in batches.

use std::time::{Duration, Instant};

use burn::tensor::Device;
use fmlora_learner::format::Base;
use fmlora_models::{Backbone, Preprocess};

use crate::EdgeError;

/// Pictures of one forward pass: enough to fill the caches, little enough to start soon.
pub(crate) const BATCH: usize = 16;

/// The frozen network, owned by the one thread that computes with tensors.
#[derive(Debug)]
pub struct Engine {
    backbone: Backbone,
    forward: Duration,
}

impl Engine {
    /// Builds the network of a base on the processor.
    ///
    /// # Errors
    ///
    /// [`EdgeError::Backbone`] if the base's parts do not fit together.
    pub fn new(base: &Base<'_>) -> Result<Self, EdgeError> {
        let backbone = Backbone::new(&base.weights, base.backbone.clone(), &Device::flex())
            .map_err(EdgeError::Backbone)?;
        Ok(Self { backbone, forward: Duration::ZERO })
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
            features.extend(self.backbone.features(batch.concat()).map_err(EdgeError::Device)?);
            self.forward += started.elapsed();
        }
        Ok(features)
    }
}
