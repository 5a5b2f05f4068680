//! What a device remembers of updates, in the store.

use fmlora_learner::AdapterState;
use fmlora_learner::{Class, Learner};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::offer::{Offered, hex};

/// Adapters that were rolled back and are remembered; the oldest is forgotten.
const QUARANTINE: usize = 64;

/// Keys of the store.
pub(super) const RECORD: &str = "update";
pub(super) const TRUSTED: &str = "update-trusted";
pub(super) const FILE: &str = "update-file";
pub(super) const BEFORE: &str = "update-before";

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
    /// It was taken out of use.
    RolledBack {
        /// Why.
        why: String,
    },
}

impl Phase {
    /// Its name, for people and scripts.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fetched(_) => "fetched",
            Self::Staged(_) => "staged",
            Self::Trial { .. } => "trial",
            Self::Committed => "committed",
            Self::RolledBack { .. } => "rolled_back",
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

/// An adapter that is never tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quarantined {
    pub(crate) sha256: [u8; 32],
    pub(crate) name: String,
    pub(crate) why: String,
}

/// All of it that is small.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Name of this device in rollouts: random, made once.
    pub(crate) device: String,
    pub(crate) phase: Phase,
    /// Adapters in use, the oldest first.
    pub(crate) in_use: Vec<InUse>,
    pub(crate) quarantine: Vec<Quarantined>,
}

/// What there was before the newest adapter, to be put back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Before {
    /// The newest adapter itself.
    #[serde(with = "serde_bytes")]
    pub(super) file: Vec<u8>,
    pub(super) adapter: Option<AdapterState>,
    pub(super) classes: Vec<Class>,
    /// Fingerprint of each class after the update: one that still has it was not taught since.
    pub(super) after: Vec<(String, [u8; 32])>,
}

impl Record {
    /// That of a device which knows nothing of updates.
    pub(super) fn new() -> Self {
        let mut id = [0; 16];
        // Without randomness all boxes would be first in every rollout; that is no reason to stop.
        let _ = getrandom::fill(&mut id);
        let device = hex(&id);
        Self { device, phase: Phase::Idle, in_use: Vec::new(), quarantine: Vec::new() }
    }

    /// Release of an adapter of that name that is in use.
    pub(super) fn release(&self, name: &str) -> Option<u64> {
        let of_name = self.in_use.iter().filter(|used| used.offered.offer.name.as_str() == name);
        of_name.map(|used| used.offered.offer.release).max()
    }

    /// Why an adapter is in quarantine.
    pub(super) fn quarantined(&self, sha256: &[u8; 32]) -> Option<&str> {
        let found = self.quarantine.iter().find(|quarantined| quarantined.sha256 == *sha256);
        found.map(|quarantined| quarantined.why.as_str())
    }

    /// Never tries an adapter again.
    pub(super) fn refuse(&mut self, offered: &Offered, why: &str) {
        self.quarantine.push(Quarantined {
            sha256: offered.sha256,
            name: offered.target.clone(),
            why: why.to_owned(),
        });
        let spare = self.quarantine.len().saturating_sub(QUARANTINE);
        self.quarantine.drain(..spare);
    }
}

impl Before {
    /// What there is now, and fingerprints of what there will be with the adapter in `file`.
    pub(super) fn new(now: &Learner, next: &Learner, file: &[u8]) -> Self {
        Self {
            file: file.to_vec(),
            adapter: now.adapter().map(|state| (**state).clone()),
            classes: now.classes().map(|class| (**class).clone()).collect(),
            after: next.classes().map(|class| (class.name.key(), fingerprint(class))).collect(),
        }
    }
}

/// SHA-256 of what is kept of a class, its name left out.
pub(super) fn fingerprint(class: &Class) -> [u8; 32] {
    // What the store holds can be written; if it could not, no two classes would be taken for the same.
    let bytes = postcard::to_stdvec(&class.modes).unwrap_or_default();
    Sha256::digest(bytes).into()
}
