//! Notifications to systemd: ready, watchdog, reloading, stopping.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// State of the watchdog notifications.
#[derive(Debug)]
pub(super) struct Systemd {
    /// Interval between two watchdog notifications: a third of systemd's time-out.
    period: Option<Duration>,
    fed: Instant,
    answered: u64,
}

impl Systemd {
    /// Notifies systemd that the daemon is ready.
    pub(super) fn ready() -> Self {
        tell(&[NotifyState::Ready]);
        let period = sd_notify::watchdog_enabled().map(|longest| longest / 3);
        Self { period, fed: Instant::now(), answered: 0 }
    }

    /// Feeds the watchdog if frames were answered since it was last fed: a daemon that answers no
    /// frames is worth a restart.
    pub(super) fn look(&mut self, answered: u64) {
        let Some(period) = self.period else { return };
        if answered > self.answered && self.fed.elapsed() >= period {
            tell(&[NotifyState::Watchdog]);
            (self.answered, self.fed) = (answered, Instant::now());
        }
    }

    /// Notifies systemd that the configuration is being reloaded.
    #[allow(clippy::unused_self, reason = "only a daemon that is ready reloads")]
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!("systemd cannot be told: {error}"),
        }
    }

    /// Notifies systemd that the reload is complete.
    #[allow(clippy::unused_self, reason = "only a daemon that is ready reloads")]
    pub(super) fn reloaded(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// Notifies systemd that the daemon is stopping.
    #[allow(clippy::unused_self, reason = "only a daemon that is ready stops")]
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

/// Sends a notification; does nothing without systemd.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("systemd cannot be told: {error}");
    }
}
