//! Picture files to features: files are read, decoded and resized on threads of their own while the
//! caller's thread computes.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use fmlora_learner::ClassName;
use fmlora_models::{DecodeError, Preprocess, decode_picture};
use indicatif::{ProgressBar, ProgressStyle};
use thiserror::Error;

use crate::engine::BATCH;
use crate::{EdgeError, Engine};

/// Largest picture file that is read: far beyond any camera's, far below what would hurt a small box.
const MAX_FILE_BYTES: u64 = 128 << 20;

/// Why one picture is skipped.
#[derive(Debug, Error)]
pub(crate) enum PictureError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// It is a folder, a pipe or a device.
    #[error("not a file")]
    NotAFile,
    /// Larger than any picture.
    #[error("{bytes} bytes are more than the {} MiB allowed", MAX_FILE_BYTES >> 20)]
    TooLarge {
        /// Size of the file.
        bytes: u64,
    },
    /// The decoder crashed, which is a mistake of ours, not of the picture.
    #[error("the decoder crashed on it: please report this picture")]
    Crashed,
    /// The bytes are no usable picture.
    #[error("{}", chain(.0))]
    Decode(#[from] DecodeError),
}

fn chain(error: &DecodeError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// A picture that was skipped, and why.
#[derive(Debug)]
pub(crate) struct Skipped {
    pub(crate) path: PathBuf,
    pub(crate) error: PictureError,
}

/// Features of the pictures that could be read, by their place in the request, and what was skipped.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    pub(crate) features: Vec<(usize, Vec<f32>)>,
    pub(crate) skipped: Vec<Skipped>,
}

/// Decodes and preprocesses one file.
fn load(path: &Path, preprocess: &Preprocess) -> Result<Vec<f32>, PictureError> {
    // Asked before it is opened: opening a pipe waits for somebody to write.
    let about = std::fs::metadata(path)?;
    if !about.is_file() {
        return Err(PictureError::NotAFile);
    }
    if about.len() > MAX_FILE_BYTES {
        return Err(PictureError::TooLarge { bytes: about.len() });
    }
    let file = std::fs::File::open(path)?;
    let mut bytes = Vec::with_capacity(about.len() as usize);
    // A file may grow while it is read.
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    // One picture must not take the command with it, whatever is in it.
    let decoded = std::panic::catch_unwind(|| -> Result<Vec<f32>, DecodeError> {
        Ok(preprocess.apply(&decode_picture(&bytes)?))
    });
    Ok(decoded.map_err(|_| PictureError::Crashed)??)
}

/// Computes the features of picture files, in their order, with a progress bar on a terminal when it
/// takes long.
pub(crate) fn intake(engine: &mut Engine, paths: &[PathBuf]) -> Result<Intake, EdgeError> {
    let preprocess = engine.preprocess();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2);
    let workers = workers.min(paths.len().div_ceil(4)).max(1);
    let bar = progress_bar(paths.len());
    std::thread::scope(|scope| {
        // Worker w loads every picture whose place is w modulo the number of workers, so that reading
        // the channels in turn gives the pictures in order.
        let channels: Vec<_> = (0..workers)
            .map(|worker| {
                let (send, receive) = sync_channel(2 * BATCH);
                let mine = paths.iter().skip(worker).step_by(workers);
                scope.spawn(move || {
                    for path in mine {
                        if send.send(load(path, &preprocess)).is_err() {
                            // The other side failed and went away.
                            return;
                        }
                    }
                });
                receive
            })
            .collect();
        let mut intake = Intake::default();
        let (mut places, mut batch) = (Vec::new(), Vec::new());
        for (place, path) in paths.iter().enumerate() {
            let Ok(loaded) = channels[place % workers].recv() else {
                // Workers send something for every picture of theirs.
                return Err(EdgeError::Device(format!("decoding {} crashed", path.display())));
            };
            match loaded {
                Ok(pixels) => {
                    places.push(place);
                    batch.push(pixels);
                }
                Err(error) => {
                    tracing::info!("skipped {}: {error}", path.display());
                    intake.skipped.push(Skipped { path: path.clone(), error });
                }
            }
            if batch.len() == BATCH || place + 1 == paths.len() {
                let features = engine.features(&batch)?;
                bar.inc(features.len() as u64);
                intake.features.extend(places.drain(..).zip(features));
                batch.clear();
            }
        }
        bar.finish_and_clear();
        Ok(intake)
    })
}

/// A class needs at least one picture that can be read.
pub(crate) fn no_pictures(
    name: &ClassName,
    pictures: &[PathBuf],
    skipped: &[Skipped],
) -> EdgeError {
    let first = skipped.iter().find(|s| pictures.contains(&s.path));
    let first = first.map_or_else(String::new, |s| format!("{}: {}", s.path.display(), s.error));
    EdgeError::NoPictures { what: format!("class {name}"), count: pictures.len(), first }
}

/// A bar that stays hidden for work of less than about two seconds.
fn progress_bar(n: usize) -> ProgressBar {
    if n <= 4 * BATCH {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} pictures, {eta} left");
    let bar = ProgressBar::new(n as u64);
    bar.enable_steady_tick(Duration::from_millis(200));
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
