//! `run`: watches a camera for months, and learns while it does.
//!
//! A frame goes one way: the source's own thread puts it into the slot of the newest frame, one thread answers frames
//! and posted pictures, another one learns, a third one trains behind it, and whoever wants to know is told by events. Nothing queues without bounds,
//! and no lock is held over a forward pass.

pub(crate) mod access;
mod answering;
mod broker;
pub(crate) mod config;
mod event;
mod http;
pub(crate) mod knowledge;
mod metrics;
#[cfg(feature = "mqtt")]
mod mqtt;
mod pool;
mod reload;
mod shared;
mod signals;
mod slot;
mod smoothing;
pub(crate) mod source;
mod supervisor;
mod systemd;
mod teaching;
mod training;
mod updating;

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{EdgeError, Session};
use config::DaemonConfig;
pub(crate) use event::{Event, Seen};
pub(crate) use http::read_certificate;
#[cfg(feature = "mqtt")]
pub(crate) use mqtt::try_broker;
use signals::Signals;
use source::{Keeping, SourceSpec};
use supervisor::Daemon;
pub(crate) use updating::{InUseDto, QuarantinedDto};

/// How long threads that only wait are waited for.
const LAST_MOMENT: Duration = Duration::from_millis(200);

/// Requests that are decoded, encoded, hashed at a time, beside those that only wait.
const BLOCKING_THREADS: usize = 32;

/// What a run brought.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunReport {
    /// Frames that came.
    pub(crate) frames: u64,
    /// Frames that were left out because newer ones came first.
    pub(crate) left_out: u64,
    /// Pictures that were damaged.
    pub(crate) damaged: u64,
    /// Frames that were answered.
    pub(crate) answered: u64,
    /// How often the source was opened.
    pub(crate) openings: u64,
    /// How long it ran.
    pub(crate) seconds: f64,
    /// Mean time from a frame to its answer.
    pub(crate) milliseconds: f64,
}

/// What the daemon tells whoever started it.
pub(crate) enum Told<'a> {
    /// The page is served there.
    Page(&'a str),
    /// The administrator's password, which is told this once.
    Password(&'a str),
    /// Something happened.
    Event(&'a Event),
}

/// How a run is begun and ended.
pub(crate) struct Run<'a> {
    pub(crate) config: DaemonConfig,
    /// Opened to be written.
    pub(crate) session: Session,
    /// When it ends by itself.
    pub(crate) until: Option<Instant>,
    /// Reads the configuration anew.
    pub(crate) reread: &'a dyn Fn() -> Result<DaemonConfig, EdgeError>,
    pub(crate) tell: &'a mut dyn FnMut(Told<'_>) -> Result<(), EdgeError>,
}

/// Runs until a signal or `until` ends it.
///
/// # Errors
///
/// [`EdgeError::Config`] for a source that nobody can open, [`EdgeError::Listen`] and [`EdgeError::File`] for the page,
/// [`EdgeError::Part`] if a thread fails, and whatever `tell` says.
pub(crate) fn run(run: Run<'_>) -> Result<RunReport, EdgeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("interfaces")
        .enable_all()
        .build()
        .map_err(|source| EdgeError::System { what: "start threads", source })?;
    let report = runtime.block_on(async {
        let Run { config, session, until, reread, tell } = run;
        let signals = Signals::register()?;
        let (mut daemon, events) = Daemon::start(config, session, tell).await?;
        let watched = daemon.watch(events, signals, until, reread, tell).await;
        let report = daemon.end(watched.is_ok()).await;
        watched.map(|()| report)
    });
    // What still waits for a frame is not waited for.
    runtime.shutdown_timeout(LAST_MOMENT);
    report
}

/// How the configured source is kept open.
pub(crate) fn keeping(config: &DaemonConfig) -> Result<Keeping, EdgeError> {
    let camera = &config.camera;
    let spec = SourceSpec::of(camera).map_err(|what| {
        let mistake = config::Mistake { place: "camera.source".to_owned(), what };
        EdgeError::Config(config::ConfigError::one("configuration", mistake))
    })?;
    Ok(Keeping {
        spec,
        fps: camera.fps,
        timeout: Duration::from_secs_f64(camera.timeout_seconds),
        longest_pause: Duration::from_secs_f64(camera.retry_seconds),
    })
}
