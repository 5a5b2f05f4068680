//! Picture files to features: the next pictures are read, decoded and resized while the network is built and while
//! those before them go through it.

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
    /// Features of the views of each, in the same order; none where no views were asked for.
    pub(crate) views: Vec<Vec<Vec<f32>>>,
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
    decoded(&bytes, preprocess)
}

/// Decodes and preprocesses a picture.
pub(crate) fn decoded(bytes: &[u8], preprocess: &Preprocess) -> Result<Vec<f32>, PictureError> {
    // One picture must not take the program with it, whatever is in it.
    let decoded = std::panic::catch_unwind(|| -> Result<Vec<f32>, DecodeError> {
        Ok(preprocess.apply(&decode_picture(bytes)?))
    });
    Ok(decoded.map_err(|_| PictureError::Crashed)??)
}

/// What became of some files, with their places.
type Loaded = Receiver<(usize, Result<Vec<f32>, PictureError>)>;

/// Batches that are loaded ahead. While the network is built some cores have nothing to do, for as long as a few
/// batches take.
const AHEAD: usize = 3;

/// What is kept of the pictures beside their features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing.
    Features,
    /// Features of views.
    Views,
    /// Features of views, and tokens for a training, in the engine, where the base has shared bases.
    Tokens,
}

/// Computes the features of picture files, in their order, with a progress bar on a terminal when it
/// takes long. `n_views` says how many views of a picture are looked at, by its place.
pub(crate) fn intake(
    session: &mut Session,
    paths: &[PathBuf],
    keep: Keep,
    n_views: impl Fn(usize) -> usize,
) -> Result<Intake, EdgeError> {
    let preprocess = session.preprocess();
    let places: Vec<usize> = (0..paths.len()).collect();
    let batches: Vec<&[usize]> = places.chunks(BATCH).collect();
    // Files are loaded by the pool that the CPU computes with, so that no core has two threads to share.
    rayon::in_place_scope(|scope| {
        let load_all = |batch: &&[usize]| -> Loaded {
            let (send, loaded) = channel();
            for &place in *batch {
                let send = send.clone();
                scope.spawn(move |_| {
                    // Nobody listens any more when the network has failed.
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
            let (mut places, mut pixels) = (Vec::new(), Vec::new());
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
