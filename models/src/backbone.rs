//! The frozen network as the rest of the system sees it: pictures in, features out, split where
//! adaptation begins.

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::side_branch::BlockBranches;
use crate::vit::{PackedBlocks, Wanted};
use crate::{
    ConfigError, FeatureConfig, Observer, Preprocess, PreprocessError, SideBranches, Vit,
    VitConfig, VitWeights,
};
use thiserror::Error;

/// How a network is used: which pictures it takes, where it is split, what its feature is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackboneConfig {
    /// Resize, crop and normalisation of pictures.
    pub preprocess: Preprocess,
    /// The first block that a task may adapt; all before it are the prefix.
    pub first_adapted_block: usize,
    /// What of the tokens becomes the feature.
    pub feature: FeatureConfig,
}

/// Why a [`BackboneConfig`] does not fit a network.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum BackboneError {
    /// Blocks or tokens that are not there.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Numbers of the preprocessing that make no sense.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
}

impl BackboneConfig {
    /// The defaults for a network: ImageNet's normalisation, the later half of the blocks adaptable,
    /// class and mean token of the last two blocks.
    pub fn of(config: &VitConfig) -> Self {
        Self {
            preprocess: Preprocess::imagenet(config.image_size),
            first_adapted_block: (config.depth / 2).min(config.depth.saturating_sub(2)),
            feature: FeatureConfig::last_blocks(config, 2),
        }
    }

    /// Checks that everything named exists in the network.
    ///
    /// # Errors
    ///
    /// [`BackboneError`] says what does not fit.
    pub fn check(&self, config: &VitConfig) -> Result<(), BackboneError> {
        self.preprocess.check(config.image_size)?;
        self.feature.check(config)?;
        let (split, depth) = (self.first_adapted_block, config.depth);
        if split >= depth {
            let what = "first_adapted_block";
            return Err(ConfigError::NoSuchBlock { what, block: split, depth }.into());
        }
        // A feature taken before the split could never be adapted, and would not be in the suffix.
        match self.feature.blocks.iter().find(|&&block| block < split) {
            Some(&block) => Err(ConfigError::FeatureBeforeSplit { block, split }.into()),
            None => Ok(()),
        }
    }
}

/// How precisely a network multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// All in f32.
    F32,
    /// Weights and inputs of the blocks' products in f16, everything else and all training in f32.
    F16,
}

/// A frozen network on a device.
#[derive(Debug, Clone)]
pub struct Backbone {
    vit: Vit,
    /// The blocks once more, as the CPU computes them fastest; `None` on other devices.
    packed: Option<PackedBlocks>,
    /// The blocks once more with products in f16, for everything but training.
    half: Option<Vit>,
    config: BackboneConfig,
    vit_config: VitConfig,
    /// Prompt tokens that were folded in.
    prompt: Option<Tensor<2>>,
    device: Device,
}

impl Backbone {
    /// Puts a network on a device.
    ///
    /// # Errors
    ///
    /// [`BackboneError`] if `config` does not fit the network.
    pub fn new(
        weights: &VitWeights<'_>,
        config: BackboneConfig,
        device: &Device,
    ) -> Result<Self, BackboneError> {
        config.check(weights.config())?;
        let (vit, vit_config) = (Vit::new(weights, device), weights.config().clone());
        let packed = PackedBlocks::new(&vit, &vit_config);
        let device = device.clone();
        Ok(Self { vit, packed, half: None, config, vit_config, prompt: None, device })
    }

    /// The same network, tensor by tensor even on the processor: what every other device computes.
    #[must_use]
    pub fn unpacked(self) -> Self {
        Self { packed: None, ..self }
    }

    /// The same network, tensor by tensor, that multiplies in f16 wherever it does not train.
    #[must_use]
    pub fn halved(self) -> Self {
        Self { packed: None, half: Some(self.vit.halved()), ..self }
    }

    /// How it multiplies where it does not train.
    pub fn precision(&self) -> Precision {
        if self.half.is_some() { Precision::F16 } else { Precision::F32 }
    }

    /// How the network is used.
    pub fn config(&self) -> &BackboneConfig {
        &self.config
    }

    /// The shape of the network.
    pub fn vit_config(&self) -> &VitConfig {
        &self.vit_config
    }

    /// Where the network computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Numbers of a feature.
    pub fn d_feature(&self) -> usize {
        self.config.feature.d_feature(&self.vit_config)
    }

    /// Numbers of a preprocessed picture.
    pub fn n_pixels(&self) -> usize {
        3 * self.vit_config.image_size * self.vit_config.image_size
    }

    /// The blocks that never change.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, 3, size, size]`
    /// - output: `[batch, tokens, d]`, tokens entering the first adapted block
    pub fn prefix(&self, images: Tensor<4>) -> Tensor<3> {
        let embedded = self.vit.embed(images);
        (0..self.config.first_adapted_block).fold(embedded, |t, i| self.block(i, t))
    }

    /// The blocks that tasks may adapt, and the feature.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[batch, tokens, d]` from [`Backbone::prefix`]
    /// - output: `[batch, d_feature]`
    pub fn suffix(&self, tokens: Tensor<3>) -> Tensor<2> {
        let n_patches = self.patches_of(&tokens);
        let tokens = self.prompted(tokens, self.prompt.as_ref());
        match &self.packed {
            Some(packed) => {
                let block = |i, t, wanted| packed.block(i, t, wanted);
                self.packed_suffix_of(tokens, n_patches, block)
            }
            None => self.suffix_of(tokens, n_patches, |i, t| self.block(i, t)),
        }
    }

    fn block(&self, index: usize, tokens: Tensor<3>) -> Tensor<3> {
        match (&self.packed, &self.half) {
            (Some(packed), _) => packed.block(index, tokens, Wanted::Tokens),
            (None, Some(half)) => half.block(index, tokens),
            (None, None) => self.vit.block(index, tokens),
        }
    }

    /// The same with side branches, and with their prompt instead of one folded in earlier.
    ///
    /// Gradients flow to whatever tensors of `branches` are on an autodiff device; the network itself and the
    /// tokens are constants. Patches may be missing, as in a training that draws some of them at each step.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[batch, tokens, d]` from [`Backbone::prefix`], the prefix tokens and any of the patches
    /// - output: `[batch, d_feature]`
    pub fn suffix_with(
        &self,
        tokens: Tensor<3>,
        branches: &SideBranches,
        mut observer: Option<Observer<'_>>,
    ) -> Tensor<2> {
        let n_patches = self.patches_of(&tokens);
        let tokens = self.prompted(tokens, branches.prompt.as_ref());
        if let (Some(packed), None) = (&self.packed, &observer) {
            let (config, first) = (&self.vit_config, self.config.first_adapted_block);
            let before = config.n_prefix_tokens();
            let prompt = before..before + branches.prompt.as_ref().map_or(0, |p| p.dims()[0]);
            return self.packed_suffix_of(tokens, n_patches, |i, tokens, wanted| {
                let back_to = if i == first { prompt.clone() } else { 0..tokens.dims()[1] };
                packed.block_with(config, i, tokens, branches, wanted, back_to)
            });
        }
        self.suffix_of(tokens, n_patches, |block, tokens| {
            let observer = observer.as_mut().map(|o| &mut **o as Observer<'_>);
            self.vit.block_with(tokens, &mut BlockBranches { block, all: branches, observer })
        })
    }

    /// The network with side branches added to its weights and their prompt kept: [`Backbone::suffix`] then
    /// computes what [`Backbone::suffix_with`] does, at the price of the plain network and the prompt's
    /// tokens.
    #[must_use]
    pub fn folded(&self, branches: &SideBranches) -> Self {
        let vit = self.vit.folded(&self.vit_config, branches);
        let packed = self.packed.as_ref().map(|p| p.folded(&vit, branches));
        let half = self.half.is_some().then(|| vit.halved());
        Self { vit, packed, half, prompt: branches.prompt.clone(), ..self.clone() }
    }

    /// Puts prompt tokens behind the class token and the registers.
    fn prompted(&self, tokens: Tensor<3>, prompt: Option<&Tensor<2>>) -> Tensor<3> {
        let Some(prompt) = prompt else { return tokens };
        let ([batch, n_tokens, d], [m, _]) = (tokens.dims(), prompt.dims());
        let n_prefix = self.vit_config.n_prefix_tokens();
        let prompt = prompt.clone().unsqueeze::<3>().expand([batch, m, d]);
        let patches = tokens.clone().narrow(1, n_prefix, n_tokens - n_prefix);
        Tensor::cat(vec![tokens.narrow(1, 0, n_prefix), prompt, patches], 1)
    }

    fn suffix_of(
        &self,
        tokens: Tensor<3>,
        n_patches: usize,
        mut block_of: impl FnMut(usize, Tensor<3>) -> Tensor<3>,
    ) -> Tensor<2> {
        self.feature_of(tokens, |block, tokens| (block_of(block, tokens), n_patches))
    }

    /// Patches among tokens without a prompt.
    fn patches_of(&self, tokens: &Tensor<3>) -> usize {
        tokens.dims()[1] - self.vit_config.n_prefix_tokens()
    }

    /// As [`Backbone::suffix_of`], but of the last block only that is computed which the feature takes.
    fn packed_suffix_of(
        &self,
        tokens: Tensor<3>,
        n_patches: usize,
        mut block_of: impl FnMut(usize, Tensor<3>, Wanted) -> Tensor<3>,
    ) -> Tensor<2> {
        let last = self.config.feature.last_block();
        self.feature_of(tokens, |block, tokens| {
            if block == last {
                (block_of(block, tokens, Wanted::ClassAndMean { n_patches }), 1)
            } else {
                (block_of(block, tokens, Wanted::Tokens), n_patches)
            }
        })
    }

    /// The feature from what blocks give: tokens, and how many of them, at their end, are patches.
    fn feature_of(
        &self,
        mut tokens: Tensor<3>,
        mut block_of: impl FnMut(usize, Tensor<3>) -> (Tensor<3>, usize),
    ) -> Tensor<2> {
        let feature = &self.config.feature;
        let mut parts = vec![None; feature.blocks.len()];
        for block in self.config.first_adapted_block..=feature.last_block() {
            let n_patches;
            (tokens, n_patches) = block_of(block, tokens);
            if let Some(place) = feature.blocks.iter().position(|&b| b == block) {
                parts[place] = Some(feature.of_block(&tokens, n_patches));
            }
        }
        Tensor::cat(parts.into_iter().flatten().collect(), 1)
    }

    /// [`Backbone::prefix`] of preprocessed pictures, each `n_pixels` numbers, one after the other.
    pub fn tokens(&self, pixels: Vec<f32>) -> Tensor<3> {
        let (batch, side) = (pixels.len() / self.n_pixels(), self.vit_config.image_size);
        let data = TensorData::new(pixels, [batch, 3, side, side]);
        self.prefix(Tensor::from_data(data, &self.device))
    }

    /// Features of preprocessed pictures, each `n_pixels` numbers, one after the other.
    ///
    /// # Errors
    ///
    /// Text of the backend if the device failed.
    pub fn features(&self, pixels: Vec<f32>) -> Result<Vec<Vec<f32>>, String> {
        let batch = pixels.len() / self.n_pixels();
        if batch == 0 {
            return Ok(Vec::new());
        }
        let features = self.suffix(self.tokens(pixels));
        let data = features.try_into_data().map_err(|e| e.to_string())?;
        let numbers = data.try_into_vec::<f32>().map_err(|e| e.to_string())?;
        Ok(numbers.chunks_exact(self.d_feature()).map(<[f32]>::to_vec).collect())
    }
}
