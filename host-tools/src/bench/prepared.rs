//! Data shared by all methods, computed once: tokens that enter the first adapted block, and
//! features of the base.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use burn::tensor::TensorData;
use fmlora_learner::{BaseId, Shots, TokenCache};
use fmlora_models::Backbone;
use indicatif::ProgressBar;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::dataset::{Dataset, Pictures};
use crate::{features, files};

/// Batch size of a forward pass, in pictures.
const PASS: usize = 32;

/// Tokens and features of pictures, row by row, then those of random views of the pictures.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) labels: Vec<usize>,
    /// Occasion of each picture within its class.
    pub(crate) occasions: Vec<usize>,
    /// Rows of the views of each picture.
    pub(crate) views: Vec<Range<usize>>,
    pub(crate) tokens: TokenCache,
    pub(crate) features: Vec<Vec<f32>>,
}

/// Training and test pictures.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) train: Arc<Part>,
    pub(crate) test: Arc<Part>,
}

impl Part {
    /// Returns the rows of pictures; with `views`, the rows of their views too.
    pub(crate) fn rows(&self, pictures: &[usize], views: bool) -> Vec<usize> {
        let of_views = pictures.iter().filter(|_| views).flat_map(|&row| self.views[row].clone());
        pictures.iter().copied().chain(of_views).collect()
    }
}

impl Prepared {
    /// Computes tokens and features of all pictures, or reads those of an earlier start from `dir`.
    ///
    /// Tokens and features are cached beside the results, so a killed benchmark resumes at once.
    /// The file names contain a digest of base, data and first adapted block. With `views`,
    /// training pictures get as many views as on a device.
    pub(crate) fn new(
        backbone: &Backbone,
        base_id: BaseId,
        data: &Dataset,
        spec: &str,
        views: bool,
        dir: &Path,
    ) -> Result<Self> {
        let first = backbone.config().first_adapted_block;
        let part = |pictures: &Pictures, what: &str, n_views: &[usize]| -> Result<Arc<Part>> {
            let n_rows = pictures.items.len() + n_views.iter().sum::<usize>();
            let mut key = Sha256::new();
            key.update(format!("{base_id} {spec} {first} {what} {n_rows}"));
            let digest = format!("{:x}", key.finalize());
            let path = |kind: &str| dir.join(format!("{kind}-{what}-{}.bin", &digest[..16]));
            let tokens = tokens(backbone, pictures, n_views, what, &path("tokens"))?;
            let features = suffix_features(backbone, &tokens, what, &path("features"))?;
            let mut labels = pictures.labels.clone();
            let mut rows_of_views = Vec::with_capacity(n_views.len());
            for (row, &n) in n_views.iter().enumerate() {
                rows_of_views.push(labels.len()..labels.len() + n);
                labels.extend(std::iter::repeat_n(labels[row], n));
            }
            let occasions = (0..pictures.items.len()).map(|row| pictures.occasion(row)).collect();
            Ok(Arc::new(Part { labels, occasions, views: rows_of_views, tokens, features }))
        };
        let n_views = if views { n_views(&data.train) } else { vec![0; data.train.items.len()] };
        let none = vec![0; data.test.items.len()];
        Ok(Self {
            train: part(&data.train, "train", &n_views)?,
            test: part(&data.test, "test", &none)?,
        })
    }
}

/// Returns the number of views of each picture, which depends on the number of pictures of the same
/// class and occasion.
fn n_views(pictures: &Pictures) -> Vec<usize> {
    let key = |row: usize| (pictures.labels[row], pictures.occasion(row));
    let mut counts: HashMap<(usize, usize), usize> = HashMap::new();
    (0..pictures.items.len()).for_each(|row| *counts.entry(key(row)).or_default() += 1);
    (0..pictures.items.len()).map(|row| Shots::n_views(counts[&key(row)])).collect()
}

/// Reads the tokens of pictures and views from `path`, or computes and writes them.
fn tokens(
    backbone: &Backbone,
    pictures: &Pictures,
    n_views: &[usize],
    what: &str,
    path: &Path,
) -> Result<TokenCache> {
    let n_tokens = backbone.vit_config().n_tokens();
    let d = backbone.vit_config().d_model;
    let n_rows = pictures.items.len() + n_views.iter().sum::<usize>();
    if path.exists() {
        let read = TokenCache::from_bytes(n_tokens, d, &files::read(path)?);
        if let Some(cache) = read.ok().filter(|cache| cache.len() == n_rows) {
            return Ok(cache);
        }
    }
    let mut cache = tokens_of(backbone, pictures, what)?;
    push_views(&mut cache, backbone, pictures, n_views)?;
    files::write_whole(path, &cache.to_bytes())?;
    Ok(cache)
}

/// Computes the tokens of pictures that enter the first adapted block, with a progress bar.
pub(crate) fn tokens_of(
    backbone: &Backbone,
    pictures: &Pictures,
    what: &str,
) -> Result<TokenCache> {
    let mut cache =
        TokenCache::new(backbone.vit_config().n_tokens(), backbone.vit_config().d_model);
    let preprocess = backbone.config().preprocess;
    let bar = features::bar(pictures.items.len(), &format!("tokens of {what} pictures"))?;
    for batch in pictures.items.chunks(PASS) {
        let pixels: Result<Vec<Vec<f32>>> =
            batch.par_iter().map(|picture| features::load(picture, &preprocess)).collect();
        let tokens = backbone.tokens(pixels?.concat());
        cache.push(&numbers(tokens.try_into_data())?)?;
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(cache)
}

/// Adds the tokens of views of each picture, with a progress bar.
pub(crate) fn push_views(
    cache: &mut TokenCache,
    backbone: &Backbone,
    pictures: &Pictures,
    n_views: &[usize],
) -> Result<()> {
    let rows: Vec<usize> = (0..n_views.len()).filter(|&row| n_views[row] > 0).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let preprocess = backbone.config().preprocess;
    let bar = features::bar(rows.len(), "tokens of views of training pictures")?;
    for batch in rows.chunks(PASS) {
        let views = |&row: &usize| {
            let pixels = features::load(&pictures.items[row], &preprocess)?;
            Ok(preprocess.views(&pixels, n_views[row]).concat())
        };
        let pixels: Result<Vec<Vec<f32>>> = batch.par_iter().map(views).collect();
        cache.push(&numbers(backbone.tokens(pixels?.concat()).try_into_data())?)?;
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Reads the features of all rows of a cache from `path`, or computes and writes them, with a
/// progress bar.
fn suffix_features(
    backbone: &Backbone,
    tokens: &TokenCache,
    what: &str,
    path: &Path,
) -> Result<Vec<Vec<f32>>> {
    let d = backbone.d_feature();
    if path.exists() {
        let bytes = files::read(path)?;
        if bytes.len() == size_of::<f32>() * d * tokens.len() {
            let rows = bytes.chunks_exact(size_of::<f32>() * d);
            let number = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            return Ok(rows.map(|row| row.chunks_exact(4).map(number).collect()).collect());
        }
    }
    let bar = features::bar(tokens.len(), &format!("features of {what} pictures"))?;
    let rows: Vec<usize> = (0..tokens.len()).collect();
    let found = features_of(backbone, tokens, &rows, &bar)?;
    bar.finish_and_clear();
    let bytes: Vec<u8> = found.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
    files::write_whole(path, &bytes)?;
    Ok(found)
}

/// Computes the features of rows of a cache.
pub(crate) fn features_of(
    backbone: &Backbone,
    tokens: &TokenCache,
    rows: &[usize],
    bar: &ProgressBar,
) -> Result<Vec<Vec<f32>>> {
    let mut features = Vec::with_capacity(rows.len());
    for batch in rows.chunks(PASS) {
        let found = backbone.suffix(tokens.batch(batch, backbone.device()));
        let numbers = numbers(found.try_into_data())?;
        features.extend(numbers.chunks_exact(backbone.d_feature()).map(<[f32]>::to_vec));
        bar.inc(batch.len() as u64);
    }
    Ok(features)
}

fn numbers<E: std::error::Error>(data: Result<TensorData, E>) -> Result<Vec<f32>> {
    let data = data.map_err(|e| anyhow!("the device failed: {e}"))?;
    data.try_into_vec::<f32>().map_err(|e| anyhow!("{e}")).context("reading from the device")
}
