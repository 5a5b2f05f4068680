//! What the daemon can be told: every key with its meaning, its default and its variable of the environment.
//!
//! This is the one list of keys: the file that `check --example` prints and docs/config.md follow from it.

mod load;
mod sanity;

use std::path::PathBuf;

use confique::Config;

pub(crate) use load::load;
pub use load::{ConfigError, Mistake};
pub(crate) use sanity::check;

/// A file with every key, its meaning and its default.
pub(crate) fn example() -> String {
    let mut options = confique::toml::FormatOptions::default();
    options.general.comments = true;
    options.general.env_keys = true;
    confique::toml::template::<DaemonConfig>(options)
}

/// Configuration of `fmlora-edge run`. Every key has a variable of the environment, which wins over the file.
#[derive(Debug, Clone, Config)]
pub(crate) struct DaemonConfig {
    /// Base to use instead of the embedded one: a path.
    #[config(env = "FMLORA_BASE")]
    pub(crate) base: Option<PathBuf>,
    /// Directory of what was learnt: a path. Without it, the platform's data directory.
    #[config(env = "FMLORA_STATE")]
    pub(crate) state: Option<PathBuf>,
    /// Where to compute: auto, cpu, gpu, gpu:N, or a part of an adapter's name.
    #[config(env = "FMLORA_DEVICE", default = "auto")]
    pub(crate) device: String,
    /// Where pictures come from.
    #[config(nested)]
    pub(crate) camera: CameraConfig,
    /// How frames become answers.
    #[config(nested)]
    pub(crate) predict: PredictConfig,
}

/// `[camera]`
#[allow(clippy::doc_markdown, reason = "these texts go into a TOML file too")]
#[derive(Debug, Clone, Config)]
pub(crate) struct CameraConfig {
    /// dir:///PATH?fps=5&loop=1, synthetic://?seed=7&fps=5, http://... or https://... (MJPEG, or a picture asked for
    /// again and again), or exec: (runs `command`).
    #[config(env = "FMLORA_CAMERA_SOURCE")]
    pub(crate) source: String,
    /// For exec: the program and its arguments. It writes JPEG pictures, one after the other, to its output.
    #[config(env = "FMLORA_CAMERA_COMMAND", default = [])]
    pub(crate) command: Vec<String>,
    /// Frames looked at in a second at most.
    #[config(env = "FMLORA_CAMERA_FPS", default = 5.0)]
    pub(crate) fps: f64,
    /// Seconds without a frame after which the source is opened anew.
    #[config(env = "FMLORA_CAMERA_TIMEOUT_SECONDS", default = 5.0)]
    pub(crate) timeout_seconds: f64,
    /// Longest pause in seconds between two tries to open the source; the first is half a second, each next twice as long.
    #[config(env = "FMLORA_CAMERA_RETRY_SECONDS", default = 30.0)]
    pub(crate) retry_seconds: f64,
}

/// `[predict]`
#[derive(Debug, Clone, Config)]
pub(crate) struct PredictConfig {
    /// Frames over which answers are averaged: more is calmer and slower.
    #[config(env = "FMLORA_PREDICT_SMOOTHING_FRAMES", default = 5)]
    pub(crate) smoothing_frames: usize,
}
