//! Runs of the program: detects power cuts, and computes the back-off after crashes.
//!
//! A power cut is no fault of an adapter. On Linux, each start of the machine has a boot id. If it
//! differs from the one of the last run, the machine went down, and the end of that run does not
//! count. On other systems, every end counts. An adapter that crashed the program is retried after
//! a day. After each further crash, this time doubles, up to a month.

use fail::fail_point;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Offered, Updates};
use crate::StoreError;

/// Linux's file with the boot id.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Back-off in seconds, until an adapter that crashed the program is retried.
const WAIT: i64 = 24 * 3600;

/// Maximum number of doublings of the back-off, up to a month.
const DOUBLINGS: u32 = 5;

/// Maximum number of adapters with recorded crashes. Beyond it, the oldest is dropped.
const CRASHED: usize = 64;

/// Stored data of runs, beside the `Record`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Runs {
    /// Boot id of the last run; `None` if the system has none.
    boot: Option<String>,
    /// The adapter being tried, until the result is known.
    trying: Option<[u8; 32]>,
    crashed: Vec<Crashed>,
}

/// An adapter that crashed the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Crashed {
    sha256: [u8; 32],
    /// Time of its last quarantine for a crash, in seconds since 1970 by the device's clock.
    at: i64,
    /// Number of such quarantines.
    times: u32,
}

impl Crashed {
    fn until(&self) -> i64 {
        let doublings = self.times.saturating_sub(1).min(DOUBLINGS);
        self.at.saturating_add(WAIT << doublings)
    }
}

impl Runs {
    /// Records that an adapter goes into quarantine because the program crashed with it.
    pub(super) fn crashed(&mut self, offered: &Offered, now: Timestamp) {
        let before = self.crashed.iter().find(|crashed| crashed.sha256 == offered.sha256);
        let times = before.map_or(0, |crashed| crashed.times) + 1;
        self.passed(offered);
        self.crashed.push(Crashed { sha256: offered.sha256, at: now.as_second(), times });
        let spare = self.crashed.len().saturating_sub(CRASHED);
        self.crashed.drain(..spare);
    }

    /// Forgets the crashes of an adapter that passed its trial.
    fn passed(&mut self, offered: &Offered) {
        self.crashed.retain(|crashed| crashed.sha256 != offered.sha256);
    }

    /// Returns the time at which an adapter in quarantine for crashes is retried; `None` if it is
    /// there for another reason.
    pub(super) fn until(&self, sha256: &[u8; 32]) -> Option<Timestamp> {
        let crashed = self.crashed.iter().find(|crashed| crashed.sha256 == *sha256)?;
        Timestamp::from_second(crashed.until()).ok()
    }
}

impl Updates {
    /// Reads the data of runs.
    pub(super) fn runs_so_far(&self) -> Result<Runs, StoreError> {
        Ok(self.runs.load()?.unwrap_or_default())
    }

    /// Records the beginning of a run. Returns true if the machine went down since the last run. A
    /// try that was interrupted by this is not counted.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    pub(crate) fn begin_run(&self) -> Result<bool, StoreError> {
        let mut runs = self.runs_so_far()?;
        let last = runs.boot.clone();
        let now = boot_id();
        let went_down = matches!((&last, &now), (Some(last), Some(now)) if last != now);
        let interrupted = runs.trying.take();
        if last == now && interrupted.is_none() {
            return Ok(false);
        }
        runs.boot = now;
        self.change(&[self.runs.value(&runs)?], |record| {
            if let Some(sha256) = interrupted.filter(|_| went_down) {
                record.try_less(&sha256);
            }
        })?;
        Ok(went_down)
    }

    /// Records that an adapter is being tried, and counts the try. Returns the number of its tries
    /// in a row.
    pub(super) fn try_once(&self, offered: &Offered) -> Result<u32, StoreError> {
        let runs = Runs { trying: Some(offered.sha256), ..self.runs_so_far()? };
        self.change(&[self.runs.value(&runs)?], |record| record.try_once(offered))
    }

    /// Records that a try is over, with any result.
    pub(super) fn tried(&self) -> Result<(), StoreError> {
        self.runs.save(&Runs { trying: None, ..self.runs_so_far()? })
    }

    /// Forgets the crashes of the adapters in use: they stay.
    pub(super) fn forget_crashes(&self) -> Result<(), StoreError> {
        let record = self.record()?;
        let mut runs = self.runs_so_far()?;
        let before = runs.crashed.len();
        record.in_use.iter().for_each(|used| runs.passed(&used.offered));
        if runs.crashed.len() == before { Ok(()) } else { self.runs.save(&runs) }
    }
}

/// Returns the boot id, or the one that a test's fail point sets; `None` if the system has none.
fn boot_id() -> Option<String> {
    fail_point!("update-boot", |id| id);
    let id = std::fs::read_to_string(BOOT_ID).ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_crash_doubles_the_time_up_to_a_month() {
        let mut runs = Runs::default();
        let offered = Offered::example("birds", 1);
        let now = Timestamp::from_second(1_000_000).expect("a time");
        assert_eq!(runs.until(&offered.sha256), None);
        let days = [1, 2, 4, 8, 16, 32, 32].map(|days| {
            runs.crashed(&offered, now);
            let until = runs.until(&offered.sha256).expect("a crash");
            (days, (until.as_second() - 1_000_000) / WAIT)
        });
        assert!(days.iter().all(|(expected, found)| expected == found), "{days:?}");
        runs.passed(&offered);
        assert_eq!(runs, Runs::default());
    }
}
