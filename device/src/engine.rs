//! The network on its device: computes features of pictures in batches, and trains tasks.
//!
//! If the device fails, the engine falls back to the processor at once: it repeats the failed work
//! there, and does all later work there too. Nothing learned is on the device alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use fail::fail_point;
use fmlora_learner::format::Base;
use fmlora_learner::{
    AdaptError, Adaptation, AdaptationConfig, Adapter, AdapterState, Class, Parity, Placement,
    PlacementError, Task, TokenCache, TrainError, Watcher, adapt, contained, place,
};
use fmlora_models::{Backbone, ComputeDevice, DeviceSpec, Hardware, Precision, Preprocess};
use indicatif::{ProgressBar, ProgressDrawTarget};
use rayon::prelude::*;

use crate::EdgeError;

/// Pictures per forward pass: enough to fill the caches, few enough to start soon.
pub(crate) const BATCH: usize = 16;

/// The network with the adapter state of all tasks. One thread owns it and computes with tensors.
#[derive(Debug)]
pub struct Engine {
    base: Arc<Base<'static>>,
    hardware: Hardware,
    parity: Option<Parity>,
    refused: Option<String>,
    /// Network of the base, without adapter.
    backbone: Backbone,
    /// Network with the adapter folded into its weights.
    adapted: Backbone,
    /// Shared bases with the state of all tasks; `None` if the base has no shared bases.
    adapter: Option<Adapter>,
    /// Tokens recorded since [`Engine::record`]; they live no longer than the task.
    recording: Option<Recording>,
    forward: Duration,
}

/// Limit of recorded tokens in bytes: about 6,900 pictures and views on the embedded base.
const MAX_RECORDED_BYTES: usize = 512 << 20;

/// Tokens of pictures and of their views, recorded for a training.
#[derive(Debug)]
struct Recording {
    pictures: TokenCache,
    views: TokenCache,
}

impl Recording {
    fn n_bytes(&self) -> usize {
        self.pictures.n_bytes() + self.views.n_bytes()
    }
}

/// Result of a batch: features `[pictures, d_feature]`, and the tokens if they are recorded.
struct Computed {
    features: Vec<f32>,
    tokens: Option<Vec<f32>>,
}

impl Engine {
    /// Builds the network of a base with the adapter state of its tasks, on the requested device,
    /// or on the processor if the results of that device differ.
    ///
    /// # Errors
    ///
    /// [`EdgeError::NoDevice`] if the device does not exist, [`EdgeError::Backbone`] if the base's
    /// parts do not fit together, [`EdgeError::Adapter`] if the adapter state does not fit the
    /// base.
    pub fn new(
        base: Arc<Base<'static>>,
        state: Option<&AdapterState>,
        spec: &DeviceSpec,
    ) -> Result<Self, EdgeError> {
        let bar = ProgressBar::hidden();
        let placed = place(&base.weights, &base.backbone, spec, BATCH, &mut |hardware| {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.set_message(format!("checking {hardware} against the processor"));
            bar.enable_steady_tick(Duration::from_millis(200));
        });
        bar.finish_and_clear();
        let Placement { backbone, hardware, parity, refused } = placed.map_err(|e| match e {
            PlacementError::Open(error) => EdgeError::NoDevice(error),
            PlacementError::Backbone(error) => EdgeError::Backbone(error),
        })?;
        if let Some(why) = &refused {
            tracing::warn!("{why}");
        }
        let mut engine = Self {
            base,
            hardware,
            parity,
            refused,
            adapted: backbone.clone(),
            backbone,
            adapter: None,
            recording: None,
            forward: Duration::ZERO,
        };
        engine.follow(state)?;
        Ok(engine)
    }

    /// Returns a second engine with the same network for another thread. Both share the weights.
    pub(crate) fn twin(&self) -> Self {
        Self {
            base: self.base.clone(),
            hardware: self.hardware.clone(),
            parity: self.parity,
            refused: self.refused.clone(),
            backbone: self.backbone.clone(),
            adapted: self.adapted.clone(),
            adapter: self.adapter.clone(),
            recording: None,
            forward: Duration::ZERO,
        }
    }

    /// Folds the adapter state of all tasks into the network; `None` is the base without tasks.
    ///
    /// # Errors
    ///
    /// [`EdgeError::Adapter`] if the state does not fit the base, [`EdgeError::Device`] if even the
    /// processor fails.
    pub(crate) fn follow(&mut self, state: Option<&AdapterState>) -> Result<(), EdgeError> {
        let Some(adapter) = self.base.adapter.clone() else { return Ok(()) };
        let learned = state.map(|state| adapter.with_state(state.clone())).transpose()?;
        self.set_adapter(learned.unwrap_or(adapter))
    }

    /// Returns the hardware on which the network computes.
    pub fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// Returns the precision of matrix products outside training.
    pub fn precision(&self) -> Precision {
        self.backbone.precision()
    }

    /// Returns the differences between the device and the processor; `None` on the processor.
    pub fn parity(&self) -> Option<Parity> {
        self.parity
    }

    /// Returns the preferred device that is not in use, and the reason; `None` if there is none.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Returns the shared bases with the state of all tasks; `None` if the base has no shared
    /// bases.
    pub(crate) fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// Replaces the adapter, and folds the new one into the network.
    fn set_adapter(&mut self, adapter: Adapter) -> Result<(), EdgeError> {
        let fold = |engine: &mut Self| {
            let branches = adapter.side_branches(engine.backbone.device());
            Ok(engine.backbone.folded(&branches))
        };
        self.adapted = self.on_device(fold)?;
        self.adapter = Some(adapter);
        Ok(())
    }

    /// Trains a task on the network of the base, and returns the result; `None` if the base has no
    /// shared bases. The adapter of the engine does not change.
    pub(crate) fn adapt(
        &mut self,
        known: &[Arc<Class>],
        task: Task<'_>,
        config: &AdaptationConfig,
        watch: Watcher<'_>,
    ) -> Result<Option<Adaptation>, EdgeError> {
        let Some(adapter) = self.adapter.clone() else { return Ok(None) };
        let outcome = self.on_device(|engine| {
            let outcome = adapt(&engine.backbone, &adapter, known, task, config, &mut *watch);
            match outcome {
                // The processor repeats the training: if it diverges there too, the task is the
                // cause.
                Err(AdaptError::Train(
                    error @ (TrainError::Device(_) | TrainError::Diverged { .. }),
                )) if engine.hardware != Hardware::Cpu => Err(error.to_string()),
                outcome => Ok(outcome),
            }
        });
        Ok(Some(outcome??))
    }

    /// Starts to record the tokens of pictures and views for a training.
    pub(crate) fn record(&mut self) {
        let vit = self.backbone.vit_config();
        let empty = TokenCache::new(vit.n_tokens(), vit.d_model);
        self.recording = Some(Recording { pictures: empty.clone(), views: empty });
    }

    /// Ends the recording, and returns the tokens since [`Engine::record`]: one row a picture, then
    /// one row a view. Returns `None` if they exceed the memory of a small box.
    pub(crate) fn recorded(&mut self) -> Option<TokenCache> {
        let Recording { mut pictures, views } = self.recording.take()?;
        pictures.append(&views).ok().map(|()| pictures)
    }

    /// Returns the preprocessing of pictures.
    pub fn preprocess(&self) -> Preprocess {
        self.backbone.config().preprocess
    }

    /// Returns the total time of forward passes. The next pictures may have been loaded in that
    /// time.
    pub fn forward_time(&self) -> Duration {
        self.forward
    }

    /// Computes the features of preprocessed pictures, in order.
    ///
    /// # Errors
    ///
    /// [`EdgeError::Device`] if even the processor fails.
    pub fn features(&mut self, pictures: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, EdgeError> {
        self.recorded_features(pictures, |recording| &mut recording.pictures)
    }

    /// Computes the features of `n` random views of each picture.
    ///
    /// # Errors
    ///
    /// [`EdgeError::Device`] if even the processor fails.
    pub(crate) fn view_features(
        &mut self,
        pictures: &[Vec<f32>],
        n: usize,
    ) -> Result<Vec<Vec<Vec<f32>>>, EdgeError> {
        if n == 0 {
            return Ok(vec![Vec::new(); pictures.len()]);
        }
        let preprocess = self.preprocess();
        let mut features = Vec::with_capacity(pictures.len());
        for some in pictures.chunks(BATCH) {
            let views: Vec<Vec<f32>> =
                some.par_iter().flat_map(|picture| preprocess.views(picture, n)).collect();
            let found = self.recorded_features(&views, |recording| &mut recording.views)?;
            features.extend(found.chunks_exact(n).map(<[Vec<f32>]>::to_vec));
        }
        Ok(features)
    }

    /// Computes the features of pictures, and adds their tokens to a part of the recording if one
    /// runs.
    fn recorded_features(
        &mut self,
        pictures: &[Vec<f32>],
        part: impl Fn(&mut Recording) -> &mut TokenCache,
    ) -> Result<Vec<Vec<f32>>, EdgeError> {
        let mut features = Vec::with_capacity(pictures.len());
        for batch in pictures.chunks(BATCH) {
            let started = Instant::now();
            let computed = self.on_device(|engine| engine.compute(batch))?;
            if let (Some(recording), Some(tokens)) = (&mut self.recording, &computed.tokens) {
                let pushed = part(recording).push(tokens);
                pushed.map_err(|e| EdgeError::Device(e.to_string()))?;
                if recording.n_bytes() > MAX_RECORDED_BYTES {
                    tracing::warn!("too many pictures to train on: their statistics are kept");
                    self.recording = None;
                }
            }
            let of_picture = computed.features.chunks_exact(self.backbone.d_feature());
            features.extend(of_picture.map(<[f32]>::to_vec));
            self.forward += started.elapsed();
        }
        Ok(features)
    }

    fn compute(&self, batch: &[Vec<f32>]) -> Result<Computed, String> {
        let mut pixels = batch.concat();
        if self.hardware != Hardware::Cpu {
            // A GPU searches for its fastest kernels at each new shape, so all batches have one
            // shape.
            pixels.resize(BATCH * self.backbone.n_pixels(), 0.0);
        }
        let tokens = self.backbone.tokens(pixels);
        let kept = self.recording.is_some().then(|| tokens.clone());
        let features = leading(self.adapted.suffix(tokens), batch.len())?;
        if features.iter().any(|number| !number.is_finite()) {
            return Err("its features are no numbers".to_owned());
        }
        let tokens = kept.map(|tokens| leading(tokens, batch.len())).transpose()?;
        Ok(Computed { features, tokens })
    }

    /// Runs `work` on the device, and again on the processor if the device fails.
    fn on_device<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, String>,
    ) -> Result<T, EdgeError> {
        if self.hardware == Hardware::Cpu {
            return work(self).map_err(EdgeError::Device);
        }
        let done = contained(|| {
            fail_point!("device", |_| Err("simulated by a fail point".to_owned()));
            work(self)
        });
        done.or_else(|why| {
            let why =
                format!("{} failed: {why}: the processor is used from here on", self.hardware);
            tracing::warn!("{why}");
            self.move_to_processor(why)?;
            work(self).map_err(EdgeError::Device)
        })
    }

    fn move_to_processor(&mut self, why: String) -> Result<(), EdgeError> {
        let cpu = ComputeDevice::cpu();
        let backbone = Backbone::new(&self.base.weights, self.base.backbone.clone(), &cpu.device);
        self.backbone = backbone.map_err(EdgeError::Backbone)?;
        self.adapted = match &self.adapter {
            Some(adapter) => self.backbone.folded(&adapter.side_branches(&cpu.device)),
            None => self.backbone.clone(),
        };
        self.hardware = cpu.hardware;
        self.parity = None;
        self.refused = Some(why);
        Ok(())
    }
}

/// Returns the numbers of the first `n` pictures of a batch.
fn leading<const D: usize>(tensor: Tensor<D>, n: usize) -> Result<Vec<f32>, String> {
    let size = tensor.dims()[1..].iter().product::<usize>();
    let data = tensor.try_into_data().map_err(|e| e.to_string())?;
    let mut numbers = data.try_into_vec::<f32>().map_err(|e| e.to_string())?;
    numbers.truncate(n * size);
    Ok(numbers)
}
