//! Sources of camera frames, selected by URI.

#[cfg(any(feature = "camera", test))]
mod camera;
mod content;
mod directory;
mod exec;
mod http;
mod jpeg_stream;
mod keeper;
mod opening;
mod pace;
mod synthetic;
mod thinned;

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
pub(crate) use directory::DirectorySpec;
use exec::ExecSource;
pub(crate) use http::HttpAddress;
use http::HttpSource;
use opening::Opening;
use synthetic::SyntheticSource;

use super::config::{CameraConfig, masked_address};
use super::slot::Slot;
use crate::tls_roots::Authorities;

/// Result of [`try_frame`]: size of the frame and the time that it took.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Tried {
    /// Width in pixels.
    pub(crate) width: u32,
    /// Height in pixels.
    pub(crate) height: u32,
    /// Seconds from opening the source to the frame.
    pub(crate) seconds: f64,
}

/// Opens a source, reads one frame and closes the source.
///
/// # Errors
///
/// [`SourceError`] if no frame arrives in time.
pub(crate) fn try_frame(keeping: &Keeping) -> Result<Tried, SourceError> {
    let started = Instant::now();
    let slot = Arc::new(Slot::default());
    let health = Arc::new(SharedHealth::default());
    let keeper = Keeper::start(keeping.clone(), slot.clone(), health.clone());
    let _keeper = keeper.map_err(|error| SourceError::Open(error.to_string()))?;
    // The keeper's own time-outs, one for opening and one for the first frame, are shorter: its
    // error gives the reason.
    let limit = 2 * keeping.timeout + Duration::from_secs(1);
    while started.elapsed() < limit {
        if let Some(frame) = slot.next(0, Duration::from_millis(50)) {
            let (width, height) = frame.picture.dimensions();
            return Ok(Tried { width, height, seconds: started.elapsed().as_secs_f64() });
        }
        if let Some(trouble) = health.get().trouble {
            return Err(SourceError::Lost(trouble));
        }
    }
    Err(SourceError::Silent { time: limit, note: None })
}

/// An open source of frames. Its waits end when its [`Opening`] is given up.
pub(crate) trait Source {
    /// Waits for the next frame; returns the reason if there is none at the moment.
    ///
    /// # Errors
    ///
    /// [`SourceError`] if the source must be opened again.
    fn next(&mut self) -> Result<Given, SourceError>;
}

/// Result of one read from a source.
pub(crate) enum Given {
    /// A frame.
    Frame(RgbImage),
    /// The picture cannot be decoded, or the response holds none. The next one may be good.
    Damaged(String),
    /// The source works but has nothing to show, for this reason.
    Waiting(String),
}

/// Error of a source that delivers no frame.
#[derive(Debug, Error)]
pub(crate) enum SourceError {
    /// The source cannot be opened.
    #[error("cannot be opened: {0}")]
    Open(String),
    /// The source was lost after it was opened, or it delivers no picture.
    #[error("{0}")]
    Lost(String),
    /// User name or password is wrong or missing.
    #[error("{0}")]
    Refused(String),
    /// No frame arrived within the time-out.
    #[error("no frame for {:.1} s{}", .time.as_secs_f64(), with_note(.note.as_deref()))]
    Silent {
        /// Length of the silence.
        time: Duration,
        /// Likely reason, if one is known.
        note: Option<String>,
    },
}

/// Formats a note as the suffix of an error message.
fn with_note(note: Option<&str>) -> String {
    note.map(|note| format!(": {note}")).unwrap_or_default()
}

/// A parsed source URI.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SourceSpec {
    /// Synthetic camera: rendered pictures.
    Synthetic {
        /// Seed of the renderer.
        seed: u64,
        /// Frames per second.
        fps: f64,
    },
    /// The pictures of a directory.
    Directory(DirectorySpec),
    /// A camera of this machine.
    #[cfg(feature = "camera")]
    Camera(CameraSpec),
    /// HTTP camera: an MJPEG stream, or a single picture that is polled.
    Http(HttpAddress),
    /// A program that writes JPEG pictures to its output.
    Exec(Vec<String>),
}

impl SourceSpec {
    /// Parses the source of a configuration.
    ///
    /// # Errors
    ///
    /// A message without passwords that says what is wrong.
    pub(crate) fn of(camera: &CameraConfig) -> Result<Self, String> {
        let uri = &camera.source;
        let shown = masked_address(uri);
        let scheme = uri.split(':').next().unwrap_or_default().to_ascii_lowercase();
        match scheme.as_str() {
            // The query belongs to the server's URL and holds no settings of this program.
            "http" | "https" => {
                let authorities = Authorities::from_value(camera.authority.as_deref());
                return HttpAddress::parse(uri, authorities).map(Self::Http);
            }
            "rtsp" | "rtsps" | "rtmp" | "rtmps" | "rtp" | "srt" | "udp" => {
                return Err(format!(
                    "{shown}: {scheme} is read by a program. Write {}",
                    by_ffmpeg(&shown)
                ));
            }
            _ => {}
        }
        let url = Url::parse(uri).map_err(|error| {
            format!("{shown:?}: {error}; expected camera://0, dir:///path, synthetic://, http://... or exec:")
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
            "dir" => Self::Directory(DirectorySpec {
                path: folder(&url).ok_or_else(|| {
                    format!("{shown:?}: expected dir:///path, three slashes and the path from / on")
                })?,
                fps: rate(take("fps"))?,
                repeat: number(take("loop"), "loop", 1_u8)? != 0,
                subfolders: number(take("subfolders"), "subfolders", 1_u8)? != 0,
            }),
            "exec" if camera.command.is_empty() => {
                return Err("exec: needs camera.command, the program and its arguments".to_owned());
            }
            "exec" => Self::Exec(camera.command.clone()),
            #[cfg(feature = "camera")]
            "camera" => Self::Camera(CameraSpec::parse(&url, &mut take)?),
            #[cfg(not(feature = "camera"))]
            "camera" => {
                let ways = "build it with --features camera, which needs libclang, or take exec: with a program \
                            that reads the camera, such as ffmpeg -f v4l2";
                return Err(format!("{shown:?}: this program was built without cameras: {ways}"));
            }
            other => {
                let known = "camera, dir, synthetic, http, https, exec";
                return Err(format!("{shown:?}: unknown kind {other:?}, expected one of {known}"));
            }
        };
        match query.first() {
            Some((name, _)) => Err(format!("{shown:?}: unknown setting {name:?}")),
            None => Ok(spec),
        }
    }

    /// Opens the source. `fps` is the rate at which a server is polled or a camera read, `timeout`
    /// the longest wait for a response.
    fn open(
        &self,
        fps: f64,
        timeout: Duration,
        opening: &Arc<Opening>,
    ) -> Result<Box<dyn Source>, SourceError> {
        Ok(match self {
            Self::Synthetic { seed, fps } => Box::new(SyntheticSource::new(*seed, *fps)),
            Self::Directory(spec) => Box::new(DirectorySource::open(spec, timeout)?),
            #[cfg(feature = "camera")]
            Self::Camera(spec) => Box::new(CameraSource::open(spec, fps, timeout, opening)?),
            Self::Http(address) => Box::new(HttpSource::open(address, fps, timeout, opening)?),
            Self::Exec(command) => Box::new(ExecSource::open(command, timeout, opening)?),
        })
    }
}

/// Configuration lines that read a stream by ffmpeg.
fn by_ffmpeg(address: &str) -> String {
    format!(
        "source = \"exec:\" and command = [\"ffmpeg\", \"-loglevel\", \"error\", \"-i\", {address:?}, \"-r\", \"5\", \
         \"-f\", \"mjpeg\", \"-\"]"
    )
}

/// Directory of a `dir:` URI. The syntax is that of a `file:` URI without a host.
fn folder(url: &Url) -> Option<PathBuf> {
    let path = Some(url.path()).filter(|path| path.starts_with('/'))?;
    if url.host_str().is_some_and(|host| !host.is_empty()) {
        return None;
    }
    Url::parse(&format!("file://{path}")).ok()?.to_file_path().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_named_by_its_path_from_the_root_on() {
        let of = |text: &str| folder(&Url::parse(text).expect("an address"));
        for (text, expected) in [
            ("dir:///a/b%20c", Some("/a/b c")),
            ("dir:/a", Some("/a")),
            ("dir:///", Some("/")),
            ("dir://./a", None),
            ("dir://a", None),
            ("dir://a/b", None),
            ("dir://", None),
            ("dir:a", None),
            ("dir:./a", None),
        ] {
            assert_eq!(of(text), expected.map(PathBuf::from), "{text}");
        }
    }
}
