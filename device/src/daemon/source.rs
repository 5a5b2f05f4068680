//! Where frames come from, by URI.

#[cfg(any(feature = "camera", test))]
mod camera;
mod directory;
mod exec;
mod http;
mod jpeg_stream;
mod keeper;
mod pace;
mod synthetic;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::RgbImage;
use thiserror::Error;
use url::Url;

pub(crate) use keeper::{Keeper, Keeping, SharedHealth, SourceHealth};

#[cfg(feature = "camera")]
use camera::{CameraSource, CameraSpec};
use directory::DirectorySource;
use exec::ExecSource;
use http::HttpSource;
use synthetic::SyntheticSource;

use super::slot::Slot;

/// A frame that a source gave.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Tried {
    /// Its width in pixels.
    pub(crate) width: u32,
    /// Its height in pixels.
    pub(crate) height: u32,
    /// From opening the source to the frame.
    pub(crate) seconds: f64,
}

/// Opens a source, takes one frame, closes it.
///
/// # Errors
///
/// [`SourceError`] if no frame comes in time.
pub(crate) fn try_frame(keeping: &Keeping) -> Result<Tried, SourceError> {
    let (started, slot) = (Instant::now(), Arc::new(Slot::default()));
    let health = Arc::new(SharedHealth::default());
    let keeper = Keeper::start(keeping.clone(), slot.clone(), health.clone());
    let _keeper = keeper.map_err(|error| SourceError::Open(error.to_string()))?;
    while started.elapsed() < keeping.timeout {
        if let Some(frame) = slot.next(0, Duration::from_millis(50)) {
            let (width, height) = frame.picture.dimensions();
            return Ok(Tried { width, height, seconds: started.elapsed().as_secs_f64() });
        }
        if let Some(trouble) = health.get().trouble {
            return Err(SourceError::Lost(trouble));
        }
    }
    Err(SourceError::Silent(keeping.timeout))
}

/// Ends a source from another thread, so that whoever waits for its next frame waits no more.
pub(crate) type Closer = Box<dyn FnOnce() + Send>;

/// A source that is open.
pub(crate) trait Source {
    /// The next frame; waits for it.
    fn next_frame(&mut self) -> Result<RgbImage, SourceError>;

    /// What ends the source while another thread waits for its next frame.
    fn closer(&self) -> Option<Closer> {
        None
    }
}

/// Why there is no frame.
#[derive(Debug, Error)]
pub(crate) enum SourceError {
    /// It cannot be opened.
    #[error("cannot be opened: {0}")]
    Open(String),
    /// It was open and is no more, or gives no picture.
    #[error("{0}")]
    Lost(String),
    /// Nothing came for too long.
    #[error("no frame for {:.1} s", .0.as_secs_f64())]
    Silent(Duration),
    /// It came to its end.
    #[error("it came to its end")]
    End,
}

/// What a URI says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SourceSpec {
    /// Rendered things.
    Synthetic {
        /// Of the renderer.
        seed: u64,
        /// Frames a second.
        fps: f64,
    },
    /// The pictures of a folder, by name.
    Directory {
        /// The folder.
        path: PathBuf,
        /// Frames a second.
        fps: f64,
        /// Whether it begins again at its end.
        repeat: bool,
    },
    /// A camera of this machine.
    #[cfg(feature = "camera")]
    Camera(CameraSpec),
    /// MJPEG, or a picture that is asked for again and again.
    Http(Url),
    /// A program that writes JPEG pictures.
    Exec(Vec<String>),
}

impl SourceSpec {
    /// Reads a URI; `command` belongs to `exec:`.
    ///
    /// # Errors
    ///
    /// A text that says what is wrong.
    pub(crate) fn parse(uri: &str, command: &[String]) -> Result<Self, String> {
        let url = Url::parse(uri).map_err(|error| {
            format!("{uri:?}: {error}; expected camera://0, dir:///path, synthetic://, http://... or exec:")
        })?;
        let mut query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let mut take = |name: &str| {
            let place = query.iter().position(|(key, _)| key == name)?;
            Some(query.remove(place).1)
        };
        let spec = match url.scheme() {
            "synthetic" => {
                let seed = number(take("seed"), "seed", 7)?;
                Self::Synthetic { seed, fps: rate(take("fps"))? }
            }
            "dir" => {
                let repeat = number(take("loop"), "loop", 1_u8)? != 0;
                let path = folder(&url).ok_or_else(|| format!("{uri:?}: expected dir:///path"))?;
                Self::Directory { path, fps: rate(take("fps"))?, repeat }
            }
            // What stands behind the question mark is the server's.
            "http" | "https" => return Ok(Self::Http(url)),
            "exec" if command.is_empty() => {
                return Err("exec: needs camera.command, the program and its arguments".to_owned());
            }
            "exec" => Self::Exec(command.to_vec()),
            #[cfg(feature = "camera")]
            "camera" => Self::Camera(CameraSpec::parse(&url, &mut take)?),
            #[cfg(not(feature = "camera"))]
            "camera" => {
                let ways = "build it with --features camera, which needs libclang, or take exec: with a program \
                            that reads the camera, such as ffmpeg -f v4l2";
                return Err(format!("{uri:?}: this program was built without cameras: {ways}"));
            }
            other => {
                let known = "camera, dir, synthetic, http, https, exec";
                return Err(format!("{uri:?}: unknown kind {other:?}, expected one of {known}"));
            }
        };
        match query.first() {
            Some((name, _)) => Err(format!("{uri:?}: unknown setting {name:?}")),
            None => Ok(spec),
        }
    }

    /// Opens the source. `fps` is how often a server or a camera is asked for a picture, `timeout` how long it may take to
    /// answer.
    fn open(&self, fps: f64, timeout: Duration) -> Result<Box<dyn Source>, SourceError> {
        Ok(match self {
            Self::Synthetic { seed, fps } => Box::new(SyntheticSource::new(*seed, *fps)),
            Self::Directory { path, fps, repeat } => {
                Box::new(DirectorySource::open(path, *fps, *repeat)?)
            }
            #[cfg(feature = "camera")]
            Self::Camera(spec) => Box::new(CameraSource::open(spec, fps, timeout)?),
            Self::Http(url) => Box::new(HttpSource::open(url, fps, timeout)?),
            Self::Exec(command) => Box::new(ExecSource::open(command)?),
        })
    }
}

/// The folder of a `dir:` URI, which is written like that of a `file:` URI.
fn folder(url: &Url) -> Option<PathBuf> {
    Url::parse(&format!("file://{}", url.path())).ok()?.to_file_path().ok()
}

fn number<T: std::str::FromStr>(text: Option<String>, name: &str, default: T) -> Result<T, String> {
    let Some(text) = text else { return Ok(default) };
    text.parse().map_err(|_| format!("{name}={text}: expected a number"))
}

fn rate(text: Option<String>) -> Result<f64, String> {
    let fps = number(text, "fps", 5.0)?;
    if (0.1..=60.0).contains(&fps) {
        Ok(fps)
    } else {
        Err(format!("fps={fps}: expected 0.1 to 60"))
    }
}
