//! The thread that answers: frames of the source, and pictures that somebody posted.
//!
//! It has an engine and a head of its own. What an operation changes reaches it whole, between two batches, so that
//! no frame waits for a training and none is answered by half of a change.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fmlora_learner::{Prediction, Predictor};
use tokio::sync::{broadcast, oneshot};

use super::config::LiveConfig;
use super::event::{Event, Seen};
use super::metrics::Metrics;
use super::slot::{Frame, Slot};
use super::smoothing::Smoothing;
use crate::engine::BATCH;
use crate::update::Ends;
use crate::{EdgeError, Engine};

/// How long the thread waits for a frame before it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(200);

/// Posted pictures that may wait: a second of work on a small box.
const QUEUE: usize = 2 * BATCH;

/// A picture that somebody posted, ready for the network.
struct Posted {
    pixels: Vec<f32>,
    reply: oneshot::Sender<Prediction>,
}

/// What an operation changed.
pub(crate) struct Update {
    /// The head, which whoever learns has too.
    pub(crate) predictor: Arc<Predictor>,
    /// The network, where a task changed it.
    pub(crate) engine: Option<Engine>,
    /// Operations of the session that are in both.
    pub(crate) revision: u64,
}

/// How far the thread has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Operations that were in what answered the last frame.
    pub(crate) revision: u64,
    /// Frames that were answered.
    pub(crate) frames: u64,
}

/// Why a posted picture has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// Too many others wait.
    Busy,
    /// The thread is over or failed.
    Ended,
}

/// How others reach the thread.
#[derive(Clone)]
pub(crate) struct Answers {
    posted: SyncSender<Posted>,
    updates: Sender<Update>,
    slot: Arc<Slot>,
    progress: Arc<Mutex<Progress>>,
    /// Operations in the last update that the thread was given.
    given: Arc<AtomicU64>,
}

/// The thread; ends when this is dropped.
pub(crate) struct Answering {
    stop: Arc<AtomicBool>,
    slot: Arc<Slot>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread works with.
pub(crate) struct Parts {
    pub(crate) engine: Engine,
    pub(crate) predictor: Arc<Predictor>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) config: Arc<LiveConfig>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) metrics: Arc<Metrics>,
    /// Told before a frame is answered.
    pub(crate) ends: Ends,
}

impl Answers {
    /// What a preprocessed picture shows.
    pub(crate) async fn ask(&self, pixels: Vec<f32>) -> Result<Prediction, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        self.posted.try_send(Posted { pixels, reply }).map_err(|error| match error {
            TrySendError::Full(_) => NoAnswer::Busy,
            TrySendError::Disconnected(_) => NoAnswer::Ended,
        })?;
        self.slot.wake();
        answer.await.map_err(|_| NoAnswer::Ended)
    }

    /// Lets all that follows be answered with what an operation changed.
    pub(crate) fn update(&self, update: Update) {
        let revision = update.revision;
        // Nobody answers any more when the thread is over.
        let _ = self.updates.send(update);
        self.given.store(revision, Ordering::Release);
    }

    /// Operations in the last update that the thread was given: in more of them there was nothing that could be used.
    pub(crate) fn given(&self) -> u64 {
        self.given.load(Ordering::Acquire)
    }

    /// How far the thread has come.
    pub(crate) fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answering {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// [`EdgeError::System`] if there is no thread to be had.
    pub(crate) fn start(parts: Parts) -> Result<(Self, Answers), EdgeError> {
        let (posted, pictures) = sync_channel(QUEUE);
        let (updates, changes) = channel();
        let (stop, slot) = (Arc::new(AtomicBool::new(false)), parts.slot.clone());
        let smoothing = Smoothing::new(parts.config.get().predict.smoothing_frames);
        let flag = stop.clone();
        let progress = Arc::<Mutex<Progress>>::default();
        let told = progress.clone();
        let run =
            Loop { parts, pictures, changes, smoothing, last: 0, revision: 0, told, stop: flag };
        let thread = std::thread::Builder::new().name("answers".to_owned());
        let thread = thread.spawn(move || run.run());
        let thread = thread
            .map_err(|source| EdgeError::System { what: "start a thread", source })
            .map(Some)?;
        let given = Arc::default();
        let answers = Answers { posted, updates, slot: slot.clone(), progress, given };
        Ok((Self { stop, slot, thread }, answers))
    }

    /// Whether the thread is over though nobody asked it to end.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.slot.wake();
        if let Some(thread) = self.thread.take() {
            // It panicked or it ended: it is over.
            let _ = thread.join();
        }
    }
}

struct Loop {
    parts: Parts,
    pictures: Receiver<Posted>,
    changes: Receiver<Update>,
    smoothing: Smoothing,
    /// Number of the last frame that was answered.
    last: u64,
    /// Operations that are in the network and the head.
    revision: u64,
    told: Arc<Mutex<Progress>>,
    stop: Arc<AtomicBool>,
}

impl Loop {
    fn run(mut self) {
        while !self.stop.load(Ordering::Acquire) {
            let frame = self.parts.slot.next(self.last, PATIENCE);
            let room = BATCH - usize::from(frame.is_some());
            let posted: Vec<Posted> = self.pictures.try_iter().take(room).collect();
            // After the pictures were taken: who knows of an operation is answered by what it changed.
            self.follow();
            if frame.is_none() && posted.is_empty() {
                continue;
            }
            if posted.len() == room {
                // More may wait, and nobody wakes this thread for them again.
                self.parts.slot.wake();
            }
            if let Err(error) = self.answer(frame.as_ref(), posted) {
                tracing::error!("{error}");
                return;
            }
        }
    }

    fn follow(&mut self) {
        for Update { predictor, engine, revision } in self.changes.try_iter() {
            if let Some(engine) = engine {
                self.parts.engine = engine;
            }
            (self.parts.predictor, self.revision) = (predictor, revision);
            self.smoothing.forget();
        }
        self.smoothing.set_length(self.parts.config.get().predict.smoothing_frames);
    }

    fn answer(&mut self, frame: Option<&Frame>, posted: Vec<Posted>) -> Result<(), EdgeError> {
        if frame.is_some() {
            self.parts.ends.count();
        }
        let preprocess = self.parts.engine.preprocess();
        let (mut pixels, mut replies) = (Vec::new(), Vec::new());
        pixels.extend(frame.map(|frame| preprocess.apply(&frame.picture)));
        for Posted { pixels: picture, reply } in posted {
            pixels.push(picture);
            replies.push(reply);
        }
        let mut features = self.parts.engine.features(&pixels)?.into_iter();
        if let Some(frame) = frame {
            let feature = features.next().unwrap_or_default();
            self.answer_frame(frame, &feature);
        }
        for (reply, feature) in replies.into_iter().zip(features) {
            self.parts.metrics.pictures.inc();
            // Who hung up does not want to know.
            let _ = reply.send(self.predict(&feature));
        }
        Ok(())
    }

    fn answer_frame(&mut self, frame: &Frame, feature: &[f32]) {
        self.last = frame.number;
        let answer = self.smoothing.add(self.predict(feature));
        let took = frame.at.elapsed();
        self.parts.metrics.frame_answered(&answer, took);
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            *told = Progress { revision: self.revision, frames: told.frames + 1 };
        }
        let seen = Seen { frame: frame.number, answer, milliseconds: 1e3 * took.as_secs_f64() };
        // An event that nobody listens to is none.
        let _ = self.parts.events.send(Event::Prediction(seen));
    }

    fn predict(&self, feature: &[f32]) -> Prediction {
        self.parts.predictor.predict(feature, self.parts.predictor.names().len())
    }
}
