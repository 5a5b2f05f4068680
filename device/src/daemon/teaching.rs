//! The thread that learns: it owns the session, and does one operation after the other, at low priority.

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

/// How long the thread waits for something to do before it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(200);

/// How often a state that could not be written is tried again.
const STORAGE_RETRY: Duration = Duration::from_secs(1);

/// Operations that may wait.
const QUEUE: usize = 16;

/// Pool of the operations.
const POOL: Pool = Pool { name: "teacher", niceness: 10 };

/// Does an operation, and gives what tells its outcome to whoever asked, once everybody knows what it changed.
type Work = Box<dyn FnOnce(&mut Session) -> Box<dyn FnOnce() + Send> + Send>;

/// Something to do.
struct Operation {
    name: &'static str,
    work: Work,
}

/// Why an operation was not done.
#[derive(Debug)]
pub(crate) enum NotDone {
    /// Too many others wait.
    Busy,
    /// The daemon ends.
    Ended,
    /// It crashed, which is a mistake of ours.
    Crashed,
    /// It was refused, or failed; all is as it was.
    Failed(EdgeError),
}

/// How others reach the thread.
#[derive(Clone)]
pub(crate) struct Teacher {
    queue: SyncSender<Operation>,
}

/// The thread; ends when the daemon does, after what waits is done.
pub(crate) struct Teaching {
    thread: JoinHandle<()>,
}

/// Who is told of what an operation changed.
pub(crate) struct Listeners {
    pub(crate) answers: Answers,
    pub(crate) knowledge: Arc<SharedKnowledge>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ending: Ending,
}

impl Teacher {
    /// Lets the thread do something, and waits for its outcome. It is done even if nobody waits any more.
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

    /// Does the same from a thread that may block; waits for a place in the queue too.
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
            // Who hung up does not want to know.
            let _ = reply.send(outcome);
        })
    });
    (work, outcome)
}

impl Teaching {
    /// Starts the thread, with a session whose network is built.
    ///
    /// # Errors
    ///
    /// [`EdgeError::System`] if there are no threads to be had.
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

    /// Whether the thread is over.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }
}

struct Loop {
    session: Session,
    listeners: Listeners,
    /// What tasks had left in the network that answers now.
    answering: Option<Arc<AdapterState>>,
    /// When the disk was last tried.
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

    /// Tries now and then whether a state that could not be written can be written again.
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

    /// Lets everybody know what the session is now, after an operation or at the start.
    fn publish(&mut self, operation: Option<&'static str>) {
        let (session, answering) = (&mut self.session, &self.answering);
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
                    // An event that nobody listens to is none.
                    let _ = listeners.events.send(Event::Classes { operation, classes });
                }
            }
            Err(error) => tracing::error!("what was learnt cannot be used yet: {error}"),
        }
    }
}
