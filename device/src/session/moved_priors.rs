//! Priors in the feature spaces that trainings left, the newest last.

use fmlora_learner::{FeatureSpaceId, Prior};
use serde::{Deserialize, Serialize};

use crate::{JOURNAL_LIMIT, Store, StoreError};

/// Priors by feature space. `undo` returns to an earlier feature space and needs its prior again,
/// so a prior is kept beside newer ones.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct MovedPriors(Vec<MovedPrior>);

/// The prior, moved to the feature space after a task.
#[derive(Debug, Serialize, Deserialize)]
struct MovedPrior {
    space: FeatureSpaceId,
    prior: Prior,
}

/// Maximum number of stored priors, each of some 0.4 MB with the embedded base: one more than
/// operations that `undo` can take back. Beyond it, the oldest is dropped.
const LIMIT: usize = JOURNAL_LIMIT + 1;

impl MovedPriors {
    /// Key in the store, and version of its value.
    const KEY: &'static str = "priors";
    const VERSION: u16 = 1;
    /// Key and version of a single prior, as former programs stored it.
    const FORMER_KEY: &'static str = "prior";
    const FORMER_VERSION: u16 = 1;

    /// Loads the priors that fit features of `d_feature` numbers.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`], [`StoreError::Damaged`] or [`StoreError::Version`].
    pub(super) fn load(store: &Store, d_feature: usize) -> Result<Self, StoreError> {
        let stored: Option<Self> = store.value(Self::KEY, Self::VERSION)?;
        let mut priors = match stored {
            Some(priors) => priors,
            None => {
                Self(store.value(Self::FORMER_KEY, Self::FORMER_VERSION)?.into_iter().collect())
            }
        };
        priors.0.retain(|moved| moved.prior.check(d_feature).is_ok());
        Ok(priors)
    }

    /// Returns the prior in a feature space; `None` if it is unknown.
    pub(super) fn of(&self, space: FeatureSpaceId) -> Option<&Prior> {
        self.0.iter().find(|moved| moved.space == space).map(|moved| &moved.prior)
    }

    /// Adds the prior of a feature space and stores all priors.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`], or the error for a store that is only read.
    pub(super) fn keep(
        &mut self,
        space: FeatureSpaceId,
        prior: Prior,
        store: &Store,
    ) -> Result<(), StoreError> {
        self.add(space, prior);
        store.record(Self::KEY)?.versioned(Self::VERSION).save(self)
    }

    fn add(&mut self, space: FeatureSpaceId, prior: Prior) {
        self.0.retain(|moved| moved.space != space);
        self.0.push(MovedPrior { space, prior });
        let surplus = self.0.len().saturating_sub(LIMIT);
        self.0.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::Session;
    use crate::cli::Global;
    use crate::store::Access;

    fn prior(value: f32) -> Prior {
        let class = |c: usize| -> Vec<Vec<f32>> {
            let shot =
                |i: usize| (0..8).map(move |j| value + ((3 * c + 5 * i + j * j) % 11) as f32);
            (0..20).map(|i| shot(i).collect()).collect()
        };
        Prior::estimate(&[class(0), class(1), class(2)]).expect("sound features")
    }

    fn space(byte: u8) -> FeatureSpaceId {
        format!("{byte:02x}").repeat(32).parse().expect("an id")
    }

    #[test]
    fn an_earlier_feature_space_has_its_prior_again_until_too_many_followed() {
        let mut priors = MovedPriors::default();
        priors.add(space(1), prior(0.1));
        priors.add(space(2), prior(0.2));
        assert_eq!(priors.of(space(1)), Some(&prior(0.1)));
        priors.add(space(1), prior(0.3));
        assert_eq!(priors.of(space(1)), Some(&prior(0.3)), "the newer one counts");
        (3..=22).for_each(|byte| priors.add(space(byte), prior(0.4)));
        assert_eq!(priors.of(space(2)), None, "the oldest is dropped");
        assert!(priors.of(space(1)).is_some());
        assert_eq!(priors.0.len(), LIMIT);
    }

    #[test]
    fn a_prior_of_a_former_program_is_read() {
        let folder = TempDir::new().expect("a folder");
        let global = Global { base: None, state: None, device: None, json: false, verbose: 0 };
        let session = Session::open_at(&global, folder.path(), Access::Write).expect("a state");
        let store = session.store();
        let former = store.record(MovedPriors::FORMER_KEY).expect("writable");
        let moved = MovedPrior { space: space(1), prior: prior(0.1) };
        former.versioned(MovedPriors::FORMER_VERSION).save(&moved).expect("written");
        let mut priors = MovedPriors::load(store, 8).expect("read");
        assert_eq!(priors.of(space(1)), Some(&prior(0.1)));
        priors.keep(space(2), prior(0.2), store).expect("written");
        let again = MovedPriors::load(store, 8).expect("read");
        assert!(again.of(space(1)).is_some() && again.of(space(2)).is_some());
        assert_eq!(MovedPriors::load(store, 9).expect("read").0.len(), 0, "of another network");
    }
}
