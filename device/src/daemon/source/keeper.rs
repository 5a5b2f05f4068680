//! Keeps a source open: opens it anew when it fails or falls silent, at growing distances.
//!
//! A source may hang where no time-out reaches, so each opening has a thread of its own. One that falls silent is left to
//! itself, and what it still gives is thrown away; as long as too many such threads hang, nothing new is opened.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use utoipa::ToSchema;

use super::pace::Pace;
use super::{Closer, SourceError, SourceSpec};
use crate::daemon::config::masked;
use crate::daemon::slot::Slot;

/// The first pause before a source is opened again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

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
    Opened(Option<Closer>),
    Frame,
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
        let keep = move || Loop { keeping, slot, health, stopped, hanging: Vec::new() }.run();
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
    /// Readers that were given up; each says here when it is over after all.
    hanging: Vec<Arc<AtomicBool>>,
}

impl Loop {
    fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            let Some(trouble) = self.read() else { return };
            self.report(&trouble);
            if started.elapsed() > self.keeping.longest_pause {
                pause = FIRST_PAUSE;
            }
            tracing::warn!(
                "source: {}; next try in {:.1} s",
                masked(&trouble.to_string()),
                pause.as_secs_f64()
            );
            loop {
                if self.wait(pause) {
                    return;
                }
                self.hanging.retain(|over| !over.load(Ordering::Acquire));
                if self.hanging.len() < MAX_HANGING {
                    break;
                }
            }
            pause = (2 * pause).min(self.keeping.longest_pause);
        }
    }

    /// Says that no frames come, and why.
    fn report(&self, trouble: &SourceError) {
        self.health.change(|health| {
            health.open = false;
            health.trouble = Some(masked(&trouble.to_string()));
        });
    }

    /// Whether the loop was told to end within this time.
    fn wait(&self, time: Duration) -> bool {
        !matches!(self.stopped.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    /// Opens the source and follows it until it fails; `None` when the loop was told to end.
    fn read(&mut self) -> Option<SourceError> {
        // Room for the first frame behind the opening.
        let (say, said) = sync_channel(2);
        let (given_up, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let reader = Reader {
            keeping: self.keeping.clone(),
            slot: self.slot.clone(),
            given_up: given_up.clone(),
            say,
        };
        let flag = over.clone();
        let run = move || {
            reader.run();
            flag.store(true, Ordering::Release);
        };
        let spawned = std::thread::Builder::new().name("reader".to_owned()).spawn(run);
        if let Err(error) = spawned {
            return Some(SourceError::Open(error.to_string()));
        }
        let mut closer: Option<Closer> = None;
        let mut heard = Instant::now();
        let trouble = loop {
            match said.recv_timeout(Duration::from_millis(50)) {
                Ok(Said::Opened(found)) => {
                    closer = found;
                    heard = Instant::now();
                    self.health.change(|health| health.openings += 1);
                }
                Ok(Said::Frame) => {
                    heard = Instant::now();
                    self.health.change(|health| (health.open, health.trouble) = (true, None));
                }
                Ok(Said::Ended(error)) => break Some(error),
                Err(RecvTimeoutError::Disconnected) => {
                    break Some(SourceError::Lost("its thread crashed".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if heard.elapsed() > self.keeping.timeout {
                break Some(SourceError::Silent(heard.elapsed()));
            }
            if self.wait(Duration::ZERO) {
                break None;
            }
        };
        given_up.store(true, Ordering::Release);
        // Before the closing, which may take a moment.
        if let Some(trouble) = &trouble {
            self.report(trouble);
        }
        if let Some(close) = closer {
            close();
        }
        self.hanging.push(over);
        trouble
    }
}

/// One opening of a source.
struct Reader {
    keeping: Keeping,
    slot: Arc<Slot>,
    given_up: Arc<AtomicBool>,
    say: SyncSender<Said>,
}

impl Reader {
    fn run(self) {
        // Whoever is not listening any more has given this reader up.
        let _ = match self.follow() {
            Some(error) => self.say.send(Said::Ended(error)),
            None => Ok(()),
        };
    }

    fn follow(&self) -> Option<SourceError> {
        let Keeping { spec, fps, timeout, .. } = &self.keeping;
        let mut source = match spec.open(*fps, *timeout) {
            Ok(source) => source,
            Err(error) => return Some(error),
        };
        self.say.send(Said::Opened(source.closer())).ok()?;
        let mut pace = Pace::new(*fps);
        loop {
            let frame = match source.next_frame() {
                Ok(frame) => frame,
                Err(error) => return Some(error),
            };
            if self.given_up.load(Ordering::Acquire) {
                return None;
            }
            if pace.passes(Instant::now()) {
                self.slot.put(frame);
            } else {
                self.slot.leave_out();
            }
            // The one that listens only wants to know that frames come.
            let _ = self.say.try_send(Said::Frame);
        }
    }
}
