//! The thread that learns. It owns the session, and runs one operation after the other at low
//! priority.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fail::fail_point;
use fmlora_learner::AdapterState;
use tokio::sync::{broadcast, oneshot};

use super::answering::{Answers, Update};
use super::event::Event;
use super::knowledge::{Knowledge, SharedKnowledge};
use super::metrics::Metrics;
use super::pool::{Pool, on_all_cores};
use super::shared::Ending;
use crate::{EdgeError, Session};

/// Longest wait for an operation between two checks for the end of the daemon.
const PATIENCE: Duration = Duration::from_millis(200);

/// Period of retries after the storage failed.
const STORAGE_RETRY: Duration = Duration::from_secs(1);

/// Queue length of operations.
const QUEUE: usize = 16;

/// Pool of the operations.
const POOL: Pool = Pool { name: "teacher", niceness: 10 };

/// Runs an operation. Returns the function that sends its outcome to the caller; it is called after
/// the changes are published.
type Work = Box<dyn FnOnce(&mut Session) -> Box<dyn FnOnce() + Send> + Send>;

/// An operation in the queue.
struct Operation {
    name: &'static str,
    work: Work,
}

/// Reason why an operation was not done.
#[derive(Debug)]
pub(crate) enum NotDone {
    /// The queue is full.
    Busy,
    /// The daemon ends.
    Ended,
    /// The operation panicked, which is a bug of this program.
    Crashed,
    /// The operation was refused or failed. The state is unchanged.
    Failed(EdgeError),
}

/// Handle for other threads.
#[derive(Clone)]
pub(crate) struct Teacher {
    queue: SyncSender<Operation>,
}

/// The thread. It ends with the daemon, after all queued operations.
pub(crate) struct Teaching {
    thread: JoinHandle<()>,
}

/// Receivers of the changes by an operation.
pub(crate) struct Listeners {
    pub(crate) answers: Answers,
    pub(crate) knowledge: Arc<SharedKnowledge>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ending: Ending,
}

impl Teacher {
    /// Queues an operation, and waits for its outcome. The operation runs even if the caller stops
    /// waiting.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&mut Session) -> Result<T, EdgeError> + Send + 'static,
    ) -> Result<T, NotDone> {
        let (work, outcome) = replying(work);
        self.queue.try_send(Operation { name, work }).map_err(|error| match error {
            TrySendError::Full(_) => NotDone::Busy,
            TrySendError::Disconnected(_) => NotDone::Ended,
        })?;
        outcome.await.map_err(|_| NotDone::Crashed)?.map_err(NotDone::Failed)
    }

    /// Does the same from a thread that may block. Also waits while the queue is full.
    pub(crate) fn ask_and_wait<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&mut Session) -> Result<T, EdgeError> + Send + 'static,
    ) -> Result<T, NotDone> {
        let (work, outcome) = replying(work);
        self.queue.send(Operation { name, work }).map_err(|_| NotDone::Ended)?;
        outcome.blocking_recv().map_err(|_| NotDone::Crashed)?.map_err(NotDone::Failed)
    }
}

/// Returns work that sends its outcome, and the receiver of the outcome.
fn replying<T: Send + 'static>(
    work: impl FnOnce(&mut Session) -> Result<T, EdgeError> + Send + 'static,
) -> (Work, oneshot::Receiver<Result<T, EdgeError>>) {
    let (reply, outcome) = oneshot::channel();
    let work: Work = Box::new(move |session| {
        let outcome = session.settle().and_then(|()| work(session));
        Box::new(move || {
            // Sending fails only if the caller has stopped waiting.
            let _ = reply.send(outcome);
        })
    });
    (work, outcome)
}

impl Teaching {
    /// Starts the thread. The network of the session must be built.
    ///
    /// # Errors
    ///
    /// [`EdgeError::System`] if the thread cannot be started.
    pub(crate) fn start(
        session: Session,
        listeners: Listeners,
    ) -> Result<(Self, Teacher), EdgeError> {
        let (queue, operations) = sync_channel(QUEUE);
        let fail = |source| EdgeError::System { what: "start a thread", source };
        let answering = session.learner().adapter().cloned();
        let run = move || {
            POOL.give_way();
            Loop { session, listeners, answering, storage_tried: Instant::now() }.run(&operations);
        };
        let thread = std::thread::Builder::new().name("teacher".to_owned());
        Ok((Self { thread: thread.spawn(run).map_err(fail)? }, Teacher { queue }))
    }

    /// Returns true after the end of the thread.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }
}

struct Loop {
    session: Session,
    listeners: Listeners,
    /// Adapter state of the network that answers.
    answering: Option<Arc<AdapterState>>,
    /// Time of the last check of the storage.
    storage_tried: Instant,
}

impl Loop {
    fn run(mut self, queue: &Receiver<Operation>) {
        self.publish(None);
        loop {
            match queue.recv_timeout(PATIENCE) {
                Ok(operation) => self.operate(operation),
                Err(RecvTimeoutError::Timeout) if !self.listeners.ending.has_begun() => {
                    self.try_storage();
                }
                Err(_) => return,
            }
        }
    }

    /// Checks from time to time whether a failed storage can be written again.
    fn try_storage(&mut self) {
        if self.storage_tried.elapsed() < STORAGE_RETRY {
            return;
        }
        self.storage_tried = Instant::now();
        let revision = self.session.revision();
        let session = &mut self.session;
        if catch_unwind(AssertUnwindSafe(|| session.try_storage())).is_err() {
            tracing::error!("opening the state anew crashed: please report this");
        }
        if self.session.revision() != revision {
            self.publish(None);
        }
    }

    fn operate(&mut self, Operation { name, work }: Operation) {
        let revision = self.session.revision();
        let session = &mut self.session;
        let done = catch_unwind(AssertUnwindSafe(|| on_all_cores(POOL, || work(session))));
        if done.is_err() {
            tracing::error!("{name} crashed: please report what was asked");
            self.session.drop_engine();
        }
        if self.session.revision() != revision {
            self.publish(Some(name));
        }
        if let Ok(tell) = done {
            tell();
        }
    }

    /// Publishes the state of the session to all receivers, after an operation or at the start.
    fn publish(&mut self, operation: Option<&'static str>) {
        let session = &mut self.session;
        let answering = &self.answering;
        let published = on_all_cores(POOL, || -> Result<(Update, Knowledge), EdgeError> {
            fail_point!("publish", |_| Err(EdgeError::Device("a test says so".to_owned())));
            let adapted = session.learner().adapter() != answering.as_ref();
            let engine = if adapted { Some(session.engine()?.twin()) } else { None };
            let revision = session.revision();
            let update = Update { predictor: session.predictor()?.clone(), engine, revision };
            Ok((update, Knowledge::of(session)?))
        });
        let listeners = &self.listeners;
        match published {
            Ok((update, knowledge)) => {
                let classes = knowledge.classes.iter().map(|class| class.name.clone()).collect();
                listeners.answers.update(update);
                self.answering = self.session.learner().adapter().cloned();
                listeners.knowledge.set(knowledge);
                if let Some(operation) = operation {
                    listeners.metrics.operated(operation);
                    // Sending fails only without listeners.
                    let _ = listeners.events.send(Event::Classes { operation, classes });
                }
            }
            Err(error) => tracing::error!("what was learnt cannot be used yet: {error}"),
        }
    }
}
