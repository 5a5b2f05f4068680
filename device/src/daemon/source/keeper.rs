//! Keeps a source open: reopens it after an error or a silence, with a back-off that frames reset.
//!
//! Each opening has a reader thread of its own. A silent reader is given up: its wait is ended
//! ([`Opening`]), and its later frames are dropped. A system call that cannot be ended, such as a
//! read from a lost network share, keeps its thread. While too many threads hang in this way, the
//! source is not opened again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use utoipa::ToSchema;

use super::opening::Opening;
use super::pace::Pace;
use super::thinned::Thinned;
use super::{Given, SourceError, SourceSpec};
use crate::daemon::config::masked;
use crate::daemon::slot::Slot;

/// Interval at which the keeper checks its state.
const LOOK: Duration = Duration::from_millis(50);

/// First pause of the back-off before a source is reopened.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Time with frames after which a source counts as stable, and repeated warnings are counted from
/// the start.
const WELL: Duration = Duration::from_mins(1);

/// Largest number of reader threads that may hang at a time.
const MAX_HANGING: usize = 4;

/// How the source is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct SourceHealth {
    /// Whether frames come.
    pub(crate) open: bool,
    /// Why none come.
    pub(crate) trouble: Option<String>,
    /// How often it was opened.
    pub(crate) openings: u64,
    /// Pictures that were damaged, and answers without a picture; they are skipped.
    pub(crate) damaged: u64,
}

/// Health of the source, shared between threads.
#[derive(Debug, Default)]
pub(crate) struct SharedHealth(Mutex<SourceHealth>);

/// Settings of the keeper.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Keeping {
    /// The source.
    pub(crate) spec: SourceSpec,
    /// Largest frame rate, in frames per second.
    pub(crate) fps: f64,
    /// Longest silence before the source is reopened.
    pub(crate) timeout: Duration,
    /// Longest pause of the back-off between two openings.
    pub(crate) longest_pause: Duration,
}

/// Handle of the thread that keeps a source open. Dropping it closes the source.
pub(crate) struct Keeper {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Messages of a reader to the keeper.
enum Said {
    Opened,
    Frame,
    /// A picture was damaged, or a response held none.
    Damaged(String),
    /// The source works but has nothing to show.
    Waiting(String),
    Ended(SourceError),
}

impl Keeper {
    /// Opens the source, puts its frames into `slot` and reports its health in `health`.
    pub(crate) fn start(
        keeping: Keeping,
        slot: Arc<Slot>,
        health: Arc<SharedHealth>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(0);
        let keep = move || Loop::new(keeping, slot, health, stopped).run();
        let thread = std::thread::Builder::new().name("source".to_owned()).spawn(keep)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl SharedHealth {
    /// Returns the current health of the source.
    pub(crate) fn get(&self) -> SourceHealth {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut SourceHealth)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The keeper's loop ends when this channel is closed.
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // The thread has ended, with or without a panic.
            let _ = thread.join();
        }
    }
}

struct Loop {
    keeping: Keeping,
    slot: Arc<Slot>,
    health: Arc<SharedHealth>,
    stopped: Receiver<()>,
    /// End flags of readers that were given up; true once the thread has ended.
    hanging: Vec<Arc<AtomicBool>>,
    /// Time of the last frame.
    last_frame: Option<Instant>,
    /// Reason for missing frames since then, until it is reported.
    unsaid: Option<String>,
    warnings: Thinned,
}

impl Loop {
    fn new(
        keeping: Keeping,
        slot: Arc<Slot>,
        health: Arc<SharedHealth>,
        stopped: Receiver<()>,
    ) -> Self {
        Self {
            keeping,
            slot,
            health,
            stopped,
            hanging: Vec::new(),
            last_frame: None,
            unsaid: None,
            warnings: Thinned::default(),
        }
    }

    fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(Reading { trouble, frames }) = self.read() else { return };
            if let Some(time) = frames {
                pause = FIRST_PAUSE;
                if time >= WELL {
                    self.warnings.clear();
                }
            }
            if let SourceError::Refused(_) = trouble {
                // Cameras lock an account after a few tries with a wrong password.
                pause = self.keeping.longest_pause;
            }
            self.warn(&masked(&trouble.to_string()), pause);
            loop {
                if self.wait(pause) {
                    return;
                }
                self.hanging.retain(|over| !over.load(Ordering::Acquire));
                if self.hanging.len() < MAX_HANGING {
                    break;
                }
                self.report(&format!(
                    "the system does not come back from {MAX_HANGING} reads; {trouble}"
                ));
            }
            pause = (2 * pause).min(self.keeping.longest_pause);
        }
    }

    /// Logs a warning; a repeated one is logged less and less often.
    fn warn(&mut self, trouble: &str, pause: Duration) {
        let pause = pause.as_secs_f64();
        match self.warnings.count(trouble) {
            Some(1) => tracing::warn!("source: {trouble}; next try in {pause:.1} s"),
            Some(times) => tracing::warn!(
                "source: {trouble}; next try in {pause:.1} s; {times} times so far, told more and more rarely"
            ),
            None => tracing::debug!("source: {trouble}; next try in {pause:.1} s"),
        }
    }

    /// Reports in the health that no frames arrive, and why.
    fn report(&mut self, trouble: &str) {
        self.unsaid = None;
        self.health.change(|health| {
            health.open = false;
            health.trouble = Some(masked(trouble));
        });
    }

    /// Like [`Self::report`], but the report of a stream waits until no frame has arrived for the
    /// longest silence: many cameras end a stream after some pictures.
    fn report_in_time(&mut self, trouble: &str) {
        if !matches!(self.keeping.spec, SourceSpec::Http(_) | SourceSpec::Exec(_)) {
            return self.report(trouble);
        }
        self.unsaid = Some(trouble.to_owned());
        self.say_what_is_due();
    }

    /// Makes the delayed report when it is due.
    fn say_what_is_due(&mut self) {
        let is_due = self.last_frame.is_none_or(|last| last.elapsed() >= self.keeping.timeout);
        if let Some(trouble) = self.unsaid.take_if(|_| is_due) {
            self.report(&trouble);
        }
    }

    /// Records a frame and reports the source as open.
    fn take_in(&mut self, opening: &Opening) {
        self.last_frame = Some(Instant::now());
        self.unsaid = None;
        opening.forget_note();
        self.health.change(|health| (health.open, health.trouble) = (true, None));
    }

    /// Waits for `time`; returns true if the loop must end. Makes delayed reports meanwhile.
    fn wait(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // A delayed report may fall due during a long pause.
            let next = if self.unsaid.is_some() { left.min(LOOK) } else { left };
            if !matches!(self.stopped.recv_timeout(next), Err(RecvTimeoutError::Timeout)) {
                return true;
            }
            self.say_what_is_due();
            if next == left {
                return false;
            }
        }
    }

    /// Opens the source and follows it until it fails; `None` if the loop must end.
    fn read(&mut self) -> Option<Reading> {
        // Room for `Opened` and the first frame.
        let (say, said) = sync_channel(2);
        let opening = Arc::new(Opening::default());
        let over = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            keeping: self.keeping.clone(),
            slot: self.slot.clone(),
            opening: opening.clone(),
            say,
        };
        let flag = over.clone();
        let run = move || {
            reader.run();
            flag.store(true, Ordering::Release);
        };
        let spawned = std::thread::Builder::new().name("reader".to_owned()).spawn(run);
        if let Err(error) = spawned {
            return Some(Reading { trouble: SourceError::Open(error.to_string()), frames: None });
        }
        let mut heard = Instant::now();
        let mut first = None;
        let trouble = loop {
            match said.recv_timeout(LOOK) {
                Ok(Said::Opened) => {
                    heard = Instant::now();
                    self.health.change(|health| health.openings += 1);
                }
                Ok(Said::Frame) => {
                    heard = Instant::now();
                    first = first.or(Some(heard));
                    self.take_in(&opening);
                }
                Ok(Said::Damaged(why)) => self.count_damaged(&opening, &why),
                Ok(Said::Waiting(why)) => {
                    heard = Instant::now();
                    self.report(&why);
                }
                Ok(Said::Ended(error)) => break Some(error),
                Err(RecvTimeoutError::Disconnected) => {
                    break Some(SourceError::Lost("its thread crashed".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if heard.elapsed() > self.keeping.timeout {
                break Some(SourceError::Silent { time: heard.elapsed(), note: None });
            }
            if self.wait(Duration::ZERO) {
                break None;
            }
        };
        let trouble = trouble.map(|trouble| match trouble {
            SourceError::Silent { time, note: None } => {
                SourceError::Silent { time, note: opening.noted() }
            }
            other => other,
        });
        // Report before closing, which may take a moment.
        if let Some(trouble) = &trouble {
            self.report_in_time(&trouble.to_string());
        }
        opening.give_up();
        self.hanging.push(over);
        let frames = first.zip(self.last_frame).map(|(first, last)| last.duration_since(first));
        trouble.map(|trouble| Reading { trouble, frames })
    }

    /// Counts a damaged picture and logs some of them as warnings: a bad line damages one every few
    /// seconds.
    fn count_damaged(&self, opening: &Opening, why: &str) {
        let why = masked(why);
        let mut damaged = 0;
        self.health.change(|health| {
            health.damaged += 1;
            damaged = health.damaged;
        });
        // A file of a directory is tried once, so each one is worth a warning.
        let each = matches!(self.keeping.spec, SourceSpec::Directory(_));
        if each || damaged.is_power_of_two() {
            tracing::warn!("source: {why}; skipped, {damaged} so far");
        } else {
            tracing::debug!("source: {why}; skipped");
        }
        opening.note(why);
    }
}

/// Result of one opening.
struct Reading {
    trouble: SourceError,
    /// Time from the first frame to the last; `None` without a frame.
    frames: Option<Duration>,
}

/// Reader of one opening of a source.
struct Reader {
    keeping: Keeping,
    slot: Arc<Slot>,
    opening: Arc<Opening>,
    say: SyncSender<Said>,
}

impl Reader {
    fn run(self) {
        // A reader that was given up has no receiver any more.
        let _ = match self.follow() {
            Some(error) => self.say.send(Said::Ended(error)),
            None => Ok(()),
        };
    }

    fn follow(&self) -> Option<SourceError> {
        let Keeping { spec, fps, timeout, .. } = &self.keeping;
        let mut source = match spec.open(*fps, *timeout, &self.opening) {
            Ok(source) => source,
            Err(error) => return Some(error),
        };
        self.say.send(Said::Opened).ok()?;
        let mut pace = Pace::new(*fps);
        loop {
            let given = match source.next() {
                Ok(given) => given,
                Err(error) => return Some(error),
            };
            if self.opening.is_given_up() {
                return None;
            }
            match given {
                Given::Frame(frame) => {
                    if pace.passes(Instant::now()) {
                        self.slot.put(frame);
                    } else {
                        self.slot.leave_out();
                    }
                    // The keeper only has to know that frames arrive: a full channel is no error.
                    let _ = self.say.try_send(Said::Frame);
                }
                Given::Damaged(why) => self.say.send(Said::Damaged(why)).ok()?,
                Given::Waiting(why) => self.say.send(Said::Waiting(why)).ok()?,
            }
        }
    }
}
