//! `run`: the daemon, which watches a camera for months and learns meanwhile.
//!
//! Frames go one way. The thread of the source puts each frame into a slot that holds the newest
//! one. One thread answers frames and posted pictures, a second one learns, and a third one trains.
//! Interfaces receive events. Queues of frames, pictures, operations and events are bounded, and no
//! lock is held over a forward pass.

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

/// Time limit for blocking threads when the runtime shuts down.
const LAST_MOMENT: Duration = Duration::from_millis(200);

/// Limit of blocking threads: they decode, encode, hash, or wait for a frame.
const BLOCKING_THREADS: usize = 32;

/// Statistics of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunReport {
    /// Frames from the source.
    pub(crate) frames: u64,
    /// Frames that were dropped: newer ones came first, or they came too soon.
    pub(crate) left_out: u64,
    /// Damaged pictures.
    pub(crate) damaged: u64,
    /// Answered frames.
    pub(crate) answered: u64,
    /// Number of times that the source was opened.
    pub(crate) openings: u64,
    /// Duration of the run.
    pub(crate) seconds: f64,
    /// Mean time from a frame to its answer.
    pub(crate) milliseconds: f64,
}

/// Message from the daemon to the command that runs it.
pub(crate) enum Told<'a> {
    /// URL of the page.
    Page(&'a str),
    /// The administrator's new password. It is shown only once.
    Password(&'a str),
    /// An event.
    Event(&'a Event),
}

/// Arguments of [`run`].
pub(crate) struct Run<'a> {
    pub(crate) config: DaemonConfig,
    /// Session opened for writing.
    pub(crate) session: Session,
    /// Time at which the run ends by itself.
    pub(crate) until: Option<Instant>,
    /// Reads the configuration again.
    pub(crate) reread: &'a dyn Fn() -> Result<DaemonConfig, EdgeError>,
    /// Receives the messages.
    pub(crate) tell: &'a mut dyn FnMut(Told<'_>) -> Result<(), EdgeError>,
}

/// Runs until a signal or `until` ends it.
///
/// # Errors
///
/// [`EdgeError::Config`] for an invalid source, [`EdgeError::Listen`] and [`EdgeError::File`] for
/// the page, [`EdgeError::Part`] if a thread fails, and the errors of `tell`.
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
    // Threads that still wait for a frame are abandoned.
    runtime.shutdown_timeout(LAST_MOMENT);
    report
}

/// Returns the settings by which the configured source is kept open.
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
