//! Features of a whole data set, with a progress bar.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use fmlora_models::{Backbone, Preprocess, decode_picture};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use crate::dataset::{Picture, Pictures};
use crate::files;

/// Batch size: pictures per forward pass.
const BATCH: usize = 32;

/// Computes the features of all pictures, in the order of the pictures.
pub(crate) fn compute(
    backbone: &Backbone,
    pictures: &Pictures,
    what: &str,
) -> Result<Vec<Vec<f32>>> {
    let preprocess = backbone.config().preprocess;
    let bar = bar(pictures.items.len(), what)?;
    let mut features = Vec::with_capacity(pictures.items.len());
    for batch in pictures.items.chunks(BATCH) {
        let pixels: Result<Vec<Vec<f32>>> =
            batch.par_iter().map(|picture| load(picture, &preprocess)).collect();
        let found = backbone.features(pixels?.concat());
        features.extend(found.map_err(|e| anyhow!("computing features failed: {e}"))?);
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(features)
}

/// Creates a progress bar that counts pictures.
pub(crate) fn bar(n: usize, what: &str) -> Result<ProgressBar> {
    let bar = ProgressBar::new(n as u64).with_message(what.to_owned());
    let style = "{msg} {bar:30} {pos}/{len} pictures, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).context("the template of the bar")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    Ok(bar)
}

/// Decodes and preprocesses one picture.
pub(crate) fn load(picture: &Picture, preprocess: &Preprocess) -> Result<Vec<f32>> {
    match picture {
        Picture::Pixels(picture) => Ok(preprocess.apply(picture)),
        Picture::File(path) => {
            let picture = decode_picture(&files::read(path)?);
            Ok(preprocess.apply(&picture.with_context(|| path.display().to_string())?))
        }
    }
}
