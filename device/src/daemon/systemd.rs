//! What systemd is told, where it started the daemon: ready, alive, reloading, stopping.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// What systemd wants to know, and was told last.
#[derive(Debug)]
pub(super) struct Systemd {
    /// How often it is told that the daemon is alive: three times as often as it wants to hear it.
    period: Option<Duration>,
    fed: Instant,
    answered: u64,
}

impl Systemd {
    /// Says that the daemon is ready.
    pub(super) fn ready() -> Self {
        tell(&[NotifyState::Ready]);
        let period = sd_notify::watchdog_enabled().map(|longest| longest / 3);
        Self { period, fed: Instant::now(), answered: 0 }
    }

    /// Says that the daemon is alive, if frames were answered since it was last said: a daemon that sees nothing is
    /// worth a new start.
    pub(super) fn look(&mut self, answered: u64) {
        let Some(period) = self.period else { return };
        if answered > self.answered && self.fed.elapsed() >= period {
            tell(&[NotifyState::Watchdog]);
            (self.answered, self.fed) = (answered, Instant::now());
        }
    }

    /// Says that the configuration is being read anew.
    #[allow(clippy::unused_self, reason = "only a daemon that is ready reloads")]
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!("systemd cannot be told: {error}"),
        }
    }

    /// Says that this is done.
    #[allow(clippy::unused_self, reason = "only a daemon that is ready reloads")]
    pub(super) fn reloaded(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// Says that the daemon ends.
    #[allow(clippy::unused_self, reason = "only a daemon that is ready stops")]
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

/// Without systemd, nobody is told.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("systemd cannot be told: {error}");
    }
}
