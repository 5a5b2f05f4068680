//! Keeps a source open: opens it anew when it fails or falls silent, at growing distances that frames make short again.
//!
//! Each opening has a thread of its own. One that falls silent is given up: what it waits for is ended ([`Opening`]), and what it
//! still gives is thrown away. A call of the system that nothing ends, as on a network share that is gone, keeps its thread;
//! as long as too many such threads hang, nothing new is opened.

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

/// How often the keeper looks whether something is to be done.
const LOOK: Duration = Duration::from_millis(50);

/// The first pause before a source is opened again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// How long frames have to come until the source counts as well, and its troubles as new ones.
const WELL: Duration = Duration::from_mins(1);

/// Readers that may hang at a time.
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

/// How the source is, for everybody who asks.
#[derive(Debug, Default)]
pub(crate) struct SharedHealth(Mutex<SourceHealth>);

/// How a source is kept open.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Keeping {
    /// The source.
    pub(crate) spec: SourceSpec,
    /// Frames a second at most.
    pub(crate) fps: f64,
    /// Longest silence.
    pub(crate) timeout: Duration,
    /// Longest pause between two openings.
    pub(crate) longest_pause: Duration,
}

/// A source that is kept open until this is dropped.
pub(crate) struct Keeper {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a reader says.
enum Said {
    Opened,
    Frame,
    /// A picture was damaged, or an answer held none.
    Damaged(String),
    /// All is well, but there is nothing to show.
    Waiting(String),
    Ended(SourceError),
}

impl Keeper {
    /// Opens the source, puts its frames into the slot, and says in `health` how it is.
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
    /// How the source is now.
    pub(crate) fn get(&self) -> SourceHealth {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut SourceHealth)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The loop ends when nobody can tell it to any more.
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It panicked or it ended: it is over.
            let _ = thread.join();
        }
    }
}

struct Loop {
    keeping: Keeping,
    slot: Arc<Slot>,
    health: Arc<SharedHealth>,
    stopped: Receiver<()>,
    /// Readers that were given up and are perhaps not over yet.
    hanging: Vec<Arc<AtomicBool>>,
    /// When the last frame came.
    last_frame: Option<Instant>,
    /// Why no frames come since then, until it is said.
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

    /// Warns of a trouble, of one that comes again and again less and less often.
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

    /// Says that no frames come, and why.
    fn report(&mut self, trouble: &str) {
        self.unsaid = None;
        self.health.change(|health| {
            health.open = false;
            health.trouble = Some(masked(trouble));
        });
    }

    /// The same, of a stream as soon as no frame has come for the longest silence: many cameras end one after some pictures.
    fn report_in_time(&mut self, trouble: &str) {
        if !matches!(self.keeping.spec, SourceSpec::Http(_) | SourceSpec::Exec(_)) {
            return self.report(trouble);
        }
        self.unsaid = Some(trouble.to_owned());
        self.say_what_is_due();
    }

    /// Says the trouble that was kept back, when it is time.
    fn say_what_is_due(&mut self) {
        let is_due = self.last_frame.is_none_or(|last| last.elapsed() >= self.keeping.timeout);
        if let Some(trouble) = self.unsaid.take_if(|_| is_due) {
            self.report(&trouble);
        }
    }

    /// Takes in a frame.
    fn take_in(&mut self, opening: &Opening) {
        self.last_frame = Some(Instant::now());
        self.unsaid = None;
        opening.forget_note();
        self.health.change(|health| (health.open, health.trouble) = (true, None));
    }

    /// Whether the loop was told to end within this time. What becomes due meanwhile is said.
    fn wait(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Something may be due within a long pause.
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

    /// Opens the source and follows it until it fails; `None` when the loop was told to end.
    fn read(&mut self) -> Option<Reading> {
        // Room for the first frame behind the opening.
        let (say, said) = sync_channel(2);
        let (opening, over) = (Arc::new(Opening::default()), Arc::new(AtomicBool::new(false)));
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
        // Before the closing, which may take a moment.
        if let Some(trouble) = &trouble {
            self.report_in_time(&trouble.to_string());
        }
        opening.give_up();
        self.hanging.push(over);
        let frames = first.zip(self.last_frame).map(|(first, last)| last.duration_since(first));
        trouble.map(|trouble| Reading { trouble, frames })
    }

    /// Counts a damaged picture, and warns of some: a bad line damages one every few seconds.
    fn count_damaged(&self, opening: &Opening, why: &str) {
        let why = masked(why);
        let mut damaged = 0;
        self.health.change(|health| {
            health.damaged += 1;
            damaged = health.damaged;
        });
        // A file of a folder is tried once, and so each is worth a warning.
        let each = matches!(self.keeping.spec, SourceSpec::Directory(_));
        if each || damaged.is_power_of_two() {
            tracing::warn!("source: {why}; skipped, {damaged} so far");
        } else {
            tracing::debug!("source: {why}; skipped");
        }
        opening.note(why);
    }
}

/// How an opening was.
struct Reading {
    trouble: SourceError,
    /// From its first frame to its last; `None` without any.
    frames: Option<Duration>,
}

/// The reader of one opening of a source.
struct Reader {
    keeping: Keeping,
    slot: Arc<Slot>,
    opening: Arc<Opening>,
    say: SyncSender<Said>,
}

impl Reader {
    fn run(self) {
        // A reader that was given up has no listener any more.
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
                    // The keeper only wants to know that frames come.
                    let _ = self.say.try_send(Said::Frame);
                }
                Given::Damaged(why) => self.say.send(Said::Damaged(why)).ok()?,
                Given::Waiting(why) => self.say.send(Said::Waiting(why)).ok()?,
            }
        }
    }
}
