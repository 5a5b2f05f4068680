//! The thread that trains tasks after their classes are taught, at the lowest priority.
//!
//! A result fits only the state after its task was taught: any operation after that drops it. So at
//! most one training runs and one waits, and a newer task replaces the one that waits.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fmlora_learner::{Kept, Step};
use serde::Serialize;
use tokio::sync::broadcast;
use utoipa::ToSchema;

use super::answering::Answers;
use super::event::{Event, TaskTrained};
use super::pool::{Pool, on_all_cores};
use super::shared::Ending;
use super::teaching::{NotDone, Teacher};
use crate::report::with_causes;
use crate::task::{TaskTraining, TrainedReport, TrainingEnd};
use crate::{EdgeError, Engine};

/// Time between two checks for the end of the daemon while no training waits.
const PATIENCE: Duration = Duration::from_millis(200);

/// Pool of the training: its priority is lower than that of teaching.
const POOL: Pool = Pool { name: "trainer", niceness: 15 };

/// Progress of the training that runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct TrainingProgress {
    /// Steps done.
    pub(crate) step: usize,
    /// Steps of the whole training at most; 0 before the first.
    pub(crate) of: usize,
}

/// Training of a task, with a twin of the engine that the task was taught with.
struct Job {
    training: TaskTraining,
    engine: Engine,
}

/// Handle for other threads.
#[derive(Clone)]
pub(crate) struct Trainer {
    queue: Arc<Queue>,
    events: broadcast::Sender<Event>,
}

/// The thread; it ends with the daemon, after the step under way.
pub(crate) struct Training {
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Queue {
    inner: Mutex<Inner>,
    came: Condvar,
}

#[derive(Default)]
struct Inner {
    waits: Option<Job>,
    runs: Option<TrainingProgress>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next training, which counts as running from now on; `None` if none came for a while.
    fn next(&self) -> Option<Job> {
        let mut inner = self.lock();
        if inner.waits.is_none() {
            let waited = self.came.wait_timeout(inner, PATIENCE);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let job = inner.waits.take();
        inner.runs = job.as_ref().map(|_| TrainingProgress::default());
        job
    }
}

impl Trainer {
    /// Queues a training. It replaces one that waits.
    pub(crate) fn train(&self, training: TaskTraining, engine: Engine) {
        let before = self.queue.lock().waits.replace(Job { training, engine });
        self.queue.came.notify_one();
        if let Some(Job { training, .. }) = before {
            tell(
                &self.events,
                training.task,
                TrainedReport::without_result(TrainingEnd::Overtaken, 0.0),
            );
        }
    }

    /// Returns the progress of the training that runs or waits; `None` without one.
    pub(crate) fn progress(&self) -> Option<TrainingProgress> {
        let inner = self.queue.lock();
        inner.runs.or_else(|| inner.waits.as_ref().map(|_| TrainingProgress::default()))
    }
}

impl Training {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// [`EdgeError::System`] if the thread cannot be started.
    pub(crate) fn start(
        teacher: Teacher,
        answers: Answers,
        events: broadcast::Sender<Event>,
        ending: Ending,
    ) -> Result<(Self, Trainer), EdgeError> {
        let queue = Arc::new(Queue::default());
        let trainer = Trainer { queue: queue.clone(), events: events.clone() };
        let run = move || {
            POOL.give_way();
            Loop { queue, teacher, answers, events, ending }.run();
        };
        let thread = std::thread::Builder::new().name("trainer".to_owned());
        let fail = |source| EdgeError::System { what: "start a thread", source };
        Ok((Self { thread: thread.spawn(run).map_err(fail)? }, trainer))
    }

    /// Returns true after the end of the thread.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }
}

struct Loop {
    queue: Arc<Queue>,
    teacher: Teacher,
    answers: Answers,
    events: broadcast::Sender<Event>,
    ending: Ending,
}

impl Loop {
    fn run(self) {
        while !self.ending.has_begun() {
            let Some(Job { training, engine }) = self.queue.next() else { continue };
            let task = training.task;
            let report = self.train(training, engine);
            self.queue.lock().runs = None;
            tell(&self.events, task, report);
        }
    }

    fn train(&self, training: TaskTraining, mut engine: Engine) -> TrainedReport {
        let mut watch = |step: Step| self.watch(&training, step);
        let run = || on_all_cores(POOL, || training.run(&mut engine, &mut watch));
        let ran = catch_unwind(AssertUnwindSafe(run));
        let (mut report, kept) = ran.unwrap_or_else(|_| (TrainedReport::crash(), None));
        if report.training == TrainingEnd::Ended && self.is_overtaken(&training) {
            report.training = TrainingEnd::Overtaken;
        }
        if let Some(kept) = kept {
            report.put_to_use(self.put_to_use(training, kept));
        }
        report
    }

    fn watch(&self, training: &TaskTraining, step: Step) -> ControlFlow<()> {
        let Step { step, of, .. } = step;
        self.queue.lock().runs = Some(TrainingProgress { step, of });
        // Sending fails only without listeners.
        let _ = self.events.send(Event::Training { step, of });
        if self.ending.has_begun() || self.is_overtaken(training) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Returns true after an operation that followed the teaching of the task.
    fn is_overtaken(&self, training: &TaskTraining) -> bool {
        self.answers.given() > training.revision
    }

    /// Asks the thread that owns the state to put a result to use.
    fn put_to_use(&self, training: TaskTraining, kept: Kept) -> Result<TrainingEnd, String> {
        let take_over =
            self.teacher.ask_and_wait("train", move |session| training.take_over(session, &kept));
        match take_over {
            Ok(fate) => Ok(fate),
            Err(NotDone::Ended | NotDone::Busy) => Ok(TrainingEnd::Ended),
            // The thread may end with this request in its queue.
            Err(NotDone::Crashed) if self.ending.has_begun() => Ok(TrainingEnd::Ended),
            Err(NotDone::Crashed) => Err("taking it over crashed".to_owned()),
            Err(NotDone::Failed(error)) => Err(with_causes(&error)),
        }
    }
}

fn tell(events: &broadcast::Sender<Event>, task: u64, report: TrainedReport) {
    tracing::info!("{}", report.text());
    // Sending fails only without listeners.
    let _ = events.send(Event::Trained(TaskTrained { task, report }));
}
