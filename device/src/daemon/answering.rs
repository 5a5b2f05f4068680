//! The thread that answers frames of the source and posted pictures.
//!
//! It has an engine and a head of its own, and takes over the changes of an operation as a whole
//! between two batches. So no frame waits for a training, and each is answered by one consistent
//! state.

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

/// Longest wait for a frame between two checks for the end of the thread.
const PATIENCE: Duration = Duration::from_millis(200);

/// Queue length of posted pictures: a second of work on a small box.
const QUEUE: usize = 2 * BATCH;

/// A posted picture, preprocessed for the network.
struct Posted {
    pixels: Vec<f32>,
    reply: oneshot::Sender<Prediction>,
}

/// Change of head and network by an operation.
pub(crate) struct Update {
    /// The head, shared with the thread that learns.
    pub(crate) predictor: Arc<Predictor>,
    /// The network, if the operation changed it.
    pub(crate) engine: Option<Engine>,
    /// Revision of the session that head and network correspond to.
    pub(crate) revision: u64,
}

/// Progress of the thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Revision of the session that answered the last frame.
    pub(crate) revision: u64,
    /// Number of answered frames.
    pub(crate) frames: u64,
}

/// Reason why a posted picture has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The queue is full.
    Busy,
    /// The thread has ended or failed.
    Ended,
}

/// Handle for other threads.
#[derive(Clone)]
pub(crate) struct Answers {
    posted: SyncSender<Posted>,
    updates: Sender<Update>,
    slot: Arc<Slot>,
    progress: Arc<Mutex<Progress>>,
    /// Revision of the last update sent to the thread.
    given: Arc<AtomicU64>,
}

/// The thread; it ends when this is dropped.
pub(crate) struct Answering {
    stop: Arc<AtomicBool>,
    slot: Arc<Slot>,
    thread: Option<JoinHandle<()>>,
}

/// Arguments of the thread.
pub(crate) struct Parts {
    pub(crate) engine: Engine,
    pub(crate) predictor: Arc<Predictor>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) config: Arc<LiveConfig>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) metrics: Arc<Metrics>,
    /// Counts the ends of the program; notified before a frame is answered.
    pub(crate) ends: Ends,
}

impl Answers {
    /// Classifies a preprocessed picture on the thread.
    pub(crate) async fn ask(&self, pixels: Vec<f32>) -> Result<Prediction, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        self.posted.try_send(Posted { pixels, reply }).map_err(|error| match error {
            TrySendError::Full(_) => NoAnswer::Busy,
            TrySendError::Disconnected(_) => NoAnswer::Ended,
        })?;
        self.slot.wake();
        answer.await.map_err(|_| NoAnswer::Ended)
    }

    /// Sends an update to the thread. It answers all later frames and pictures.
    pub(crate) fn update(&self, update: Update) {
        let revision = update.revision;
        // Sending fails only after the end of the thread.
        let _ = self.updates.send(update);
        self.given.store(revision, Ordering::Release);
    }

    /// Returns the revision of the last update sent to the thread. A later revision of the session
    /// could not be used yet.
    pub(crate) fn given(&self) -> u64 {
        self.given.load(Ordering::Acquire)
    }

    /// Returns the progress of the thread.
    pub(crate) fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answering {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// [`EdgeError::System`] if the thread cannot be started.
    pub(crate) fn start(parts: Parts) -> Result<(Self, Answers), EdgeError> {
        let (posted, pictures) = sync_channel(QUEUE);
        let (updates, changes) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let slot = parts.slot.clone();
        let smoothing = Smoothing::new(parts.config.get().predict.smoothing_frames);
        let flag = stop.clone();
        let progress = Arc::<Mutex<Progress>>::default();
        let told = progress.clone();
        let run =
            Loop { parts, pictures, changes, smoothing, last: 0, revision: 0, told, stop: flag };
        let thread = std::thread::Builder::new()
            .name("answers".to_owned())
            .spawn(move || run.run())
            .map_err(|source| EdgeError::System { what: "start a thread", source })
            .map(Some)?;
        let given = Arc::default();
        let answers = Answers { posted, updates, slot: slot.clone(), progress, given };
        Ok((Self { stop, slot, thread }, answers))
    }

    /// Returns true after the end of the thread. It ends early only if it failed.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.slot.wake();
        if let Some(thread) = self.thread.take() {
            // An error means that the thread panicked; it has ended too.
            let _ = thread.join();
        }
    }
}

struct Loop {
    parts: Parts,
    pictures: Receiver<Posted>,
    changes: Receiver<Update>,
    smoothing: Smoothing,
    /// Number of the last answered frame.
    last: u64,
    /// Revision of the session that network and head correspond to.
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
            // After the pictures were taken: a client that knows of an operation gets an answer
            // with its changes.
            self.follow();
            if frame.is_none() && posted.is_empty() {
                continue;
            }
            if posted.len() == room {
                // More pictures may wait. Their senders have woken this thread already, and will not
                // do it again.
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
            self.parts.predictor = predictor;
            self.revision = revision;
            self.smoothing.forget();
        }
        self.smoothing.set_length(self.parts.config.get().predict.smoothing_frames);
    }

    fn answer(&mut self, frame: Option<&Frame>, posted: Vec<Posted>) -> Result<(), EdgeError> {
        if frame.is_some() {
            self.parts.ends.count();
        }
        let preprocess = self.parts.engine.preprocess();
        let mut pixels = Vec::new();
        let mut replies = Vec::new();
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
            // Sending fails only if the client has disconnected.
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
        // Sending fails only without listeners.
        let _ = self.parts.events.send(Event::Prediction(seen));
    }

    fn predict(&self, feature: &[f32]) -> Prediction {
        self.parts.predictor.predict(feature, self.parts.predictor.names().len())
    }
}
