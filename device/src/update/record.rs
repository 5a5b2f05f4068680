//! What a device remembers of updates, in the store.

use serde::{Deserialize, Serialize};

use super::offer::{Offered, hex};

/// Adapters that were rolled back and are remembered; the oldest is forgotten.
const QUARANTINE: usize = 64;

/// How often an adapter may fail for what may be over the next time.
const DOUBTS: u32 = 3;

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

/// An adapter that failed for what may be over the next time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Doubt {
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
    doubt: Option<Doubt>,
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
            doubt: None,
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
        self.doubt = None;
    }

    /// Counts a failure that may be over the next time; tells whether it was one too many.
    pub(super) fn doubt(&mut self, offered: &Offered) -> bool {
        let before = self.doubt.take().filter(|doubt| doubt.sha256 == offered.sha256);
        let times = before.map_or(0, |doubt| doubt.times) + 1;
        self.doubt = Some(Doubt { sha256: offered.sha256, times });
        times >= DOUBTS
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
    fn what_may_be_over_the_next_time_counts_the_third_time_in_a_row() {
        let mut record = Record::new();
        let doubts = [1, 1, 2, 1, 1, 1].map(|n| record.doubt(&offered(n)));
        assert_eq!(doubts, [false, false, false, false, false, true]);
        record.refuse(&offered(1), "slow");
        assert!(!record.doubt(&offered(1)), "it is counted anew");
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
