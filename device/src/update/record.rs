//! The stored record of updates on this device.

use fmlora_learner::FeatureSpaceId;
use fmlora_learner::format::AdapterName;
use serde::{Deserialize, Serialize};

use super::offer::{Offered, hex};

/// Maximum number of adapters in quarantine, of rollbacks and of counted tries. Beyond it, the
/// oldest is dropped.
const QUARANTINE: usize = 64;

/// Maximum number of tries in a row of an adapter that fails for a possibly temporary reason, or
/// ends the program.
pub(super) const TRIES: u32 = 3;

/// Phase of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// There is no update.
    Idle,
    /// An adapter was downloaded completely.
    Fetched(Offered),
    /// It was read, fits this device, and passed all checks before its use.
    Staged(Offered),
    /// It is in use, on trial.
    Trial {
        /// Number of ends of the program since then that count.
        ends: u32,
        /// True if an end of the program counts now. It does not count while the program waits for
        /// a missing camera.
        counts: bool,
    },
    /// It passed its trial, and stays in use.
    Committed,
    /// It was refused, or taken out of use.
    RolledBack {
        /// The reason.
        why: String,
    },
}

impl Phase {
    /// Phase of an adapter that has just come into use.
    pub(crate) const TRIAL: Self = Self::Trial { ends: 0, counts: true };

    /// Names of all phases.
    pub(crate) const NAMES: [&'static str; 6] =
        ["idle", "fetched", "staged", "trial", "committed", "rolled_back"];

    /// Returns the name of the phase, for people and scripts.
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

/// An adapter in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InUse {
    pub(crate) offered: Offered,
    /// Time at which it came into use, in seconds since 1970 by the device's clock.
    pub(crate) since: i64,
    /// True if it can be taken out of use, so that a newer release can replace it. Others stay for
    /// good.
    pub(crate) removable: bool,
}

/// An adapter that is not retried automatically.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quarantined {
    pub(crate) sha256: [u8; 32],
    pub(crate) name: String,
    pub(crate) why: String,
}

/// The largest release that was rolled back, of an adapter that begins with some features. Smaller
/// releases are not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TakenBack {
    name: AdapterName,
    feature_space_before: FeatureSpaceId,
    release: u64,
}

/// Tries of an adapter that has not passed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Tries {
    sha256: [u8; 32],
    times: u32,
}

/// State of updates on this device, without the large values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Id of this device in rollouts: random, generated once.
    pub(crate) device: String,
    pub(crate) phase: Phase,
    /// Adapters in use, the oldest first: a copy from the `Stack`, for readers that need no more.
    pub(crate) in_use: Vec<InUse>,
    /// True if the last switch can be rolled back.
    pub(crate) can_roll_back: bool,
    pub(crate) quarantine: Vec<Quarantined>,
    taken_back: Vec<TakenBack>,
    tries: Vec<Tries>,
}

impl Record {
    /// Creates the record of a device without updates.
    pub(super) fn new() -> Self {
        let mut id = [0; 16];
        // Without randomness, all devices would be first in every rollout. That is no reason to
        // stop.
        let _ = getrandom::fill(&mut id);
        Self {
            device: hex(&id),
            phase: Phase::Idle,
            in_use: Vec::new(),
            can_roll_back: false,
            quarantine: Vec::new(),
            taken_back: Vec::new(),
            tries: Vec::new(),
        }
    }

    /// Sets the phase of a device without an update in progress.
    pub(super) fn settle(&mut self) {
        self.phase = if self.in_use.is_empty() { Phase::Idle } else { Phase::Committed };
    }

    /// Returns the reason why an adapter is in quarantine.
    pub(super) fn quarantined(&self, sha256: &[u8; 32]) -> Option<&str> {
        let found = self.quarantine.iter().find(|quarantined| quarantined.sha256 == *sha256);
        found.map(|quarantined| quarantined.why.as_str())
    }

    /// Puts an adapter into quarantine: it is not retried automatically.
    pub(super) fn refuse(&mut self, offered: &Offered, why: &str) {
        self.release_from_quarantine(offered);
        self.quarantine.push(Quarantined {
            sha256: offered.sha256,
            name: offered.target.clone(),
            why: why.to_owned(),
        });
        let spare = self.quarantine.len().saturating_sub(QUARANTINE);
        self.quarantine.drain(..spare);
        self.phase = Phase::RolledBack { why: why.to_owned() };
    }

    /// Puts an adapter that was in use into quarantine, and blocks older releases in its place.
    pub(super) fn take_back(&mut self, offered: &Offered, why: &str) {
        let offer = &offered.offer;
        let mut release = offer.release;
        self.taken_back.retain(|taken| {
            let same = taken.is_about(offered);
            release = if same { release.max(taken.release) } else { release };
            !same
        });
        let name = offer.name.clone();
        let feature_space_before = offer.feature_space_before;
        self.taken_back.push(TakenBack { name, feature_space_before, release });
        let spare = self.taken_back.len().saturating_sub(QUARANTINE);
        self.taken_back.drain(..spare);
        self.refuse(offered, why);
    }

    /// Returns the release that was rolled back, if it is larger than this one.
    pub(super) fn larger_taken_back(&self, offered: &Offered) -> Option<u64> {
        let taken = self.taken_back.iter().find(|taken| taken.is_about(offered))?;
        (taken.release > offered.offer.release).then_some(taken.release)
    }

    /// Removes an adapter that is in use from quarantine.
    pub(super) fn forgive(&mut self, offered: &Offered) {
        let is_newer = |taken: &TakenBack| taken.release > offered.offer.release;
        self.taken_back.retain(|taken| !taken.is_about(offered) || is_newer(taken));
        self.release_from_quarantine(offered);
    }

    fn release_from_quarantine(&mut self, offered: &Offered) {
        self.quarantine.retain(|quarantined| quarantined.sha256 != offered.sha256);
        self.try_anew(offered);
    }

    /// Counts a try of an adapter. Returns the number of its tries in a row, including this one.
    /// Tries of other adapters in between do not matter.
    pub(super) fn try_once(&mut self, offered: &Offered) -> u32 {
        let before = self.tries.iter().find(|tries| tries.sha256 == offered.sha256);
        let times = before.map_or(0, |tries| tries.times) + 1;
        self.try_anew(offered);
        self.tries.push(Tries { sha256: offered.sha256, times });
        let spare = self.tries.len().saturating_sub(QUARANTINE);
        self.tries.drain(..spare);
        times
    }

    /// Takes back one counted try, which was interrupted for another reason.
    pub(super) fn try_less(&mut self, sha256: &[u8; 32]) {
        for tries in self.tries.iter_mut().filter(|tries| tries.sha256 == *sha256) {
            tries.times = tries.times.saturating_sub(1);
        }
        self.tries.retain(|tries| tries.times > 0);
    }

    /// Resets the number of tries: the adapter passed, or failed for another reason.
    pub(super) fn try_anew(&mut self, offered: &Offered) {
        self.tries.retain(|tries| tries.sha256 != offered.sha256);
    }
}

impl TakenBack {
    fn is_about(&self, offered: &Offered) -> bool {
        let offer = &offered.offer;
        self.name == offer.name && self.feature_space_before == offer.feature_space_before
    }
}

#[cfg(test)]
mod tests {
    use fmlora_learner::BaseId;

    use super::*;

    fn offered(n: u8) -> Offered {
        Offered::example("birds", u64::from(n))
    }

    #[test]
    fn tries_in_a_row_are_counted() {
        let mut record = Record::new();
        let times = [1, 1, 2, 1, 2, 1].map(|n| record.try_once(&offered(n)));
        assert_eq!(times, [1, 2, 1, 3, 2, 4], "those of another are no matter");
        record.refuse(&offered(1), "slow");
        assert_eq!(record.try_once(&offered(1)), 1, "they are counted anew");
        record.try_anew(&offered(1));
        assert_eq!([1, 2].map(|n| record.try_once(&offered(n))), [1, 3]);
        record.try_less(&[2; 32]);
        assert_eq!(record.try_once(&offered(2)), 3, "the last one does not count");
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

    #[test]
    fn the_largest_release_that_was_taken_back_is_remembered_until_as_large_a_one_is_in_use() {
        let mut record = Record::new();
        assert_eq!(record.larger_taken_back(&offered(1)), None);
        for n in [2, 3, 2] {
            record.take_back(&offered(n), "no good");
        }
        let larger =
            |record: &Record, n| [1, 2, 3, n].map(|n| record.larger_taken_back(&offered(n)));
        assert_eq!(larger(&record, 4), [Some(3), Some(3), None, None]);
        let mut elsewhere = offered(1);
        elsewhere.offer.feature_space_before = BaseId::new([1; 32]).feature_space();
        assert_eq!(record.larger_taken_back(&elsewhere), None);
        record.refuse(&offered(5), "no good");
        assert_eq!(record.larger_taken_back(&offered(4)), None, "it never was in use");
        record.forgive(&offered(2));
        assert_eq!(record.larger_taken_back(&offered(1)), Some(3));
        record.forgive(&offered(3));
        assert_eq!(record.larger_taken_back(&offered(1)), None);
    }
}
