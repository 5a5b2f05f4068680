//! The network on its device: pictures to features, in batches, and the training of tasks.
//!
//! A device that fails is left at once: what it was doing is done again on the processor, and everything after
//! it too. Nothing learnt is on the device alone.

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

/// Pictures of one forward pass: enough to fill the caches, little enough to start soon.
pub(crate) const BATCH: usize = 16;

/// The network and what tasks have left in it, owned by the one thread that computes with tensors.
#[derive(Debug)]
pub struct Engine {
    base: Arc<Base<'static>>,
    hardware: Hardware,
    parity: Option<Parity>,
    refused: Option<String>,
    /// As the base has it.
    backbone: Backbone,
    /// With everything learnt folded into its weights.
    adapted: Backbone,
    /// Shared bases, if the base has any, with everything learnt.
    adapter: Option<Adapter>,
    /// Tokens since [`Engine::record`]; they live no longer than the task.
    recording: Option<Recording>,
    forward: Duration,
}

/// Most bytes of tokens that are kept for a training: some 6,600 pictures and views of the embedded base.
const MAX_RECORDED_BYTES: usize = 512 << 20;

/// Tokens of pictures and of their views, kept for a training.
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

/// What a batch gives: `[pictures, d_feature]`, and the tokens that were made on the way if they are kept.
struct Computed {
    features: Vec<f32>,
    tokens: Option<Vec<f32>>,
}

impl Engine {
    /// Builds the network of a base, with what tasks have left, on the device that is asked for, or on the
    /// processor if that device computes something else.
    ///
    /// # Errors
    ///
    /// [`EdgeError::NoDevice`] if there is no such device, [`EdgeError::Backbone`] if the base's parts do not fit
    /// together, [`EdgeError::Adapter`] if what tasks have left does not fit the base.
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

    /// A second engine that computes the same, for another thread; the weights are shared.
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

    /// Folds what tasks have left into the network, or nothing if they have left nothing.
    ///
    /// # Errors
    ///
    /// [`EdgeError::Adapter`] if it does not fit the base, [`EdgeError::Device`] if even the processor fails.
    pub(crate) fn follow(&mut self, state: Option<&AdapterState>) -> Result<(), EdgeError> {
        let Some(adapter) = self.base.adapter.clone() else { return Ok(()) };
        let learnt = state.map(|state| adapter.with_state(state.clone())).transpose()?;
        self.set_adapter(learnt.unwrap_or(adapter))
    }

    /// Where the network computes.
    pub fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// How the network multiplies where it does not train.
    pub fn precision(&self) -> Precision {
        self.backbone.precision()
    }

    /// How far the device is from the processor; `None` on the processor.
    pub fn parity(&self) -> Option<Parity> {
        self.parity
    }

    /// What would have been used first and why it is not.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Shared bases with everything learnt; `None` for a base without.
    pub(crate) fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// Folds another adapter into the network.
    fn set_adapter(&mut self, adapter: Adapter) -> Result<(), EdgeError> {
        let fold = |engine: &mut Self| {
            let branches = adapter.side_branches(engine.backbone.device());
            Ok(engine.backbone.folded(&branches))
        };
        self.adapted = self.on_device(fold)?;
        self.adapter = Some(adapter);
        Ok(())
    }

    /// Lets a task adapt the network as the base has it; nothing of the engine changes.
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
                // What diverges on the processor too is the task's fault, and is said there.
                Err(AdaptError::Train(
                    error @ (TrainError::Device(_) | TrainError::Diverged { .. }),
                )) if engine.hardware != Hardware::Cpu => Err(error.to_string()),
                outcome => Ok(outcome),
            }
        });
        Ok(Some(outcome??))
    }

    /// Keeps the tokens of the pictures and views that follow, for a training.
    pub(crate) fn record(&mut self) {
        let vit = self.backbone.vit_config();
        let empty = TokenCache::new(vit.n_tokens(), vit.d_model);
        self.recording = Some(Recording { pictures: empty.clone(), views: empty });
    }

    /// The tokens kept since [`Engine::record`]: one row a picture, then one row a view. None are kept from here on, and
    /// there are none if they would have been more than a small box can hold.
    pub(crate) fn recorded(&mut self) -> Option<TokenCache> {
        let Recording { mut pictures, views } = self.recording.take()?;
        pictures.append(&views).ok().map(|()| pictures)
    }

    /// How pictures become numbers.
    pub fn preprocess(&self) -> Preprocess {
        self.backbone.config().preprocess
    }

    /// Time spent in forward passes so far; pictures that follow may have been loaded meanwhile.
    pub fn forward_time(&self) -> Duration {
        self.forward
    }

    /// Features of preprocessed pictures, in order.
    ///
    /// # Errors
    ///
    /// [`EdgeError::Device`] if even the processor fails.
    pub fn features(&mut self, pictures: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, EdgeError> {
        self.recorded_features(pictures, |recording| &mut recording.pictures)
    }

    /// Features of random views of each picture, `n` of each.
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

    /// Features of pictures, whose tokens go to a part of the recording if there is one.
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
            // Every new shape costs a graphics adapter a search for its quickest kernels.
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

    /// Does something on the device, and once more on the processor if the device fails.
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
        (self.hardware, self.parity, self.refused) = (cpu.hardware, None, Some(why));
        Ok(())
    }
}

/// The numbers of the first pictures of a batch.
fn leading<const D: usize>(tensor: Tensor<D>, n: usize) -> Result<Vec<f32>, String> {
    let size = tensor.dims()[1..].iter().product::<usize>();
    let numbers = tensor.try_into_data().map_err(|e| e.to_string())?;
    let mut numbers = numbers.try_into_vec::<f32>().map_err(|e| e.to_string())?;
    numbers.truncate(n * size);
    Ok(numbers)
}
