//! What a device remembers of updates, in the store.

use serde::{Deserialize, Serialize};

use super::offer::{Offered, hex};

/// Adapters that were rolled back and are remembered; the oldest is forgotten.
const QUARANTINE: usize = 64;

/// How often an adapter may be tried in a row that fails for what may be over the next time, or ends the program.
pub(super) const TRIES: u32 = 3;

/// Where an update stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// There is none.
    Idle,
    /// An adapter has come whole.
    Fetched(Offered),
    /// It was read, fits, and passed what can be tried before it is used.
    Staged(Offered),
    /// It is in use, and must prove itself.
    Trial {
        /// Starts of the program since.
        starts: u32,
    },
    /// It is in use for good.
    Committed,
    /// It was refused, or taken out of use.
    RolledBack {
        /// Why.
        why: String,
    },
}

impl Phase {
    /// Names of all phases.
    pub(crate) const NAMES: [&'static str; 6] =
        ["idle", "fetched", "staged", "trial", "committed", "rolled_back"];

    /// Its name, for people and scripts.
    pub(crate) fn name(&self) -> &'static str {
        let [idle, fetched, staged, trial, committed, rolled_back] = Self::NAMES;
        match self {
            Self::Idle => idle,
            Self::Fetched(_) => fetched,
            Self::Staged(_) => staged,
            Self::Trial { .. } => trial,
            Self::Committed => committed,
            Self::RolledBack { .. } => rolled_back,
        }
    }
}

/// An adapter that is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InUse {
    pub(crate) offered: Offered,
    /// When it came into use, in seconds since 1970 by the clock of the box.
    pub(crate) since: i64,
}

/// An adapter that is not tried again by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quarantined {
    pub(crate) sha256: [u8; 32],
    pub(crate) name: String,
    pub(crate) why: String,
}

/// An adapter that was tried and has not passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Tries {
    sha256: [u8; 32],
    times: u32,
}

/// All of it that is small.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Name of this device in rollouts: random, made once.
    pub(crate) device: String,
    pub(crate) phase: Phase,
    /// Adapters in use, the oldest first.
    pub(crate) in_use: Vec<InUse>,
    /// How many of them, the newest, can be taken out of use.
    pub(crate) kept: usize,
    pub(crate) quarantine: Vec<Quarantined>,
    tries: Option<Tries>,
}

impl Record {
    /// That of a device which knows nothing of updates.
    pub(super) fn new() -> Self {
        let mut id = [0; 16];
        // Without randomness all boxes would be first in every rollout; that is no reason to stop.
        let _ = getrandom::fill(&mut id);
        Self {
            device: hex(&id),
            phase: Phase::Idle,
            in_use: Vec::new(),
            kept: 0,
            quarantine: Vec::new(),
            tries: None,
        }
    }

    /// Why an adapter is in quarantine.
    pub(super) fn quarantined(&self, sha256: &[u8; 32]) -> Option<&str> {
        let found = self.quarantine.iter().find(|quarantined| quarantined.sha256 == *sha256);
        found.map(|quarantined| quarantined.why.as_str())
    }

    /// Does not try an adapter again by itself.
    pub(super) fn refuse(&mut self, offered: &Offered, why: &str) {
        self.forgive(offered);
        self.quarantine.push(Quarantined {
            sha256: offered.sha256,
            name: offered.target.clone(),
            why: why.to_owned(),
        });
        let spare = self.quarantine.len().saturating_sub(QUARANTINE);
        self.quarantine.drain(..spare);
        self.phase = Phase::RolledBack { why: why.to_owned() };
    }

    /// Takes an adapter out of quarantine.
    pub(super) fn forgive(&mut self, offered: &Offered) {
        self.quarantine.retain(|quarantined| quarantined.sha256 != offered.sha256);
        self.tries = None;
    }

    /// Counts that an adapter is being tried; tells how often that was in a row, this time included.
    pub(super) fn try_once(&mut self, offered: &Offered) -> u32 {
        let before = self.tries.take().filter(|tries| tries.sha256 == offered.sha256);
        let times = before.map_or(0, |tries| tries.times) + 1;
        self.tries = Some(Tries { sha256: offered.sha256, times });
        times
    }

    /// Forgets how often: it passed, or something else was wrong.
    pub(super) fn try_anew(&mut self) {
        self.tries = None;
    }
}

#[cfg(test)]
mod tests {
    use fmlora_learner::{BaseId, OFFER_FORMAT, Offer, Rollout};

    use super::*;

    fn offered(n: u8) -> Offered {
        let base_id = BaseId::new([0; 32]);
        let offer = Offer {
            format: OFFER_FORMAT,
            name: "birds".parse().expect("a name"),
            base_id,
            feature_space_before: base_id.feature_space(),
            feature_space_after: base_id.feature_space(),
            release: u64::from(n),
            channel: "stable".to_owned(),
            rollout: Rollout { percent: 100, salt: String::new() },
            min_daemon: "0.0.0".parse().expect("a version"),
        };
        Offered { target: format!("{n}.fmla"), length: 1, sha256: [n; 32], offer }
    }

    #[test]
    fn tries_in_a_row_are_counted() {
        let mut record = Record::new();
        let times = [1, 1, 2, 1, 1, 1].map(|n| record.try_once(&offered(n)));
        assert_eq!(times, [1, 2, 1, 1, 2, 3]);
        record.refuse(&offered(1), "slow");
        assert_eq!(record.try_once(&offered(1)), 1, "they are counted anew");
        record.try_anew();
        assert_eq!(record.try_once(&offered(1)), 1);
    }

    #[test]
    fn the_oldest_of_many_in_quarantine_is_forgotten() {
        let mut record = Record::new();
        (0..=QUARANTINE as u8).for_each(|n| record.refuse(&offered(n), "no good"));
        assert_eq!(record.quarantine.len(), QUARANTINE);
        assert_eq!(record.quarantined(&[0; 32]), None);
        assert_eq!(record.quarantined(&[1; 32]), Some("no good"));
        record.forgive(&offered(1));
        assert_eq!(record.quarantined(&[1; 32]), None);
    }
}
