//! `run`: frames of a source through the network, one after the other, for months.
//!
//! A frame goes one way: the source's own thread puts it into the slot of the newest frame, this thread takes it from
//! there, and network, head and smoothing make an answer of it. Nothing queues: what comes too fast is left out.

pub(crate) mod config;
mod slot;
mod smoothing;
pub(crate) mod source;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{EdgeError, Session};
use config::DaemonConfig;
use slot::Slot;
pub(crate) use smoothing::Answer;
use smoothing::Smoothing;
use source::{Keeper, Keeping, SourceHealth, SourceSpec};

/// How long the loop waits for a frame before it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(200);

/// What one frame brought.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Seen {
    /// Place of the frame among all frames since the start.
    pub(crate) frame: u64,
    /// What it and those before it show.
    #[serde(flatten)]
    pub(crate) answer: Answer,
    /// From the frame to the answer.
    pub(crate) milliseconds: f64,
}

/// What a run brought.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunReport {
    /// Frames that came.
    pub(crate) frames: u64,
    /// Frames that were left out because newer ones came first.
    pub(crate) left_out: u64,
    /// Frames that were answered.
    pub(crate) answered: u64,
    /// How often the source was opened.
    pub(crate) openings: u64,
    /// How long it ran.
    pub(crate) seconds: f64,
    /// Mean time from a frame to its answer.
    pub(crate) milliseconds: f64,
}

/// What the loop tells.
pub(crate) enum Told<'a> {
    /// A frame was answered.
    Seen(&'a Seen),
    /// The source changed between well and not.
    Source(&'a SourceHealth),
}

/// Answers frames until `over` says that it is to end, which is asked several times a second.
///
/// # Errors
///
/// [`EdgeError::Config`] for a source that nobody can open, [`EdgeError::Device`] if even the processor fails, and
/// whatever `tell` says.
pub(crate) fn run(
    config: &DaemonConfig,
    session: &mut Session,
    over: &dyn Fn() -> bool,
    tell: &mut dyn FnMut(Told<'_>) -> Result<(), EdgeError>,
) -> Result<RunReport, EdgeError> {
    let started = Instant::now();
    let predictor = session.predictor()?.clone();
    let n_classes = predictor.names().len();
    let engine = session.engine()?;
    let preprocess = engine.preprocess();
    let slot = Arc::new(Slot::default());
    let keeper = Keeper::start(keeping(config)?, slot.clone())
        .map_err(|source| EdgeError::System { what: "start a thread", source })?;
    let mut smoothing = Smoothing::new(config.predict.smoothing_frames);
    let (mut last, mut answered, mut total) = (0, 0, Duration::ZERO);
    let mut told = (false, false);
    while !over() {
        let health = keeper.health();
        let now = (health.open, health.trouble.is_some());
        if now != told {
            told = now;
            tell(Told::Source(&health))?;
        }
        let Some(frame) = slot.next(last, PATIENCE) else { continue };
        last = frame.number;
        let pixels = preprocess.apply(&frame.picture);
        let features = engine.features(&[pixels])?;
        let answer = smoothing.add(predictor.predict(&features[0], n_classes));
        let took = frame.at.elapsed();
        (answered, total) = (answered + 1, total + took);
        let milliseconds = 1e3 * took.as_secs_f64();
        tell(Told::Seen(&Seen { frame: frame.number, answer, milliseconds }))?;
    }
    let (counts, openings) = (slot.counts(), keeper.health().openings);
    Ok(RunReport {
        frames: counts.frames + counts.too_soon,
        left_out: counts.replaced + counts.too_soon,
        answered,
        openings,
        seconds: started.elapsed().as_secs_f64(),
        milliseconds: 1e3 * total.as_secs_f64() / (answered.max(1) as f64),
    })
}

/// How the configured source is kept open.
pub(crate) fn keeping(config: &DaemonConfig) -> Result<Keeping, EdgeError> {
    let camera = &config.camera;
    let spec = SourceSpec::parse(&camera.source, &camera.command).map_err(|what| {
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
