//! Configuration of the daemon: every key with its meaning, its default and its environment
//! variable.
//!
//! This is the only list of keys: the output of `check --example` and docs/config.md are generated
//! from it.

mod http;
mod load;
mod login;
mod sanity;
mod secret;
mod update;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use confique::Config;
use serde::Serialize;

use crate::tls_roots::Authorities;
pub(crate) use http::{HttpConfig, Network};
pub use load::{ConfigError, Mistake};
pub(crate) use load::{Read, load, read};
pub(crate) use login::LoginConfig;
use sanity::check;
pub(crate) use secret::{Secret, masked, masked_address};
pub(crate) use update::UpdateConfig;

/// The configuration in use, which may change while the daemon runs.
#[derive(Debug)]
pub(crate) struct LiveConfig(Mutex<Arc<DaemonConfig>>);

impl LiveConfig {
    pub(crate) fn new(config: DaemonConfig) -> Self {
        Self(Mutex::new(Arc::new(config)))
    }

    /// Returns the current configuration.
    pub(crate) fn get(&self) -> Arc<DaemonConfig> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the configuration.
    pub(crate) fn set(&self, config: DaemonConfig) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}

/// Returns a configuration file with every key, its meaning and its default.
pub(crate) fn example() -> String {
    let mut options = confique::toml::FormatOptions::default();
    options.general.comments = true;
    options.general.env_keys = true;
    confique::toml::template::<DaemonConfig>(options)
}

/// Configuration of `fmlora-edge run`. Every key has a variable of the environment, which wins over the file.
#[derive(Debug, Clone, PartialEq, Serialize, Config)]
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
    /// The page and the interface for programs.
    #[config(nested)]
    pub(crate) http: HttpConfig,
    /// Who may use them.
    #[config(nested)]
    pub(crate) login: LoginConfig,
    /// What leaves the box.
    #[config(nested)]
    pub(crate) privacy: PrivacyConfig,
    /// State and answers for Home Assistant and others.
    #[config(nested)]
    pub(crate) mqtt: MqttConfig,
    /// Adapters over the air.
    #[config(nested)]
    pub(crate) update: UpdateConfig,
}

/// `[camera]`
#[allow(clippy::doc_markdown, reason = "these texts go into a TOML file too")]
#[derive(Debug, Clone, PartialEq, Serialize, Config)]
pub(crate) struct CameraConfig {
    /// camera://0?format=yuyv&width=640&height=480&fps=5 (in builds with cameras; settings may be left out),
    /// dir:///PATH?fps=5&loop=1&subfolders=1, synthetic://?seed=7&fps=5, http://USER:PASSWORD@HOST/... or https://...
    /// (MJPEG, or a picture asked for again and again), or exec: (runs `command`). docs/config.md says more of each.
    #[config(env = "FMLORA_CAMERA_SOURCE")]
    #[serde(serialize_with = "secret::uri")]
    pub(crate) source: String,
    /// For exec: the program and its arguments. It writes JPEG pictures, one after the other, to its output.
    #[config(env = "FMLORA_CAMERA_COMMAND", default = [])]
    #[serde(serialize_with = "secret::uris")]
    pub(crate) command: Vec<String>,
    /// For https: the certificates that are trusted, a path of a PEM file with the authority's or the camera's own, or
    /// "system" for those of this machine. Without it, those of the web's authorities.
    #[config(env = "FMLORA_CAMERA_AUTHORITY")]
    pub(crate) authority: Option<PathBuf>,
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
#[derive(Debug, Clone, PartialEq, Serialize, Config)]
pub(crate) struct PredictConfig {
    /// Frames over which answers are averaged: more is calmer and slower.
    #[config(env = "FMLORA_PREDICT_SMOOTHING_FRAMES", default = 5)]
    pub(crate) smoothing_frames: usize,
}

/// `[privacy]`
#[allow(clippy::doc_markdown, reason = "these texts go into a TOML file too")]
#[derive(Debug, Clone, PartialEq, Serialize, Config)]
pub(crate) struct PrivacyConfig {
    /// Keeps the names of classes out of MQTT and Prometheus.
    #[config(env = "FMLORA_PRIVACY_HIDE_NAMES", default = false)]
    pub(crate) hide_names: bool,
    /// Whether the picture of the camera can be watched by those who are logged in. Without it no picture leaves the box.
    #[config(env = "FMLORA_PRIVACY_LIVE_VIEW", default = true)]
    pub(crate) live_view: bool,
}

/// `[mqtt]`
#[allow(clippy::doc_markdown, reason = "these texts go into a TOML file too")]
#[derive(Debug, Clone, PartialEq, Serialize, Config)]
pub(crate) struct MqttConfig {
    /// Broker: mqtt://HOST:1883, or mqtts://HOST:8883 with TLS. Without it, there is no MQTT.
    #[config(env = "FMLORA_MQTT_BROKER")]
    #[serde(serialize_with = "secret::optional_uri")]
    pub(crate) broker: Option<String>,
    /// User at the broker.
    #[config(env = "FMLORA_MQTT_USER")]
    pub(crate) user: Option<String>,
    /// Its password; better given by the environment or by `password_file`.
    #[config(env = "FMLORA_MQTT_PASSWORD")]
    pub(crate) password: Option<Secret>,
    /// A file that holds the password and nothing else: a path, such as that of a systemd credential.
    #[config(env = "FMLORA_MQTT_PASSWORD_FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// For mqtts: the certificates that are trusted, a path of a PEM file with the authority's or the broker's own. Without it, the system's.
    #[config(env = "FMLORA_MQTT_AUTHORITY")]
    pub(crate) authority: Option<PathBuf>,
    /// Name of this box: letters, digits, - and _. It stands in topics, and has to be unique at the broker.
    #[config(env = "FMLORA_MQTT_NAME", default = "fmlora")]
    pub(crate) name: String,
    /// First part of the topics: TOPIC/NAME/state and so on.
    #[config(env = "FMLORA_MQTT_TOPIC", default = "fmlora")]
    pub(crate) topic: String,
    /// First part of the topics where Home Assistant looks for devices; empty: nothing is said there.
    #[config(env = "FMLORA_MQTT_DISCOVERY", default = "homeassistant")]
    pub(crate) discovery: String,
}

impl MqttConfig {
    /// Returns the password, which is read from `password_file` if that is set.
    ///
    /// # Errors
    ///
    /// A [`Mistake`] with its key.
    pub(crate) fn password(&self) -> Result<Option<String>, Mistake> {
        let found = login::secret_of(
            "mqtt.password",
            self.password.as_ref(),
            self.password_file.as_deref(),
        )?;
        Ok(found.map(|(_, password)| password))
    }

    /// Returns the trusted certificates for connections to the broker.
    pub(crate) fn authorities(&self) -> Authorities {
        match &self.authority {
            None => Authorities::System,
            path => Authorities::from_value(path.as_deref()),
        }
    }
}
