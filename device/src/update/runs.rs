//! Runs of the program: whether the machine went down with the last one, and for how long its crashes keep an adapter away.
//!
//! A power cut is no fault of an adapter. On Linux each start of the machine has an id: if it is another one than that of
//! the last run, the machine went down, and the end of that run counts for nothing. Elsewhere every end counts. What
//! crashed the program is tried again after a day; each time that it crashes again, after twice as long, a month at most.

use fail::fail_point;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Offered, Updates};
use crate::StoreError;

/// Where Linux has the id of this start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Seconds until an adapter that crashed the program is tried again.
const WAIT: i64 = 24 * 3600;

/// How often that time doubles: a month in the end.
const DOUBLINGS: u32 = 5;

/// Adapters whose crashes are remembered; the oldest is forgotten.
const CRASHED: usize = 64;

/// What is remembered of runs, beside the `Record`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Runs {
    /// Start of the machine in which the last run was; `None` where the system does not say.
    boot: Option<String>,
    /// The adapter that is being tried, until it is known whether it passed.
    trying: Option<[u8; 32]>,
    crashed: Vec<Crashed>,
}

/// An adapter that crashed the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Crashed {
    sha256: [u8; 32],
    /// When it was put into quarantine for that, in seconds since 1970 by the clock of the box.
    at: i64,
    /// How often it was.
    times: u32,
}

impl Crashed {
    fn until(&self) -> i64 {
        let doublings = self.times.saturating_sub(1).min(DOUBLINGS);
        self.at.saturating_add(WAIT << doublings)
    }
}

impl Runs {
    /// Notes that an adapter goes into quarantine because the program crashed with it.
    pub(super) fn crashed(&mut self, offered: &Offered, now: Timestamp) {
        let before = self.crashed.iter().find(|crashed| crashed.sha256 == offered.sha256);
        let times = before.map_or(0, |crashed| crashed.times) + 1;
        self.passed(offered);
        self.crashed.push(Crashed { sha256: offered.sha256, at: now.as_second(), times });
        let spare = self.crashed.len().saturating_sub(CRASHED);
        self.crashed.drain(..spare);
    }

    /// Forgets crashes with an adapter: it has proved itself.
    fn passed(&mut self, offered: &Offered) {
        self.crashed.retain(|crashed| crashed.sha256 != offered.sha256);
    }

    /// When an adapter that is in quarantine for crashes is tried again; `None` if it is there for something else.
    pub(super) fn until(&self, sha256: &[u8; 32]) -> Option<Timestamp> {
        let crashed = self.crashed.iter().find(|crashed| crashed.sha256 == *sha256)?;
        Timestamp::from_second(crashed.until()).ok()
    }
}

impl Updates {
    /// What is remembered of runs.
    pub(super) fn runs_so_far(&self) -> Result<Runs, StoreError> {
        Ok(self.runs.load()?.unwrap_or_default())
    }

    /// Notes that a run begins; says whether the machine went down since the last one. A try that it went down in is
    /// forgotten.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    pub(crate) fn begin_run(&self) -> Result<bool, StoreError> {
        let mut runs = self.runs_so_far()?;
        let (last, now) = (runs.boot.clone(), boot_id());
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

    /// Notes which adapter is being tried, and counts that; tells how often it was tried in a row.
    pub(super) fn try_once(&self, offered: &Offered) -> Result<u32, StoreError> {
        let runs = Runs { trying: Some(offered.sha256), ..self.runs_so_far()? };
        self.change(&[self.runs.value(&runs)?], |record| record.try_once(offered))
    }

    /// Notes that a try is over, whatever came of it.
    pub(super) fn tried(&self) -> Result<(), StoreError> {
        self.runs.save(&Runs { trying: None, ..self.runs_so_far()? })
    }

    /// Forgets crashes with the adapters that are in use: they stay.
    pub(super) fn forget_crashes(&self) -> Result<(), StoreError> {
        let (record, mut runs) = (self.record()?, self.runs_so_far()?);
        let before = runs.crashed.len();
        record.in_use.iter().for_each(|used| runs.passed(&used.offered));
        if runs.crashed.len() == before { Ok(()) } else { self.runs.save(&runs) }
    }
}

/// The id of this start of the machine, or what a test says; `None` where the system has none.
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
        let (mut runs, offered) = (Runs::default(), Offered::example("birds", 1));
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
