//! Signals of the operating system: SIGTERM and SIGINT end the daemon, SIGHUP reloads its
//! configuration.

use tokio::signal::unix::{Signal as Incoming, SignalKind, signal};

use crate::EdgeError;

/// A received signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM or SIGINT.
    End,
    /// SIGHUP.
    Reload,
}

/// Handlers of the daemon's signals. A signal after [`Signals::register`] is kept until it is read.
pub(super) struct Signals {
    terminate: Incoming,
    interrupt: Incoming,
    hangup: Incoming,
}

impl Signals {
    /// Installs the handlers. Comes before the daemon announces itself: an unhandled SIGHUP would
    /// kill it.
    ///
    /// # Errors
    ///
    /// [`EdgeError::System`] if the system refuses a handler.
    pub(super) fn register() -> Result<Self, EdgeError> {
        let refused = |source| EdgeError::System { what: "wait for signals", source };
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(refused)?,
            interrupt: signal(SignalKind::interrupt()).map_err(refused)?,
            hangup: signal(SignalKind::hangup()).map_err(refused)?,
        })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::End,
            _ = self.interrupt.recv() => Signal::End,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }
}
