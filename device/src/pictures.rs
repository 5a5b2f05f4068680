//! Computes features of picture files. The next pictures are read, decoded and resized while the
//! network is built, and while it computes the previous ones.

use std::collections::VecDeque;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use fmlora_learner::ClassName;
use fmlora_models::{DecodeError, Preprocess, decode_picture};
use indicatif::{ProgressBar, ProgressStyle};
use thiserror::Error;

use crate::engine::BATCH;
use crate::{EdgeError, Session};

/// Size limit of a picture file: far above the files of cameras, far below the memory of a small
/// box.
const MAX_FILE_BYTES: u64 = 128 << 20;

/// Reason for skipping a picture.
#[derive(Debug, Error)]
pub(crate) enum PictureError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The path is a folder, a pipe or a device.
    #[error("not a file")]
    NotAFile,
    /// The file exceeds the size limit.
    #[error("{bytes} bytes are more than the {} MiB allowed", MAX_FILE_BYTES >> 20)]
    TooLarge {
        /// Size of the file.
        bytes: u64,
    },
    /// The decoder crashed: a bug of this program, not a fault of the picture.
    #[error("the decoder crashed on it: please report this picture")]
    Crashed,
    /// The bytes cannot be decoded.
    #[error("{}", chain(.0))]
    Decode(#[from] DecodeError),
}

fn chain(error: &DecodeError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// A skipped picture, and the reason.
#[derive(Debug)]
pub(crate) struct Skipped {
    pub(crate) path: PathBuf,
    pub(crate) error: PictureError,
}

/// Features of the readable pictures by position in the request, and the skipped pictures.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    pub(crate) features: Vec<(usize, Vec<f32>)>,
    /// Features of the views of each picture, in the same order; empty if no views were requested.
    pub(crate) views: Vec<Vec<Vec<f32>>>,
    pub(crate) skipped: Vec<Skipped>,
}

/// Decodes and preprocesses one file.
fn load(path: &Path, preprocess: &Preprocess) -> Result<Vec<f32>, PictureError> {
    // Checked before the file is opened: opening a pipe blocks until a writer opens it.
    let about = std::fs::metadata(path)?;
    if !about.is_file() {
        return Err(PictureError::NotAFile);
    }
    if about.len() > MAX_FILE_BYTES {
        return Err(PictureError::TooLarge { bytes: about.len() });
    }
    let file = std::fs::File::open(path)?;
    let mut bytes = Vec::with_capacity(about.len() as usize);
    // The limit holds for a file that grows while it is read, too.
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    decoded(&bytes, preprocess)
}

/// Decodes and preprocesses a picture.
pub(crate) fn decoded(bytes: &[u8], preprocess: &Preprocess) -> Result<Vec<f32>, PictureError> {
    // A panic of the decoder must not end the program.
    let decoded = std::panic::catch_unwind(|| -> Result<Vec<f32>, DecodeError> {
        Ok(preprocess.apply(&decode_picture(bytes)?))
    });
    Ok(decoded.map_err(|_| PictureError::Crashed)??)
}

/// Receives the loaded pictures of a batch, with their positions.
type Loaded = Receiver<(usize, Result<Vec<f32>, PictureError>)>;

/// Number of batches that are loaded ahead. Some cores are idle while the network is built, which
/// takes as long as loading a few batches.
const AHEAD: usize = 3;

/// Data that is kept beside the features of the pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing else.
    Features,
    /// Features of views.
    Views,
    /// Features of views, and, if the base has shared bases, tokens for a training, recorded in the
    /// engine.
    Tokens,
}

/// Computes the features of picture files, in their order. Long work shows a progress bar on a
/// terminal. `n_views` returns the number of views of the picture at a position.
pub(crate) fn intake(
    session: &mut Session,
    paths: &[PathBuf],
    keep: Keep,
    n_views: impl Fn(usize) -> usize,
) -> Result<Intake, EdgeError> {
    let preprocess = session.preprocess();
    let places: Vec<usize> = (0..paths.len()).collect();
    let batches: Vec<&[usize]> = places.chunks(BATCH).collect();
    // Files are loaded by the pool that computes on the CPU, so that each core has one thread.
    rayon::in_place_scope(|scope| {
        let load_all = |batch: &&[usize]| -> Loaded {
            let (send, loaded) = channel();
            for &place in *batch {
                let send = send.clone();
                scope.spawn(move |_| {
                    // The receiver is gone if the network has failed.
                    let _ = send.send((place, load(&paths[place], &preprocess)));
                });
            }
            loaded
        };
        let mut ahead: VecDeque<Loaded> = batches.iter().take(AHEAD).map(load_all).collect();
        let engine = session.engine()?;
        if keep == Keep::Tokens && engine.adapter().is_some() {
            engine.record();
        }
        let bar = progress_bar(paths.len());
        let mut intake = Intake::default();
        for n in 0..batches.len() {
            let loaded = ahead.pop_front();
            ahead.extend(batches.get(n + AHEAD).map(load_all));
            let mut loaded: Vec<_> = loaded.into_iter().flatten().collect();
            loaded.sort_by_key(|(place, _)| *place);
            let mut places = Vec::new();
            let mut pixels = Vec::new();
            for (place, found) in loaded {
                match found {
                    Ok(picture) => {
                        places.push(place);
                        pixels.push(picture);
                    }
                    Err(error) => {
                        let path = paths[place].clone();
                        tracing::info!("skipped {}: {error}", path.display());
                        intake.skipped.push(Skipped { path, error });
                    }
                }
            }
            if keep != Keep::Features {
                let same = |a: &usize, b: &usize| n_views(*a) == n_views(*b);
                let mut first = 0;
                for some in places.chunk_by(same) {
                    let of_some = &pixels[first..first + some.len()];
                    intake.views.extend(engine.view_features(of_some, n_views(some[0]))?);
                    first += some.len();
                }
            }
            intake.features.extend(places.into_iter().zip(engine.features(&pixels)?));
            bar.inc(batches[n].len() as u64);
        }
        bar.finish_and_clear();
        Ok(intake)
    })
}

/// Returns the error for a class without a readable picture.
pub(crate) fn no_pictures(
    name: &ClassName,
    pictures: &[PathBuf],
    skipped: &[Skipped],
) -> EdgeError {
    let first = skipped
        .iter()
        .find(|s| pictures.contains(&s.path))
        .map_or_else(String::new, |s| format!("{}: {}", s.path.display(), s.error));
    EdgeError::NoPictures { what: format!("class {name}"), count: pictures.len(), first }
}

/// Returns a progress bar, hidden for work of less than about two seconds.
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
