//! The frozen backbone: pictures in, features out, split into prefix and suffix at the first
//! adapted block.

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::side_branch::BlockBranches;
use crate::vit::{PackedBlocks, Wanted};
use crate::{
    ConfigError, FeatureConfig, Observer, Preprocess, PreprocessError, SideBranches, Vit,
    VitConfig, VitWeights,
};
use thiserror::Error;

/// Configuration of a backbone: preprocessing, split into prefix and suffix, and feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackboneConfig {
    /// Resize, crop and normalisation of pictures.
    pub preprocess: Preprocess,
    /// The first block that a task may adapt. The blocks before it are the prefix.
    pub first_adapted_block: usize,
    /// Blocks and tokens that form the feature.
    pub feature: FeatureConfig,
}

/// Mismatch of a [`BackboneConfig`] and a network.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum BackboneError {
    /// The network lacks a block or token.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Invalid numbers of the preprocessing.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
}

impl BackboneConfig {
    /// Returns the defaults for a network: ImageNet's normalisation, the later half of the blocks
    /// adaptable, class and mean token of the last two blocks.
    pub fn of(config: &VitConfig) -> Self {
        Self {
            preprocess: Preprocess::imagenet(config.image_size),
            first_adapted_block: (config.depth / 2).min(config.depth.saturating_sub(2)),
            feature: FeatureConfig::last_blocks(config, 2),
        }
    }

    /// Checks that the network has the configured blocks and tokens, and that the preprocessing is
    /// valid.
    ///
    /// # Errors
    ///
    /// [`BackboneError`] names the mismatch.
    pub fn check(&self, config: &VitConfig) -> Result<(), BackboneError> {
        self.preprocess.check(config.image_size)?;
        self.feature.check(config)?;
        let split = self.first_adapted_block;
        let depth = config.depth;
        if split >= depth {
            let what = "first_adapted_block";
            return Err(ConfigError::NoSuchBlock { what, block: split, depth }.into());
        }
        // A feature from a block before the split cannot be adapted and is not part of the suffix.
        match self.feature.blocks.iter().find(|&&block| block < split) {
            Some(&block) => Err(ConfigError::FeatureBeforeSplit { block, split }.into()),
            None => Ok(()),
        }
    }
}

/// Precision of a network's matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// All products in f32.
    F32,
    /// Weights and inputs of the blocks' products in f16. Everything else, and all training, in
    /// f32.
    F16,
}

/// A frozen network on a device.
#[derive(Debug, Clone)]
pub struct Backbone {
    vit: Vit,
    /// Copy of the blocks in the layout that is fastest on the CPU. `None` on other devices.
    packed: Option<PackedBlocks>,
    /// Copy of the network with the blocks' products in f16, for inference.
    half: Option<Vit>,
    config: BackboneConfig,
    vit_config: VitConfig,
    /// Prompt tokens of the folded side branches.
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
        let vit = Vit::new(weights, device);
        let vit_config = weights.config().clone();
        let packed = PackedBlocks::new(&vit, &vit_config);
        let device = device.clone();
        Ok(Self { vit, packed, half: None, config, vit_config, prompt: None, device })
    }

    /// Returns the network without packed blocks: it computes tensor by tensor on the CPU too, as
    /// on every other device.
    #[must_use]
    pub fn unpacked(self) -> Self {
        Self { packed: None, ..self }
    }

    /// Returns the network without packed blocks and with the blocks' products in f16, except in
    /// training.
    #[must_use]
    pub fn halved(self) -> Self {
        Self { packed: None, half: Some(self.vit.halved()), ..self }
    }

    /// Precision of the products in inference.
    pub fn precision(&self) -> Precision {
        if self.half.is_some() { Precision::F16 } else { Precision::F32 }
    }

    /// Configuration of the backbone.
    pub fn config(&self) -> &BackboneConfig {
        &self.config
    }

    /// Shape of the network.
    pub fn vit_config(&self) -> &VitConfig {
        &self.vit_config
    }

    /// Device of the network.
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

    /// Computes the prefix: embedding and the blocks that never change.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, 3, size, size]`
    /// - output: `[batch, tokens, d]`, tokens entering the first adapted block
    pub fn prefix(&self, images: Tensor<4>) -> Tensor<3> {
        let embedded = self.vit.embed(images);
        (0..self.config.first_adapted_block).fold(embedded, |t, i| self.block(i, t))
    }

    /// Computes the suffix: the blocks that tasks may adapt, and the feature.
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

    /// Computes [`Backbone::suffix`] with side branches, and with their prompt instead of a folded
    /// one.
    ///
    /// Gradients flow to the tensors of `branches` that are on an autodiff device. The network and
    /// the tokens are constants. Patches may be missing, as in a training that draws some of them
    /// for each step.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[batch, tokens, d]` from [`Backbone::prefix`], the prefix tokens and any of the
    ///   patches
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
            let config = &self.vit_config;
            let first = self.config.first_adapted_block;
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

    /// Folds side branches into the weights and keeps their prompt. [`Backbone::suffix`] of the
    /// result computes the same as [`Backbone::suffix_with`], at the cost of the plain network and
    /// the prompt tokens.
    #[must_use]
    pub fn folded(&self, branches: &SideBranches) -> Self {
        let vit = self.vit.folded(&self.vit_config, branches);
        let packed = self.packed.as_ref().map(|p| p.folded(&vit, branches));
        let half = self.half.is_some().then(|| vit.halved());
        Self { vit, packed, half, prompt: branches.prompt.clone(), ..self.clone() }
    }

    /// Inserts prompt tokens after the class token and the registers.
    fn prompted(&self, tokens: Tensor<3>, prompt: Option<&Tensor<2>>) -> Tensor<3> {
        let Some(prompt) = prompt else { return tokens };
        let [batch, n_tokens, d] = tokens.dims();
        let [m, _] = prompt.dims();
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

    /// Number of patches among tokens without a prompt.
    fn patches_of(&self, tokens: &Tensor<3>) -> usize {
        tokens.dims()[1] - self.vit_config.n_prefix_tokens()
    }

    /// Computes [`Backbone::suffix_of`], but only the outputs of the last block that the feature
    /// takes.
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

    /// Computes the feature. `block_of` runs a block and returns its tokens, and the number of
    /// patches at their end.
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

    /// Computes [`Backbone::prefix`] of preprocessed pictures, each `n_pixels` numbers, one after
    /// the other.
    pub fn tokens(&self, pixels: Vec<f32>) -> Tensor<3> {
        let batch = pixels.len() / self.n_pixels();
        let side = self.vit_config.image_size;
        let data = TensorData::new(pixels, [batch, 3, side, side]);
        self.prefix(Tensor::from_data(data, &self.device))
    }

    /// Computes the features of preprocessed pictures, each `n_pixels` numbers, one after the
    /// other.
    ///
    /// # Errors
    ///
    /// Error text of the backend if the device fails.
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
