//! Training examples: tokens that the frozen prefix computes once, cached as f16.

use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use half::slice::HalfFloatSliceExt;
use rand::rngs::StdRng;
use thiserror::Error;

/// Cache of the tokens that enter the first adapted block, one set for each picture.
///
/// Pictures can be reconstructed from their tokens, so a cache lives no longer than the job that
/// fills it.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenCache {
    n_tokens: usize,
    d_model: usize,
    values: Vec<f16>,
}

/// Pictures with their classes: rows of a cache and a label for each.
#[derive(Debug, Clone, Copy)]
pub struct Examples<'a> {
    /// Cache with the tokens.
    pub tokens: &'a TokenCache,
    /// Rows of the cache.
    pub rows: &'a [usize],
    /// Class of each row, counted from 0 among the classes of the head.
    pub labels: &'a [usize],
    /// Penalty on the change of the features.
    pub pull: Option<FeaturePull<'a>>,
}

/// Penalty on the squared distance of features from those before the task.
#[derive(Debug, Clone, Copy)]
pub struct FeaturePull<'a> {
    /// Features before the task, by row of the cache.
    pub features: &'a [Vec<f32>],
    /// Weight of the mean squared distance of a feature's numbers.
    pub weight: f64,
}

/// Error in the shape of tokens, rows or labels.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExamplesError {
    /// The numbers do not fill whole pictures.
    #[error("{found} numbers do not fill pictures of {n_tokens} tokens of {d_model} numbers")]
    Length {
        /// Numbers found.
        found: usize,
        /// Tokens of a picture.
        n_tokens: usize,
        /// Numbers of a token.
        d_model: usize,
    },
    /// Rows and labels differ in number.
    #[error("{rows} rows and {labels} labels, expected as many of one as of the other")]
    Labels {
        /// Rows given.
        rows: usize,
        /// Labels given.
        labels: usize,
    },
    /// A row beyond the end of the cache.
    #[error("row {row} of a cache of {len} pictures")]
    Row {
        /// The row.
        row: usize,
        /// Pictures in the cache.
        len: usize,
    },
}

impl TokenCache {
    /// Creates an empty cache for pictures of `n_tokens` tokens.
    pub fn new(n_tokens: usize, d_model: usize) -> Self {
        Self { n_tokens, d_model, values: Vec::new() }
    }

    /// Adds the tokens of pictures: `[pictures, n_tokens, d_model]`, row-major.
    ///
    /// # Errors
    ///
    /// [`ExamplesError::Length`].
    pub fn push(&mut self, tokens: &[f32]) -> Result<(), ExamplesError> {
        let (n_tokens, d_model) = (self.n_tokens, self.d_model);
        if !tokens.len().is_multiple_of((n_tokens * d_model).max(1)) {
            return Err(ExamplesError::Length { found: tokens.len(), n_tokens, d_model });
        }
        let start = self.values.len();
        self.values.resize(start + tokens.len(), f16::ZERO);
        self.values[start..].convert_from_f32_slice(tokens);
        Ok(())
    }

    /// Appends the pictures of another cache of the same shape.
    ///
    /// # Errors
    ///
    /// [`ExamplesError::Length`] if the other cache has another shape of tokens.
    pub fn append(&mut self, other: &Self) -> Result<(), ExamplesError> {
        let (n_tokens, d_model) = (self.n_tokens, self.d_model);
        if [other.n_tokens, other.d_model] != [n_tokens, d_model] {
            return Err(ExamplesError::Length { found: other.values.len(), n_tokens, d_model });
        }
        self.values.extend_from_slice(&other.values);
        Ok(())
    }

    /// Returns the tokens as bytes: f16, little endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    /// Creates a cache from the bytes of [`TokenCache::to_bytes`].
    ///
    /// # Errors
    ///
    /// [`ExamplesError::Length`] if the bytes do not fill whole pictures.
    pub fn from_bytes(
        n_tokens: usize,
        d_model: usize,
        bytes: &[u8],
    ) -> Result<Self, ExamplesError> {
        if !bytes.len().is_multiple_of((2 * n_tokens * d_model).max(1)) {
            return Err(ExamplesError::Length { found: bytes.len() / 2, n_tokens, d_model });
        }
        let values = bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect();
        Ok(Self { n_tokens, d_model, values })
    }

    /// Copies rows into a new cache.
    #[must_use]
    pub fn subset(&self, rows: &[usize]) -> Self {
        let size = self.n_tokens * self.d_model;
        let values = rows.iter().flat_map(|&row| &self.values[row * size..][..size]).copied();
        Self { values: values.collect(), ..*self }
    }

    /// Number of pictures in the cache.
    pub fn len(&self) -> usize {
        self.values.len() / (self.n_tokens * self.d_model).max(1)
    }

    /// Returns true if the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Size of the tokens, in bytes.
    pub fn n_bytes(&self) -> usize {
        self.values.len() * size_of::<f16>()
    }

    /// Returns the tokens of `rows`: `[rows, n_tokens, d_model]`, f32.
    pub fn batch(&self, rows: &[usize], device: &Device) -> Tensor<3> {
        let all: Vec<usize> = (0..self.n_tokens).collect();
        self.batch_of(rows, &mut || all.clone(), device)
    }

    /// Returns the first `n_prefix` tokens and `n_patches` random patches of each of `rows`:
    /// `[rows, n_prefix + n_patches, d_model]`, f32.
    pub fn batch_of_patches(
        &self,
        rows: &[usize],
        n_prefix: usize,
        n_patches: usize,
        rng: &mut StdRng,
        device: &Device,
    ) -> Tensor<3> {
        let n_all = self.n_tokens.saturating_sub(n_prefix);
        let mut drawn = || {
            let patches = rand::seq::index::sample(rng, n_all, n_patches.min(n_all));
            let mut tokens: Vec<usize> = patches.into_iter().map(|i| n_prefix + i).collect();
            tokens.extend(0..n_prefix);
            tokens.sort_unstable();
            tokens
        };
        self.batch_of(rows, &mut drawn, device)
    }

    /// Returns selected tokens of `rows`. `tokens` returns the indices for the next picture, the
    /// same number for each.
    fn batch_of(
        &self,
        rows: &[usize],
        tokens: &mut dyn FnMut() -> Vec<usize>,
        device: &Device,
    ) -> Tensor<3> {
        let d = self.d_model;
        let mut n_kept = 0;
        let mut values = Vec::new();
        for &row in rows {
            let picture = &self.values[row * self.n_tokens * d..][..self.n_tokens * d];
            let kept = tokens();
            n_kept = kept.len();
            let start = values.len();
            values.resize(start + n_kept * d, 0.0f32);
            for (target, token) in values[start..].chunks_exact_mut(d.max(1)).zip(kept) {
                picture[token * d..][..d].convert_to_f32_slice(target);
            }
        }
        Tensor::from_data(TensorData::new(values, [rows.len(), n_kept, d]), device)
    }
}

impl<'a> Examples<'a> {
    /// Pairs rows with labels.
    ///
    /// # Errors
    ///
    /// [`ExamplesError`] if rows and labels differ in number or the cache lacks a row.
    pub fn new(
        tokens: &'a TokenCache,
        rows: &'a [usize],
        labels: &'a [usize],
    ) -> Result<Self, ExamplesError> {
        if rows.len() != labels.len() {
            return Err(ExamplesError::Labels { rows: rows.len(), labels: labels.len() });
        }
        match rows.iter().find(|&&row| row >= tokens.len()) {
            Some(&row) => Err(ExamplesError::Row { row, len: tokens.len() }),
            None => Ok(Self { tokens, rows, labels, pull: None }),
        }
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns true if there are no pictures.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn rows(&self, batch: &[usize]) -> Vec<usize> {
        batch.iter().map(|&i| self.rows[i]).collect()
    }

    /// Computes the weighted mean squared distance of a batch's features from those before: `[1]`.
    pub(super) fn pull(&self, batch: &[usize], features: &Tensor<2>) -> Option<Tensor<1>> {
        let pull = self.pull.filter(|pull| pull.weight > 0.0)?;
        let before = batch.iter().flat_map(|&i| pull.features[self.rows[i]].iter().copied());
        let data = TensorData::new(before.collect::<Vec<f32>>(), features.dims());
        let before = Tensor::<2>::from_data(data, &features.device().inner());
        let moved = features.clone() - before;
        Some(moved.square().mean().mul_scalar(pull.weight))
    }

    pub(super) fn labels_of(&self, batch: &[usize]) -> Vec<usize> {
        batch.iter().map(|&i| self.labels[i]).collect()
    }
}
