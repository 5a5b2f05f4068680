//! Taking the newest adapter out of use, with what was taught since then kept.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fmlora_learner::format::AdapterFile;
use fmlora_learner::{Class, Learner, StatisticsError};

use super::difference::learner_of;
use super::record::{Before, fingerprint};

/// What is known without the newest adapter.
///
/// A class that nobody taught since is what it was, to the bit; one that the adapter brought is gone. A class that was
/// taught since stays with all its shots, those that the adapter brought included: which is which cannot be told apart
/// any more. Its statistics are moved back by the inverse of the drift map. A class that was forgotten since stays
/// forgotten, a new name stays, and what the update itself had to drop comes back.
///
/// # Errors
///
/// [`StatisticsError`] if statistics cannot be moved back.
pub(super) fn back(
    now: &Learner,
    before: Before,
    adapter: &AdapterFile,
) -> Result<Learner, StatisticsError> {
    let Before { adapter: state, classes, after, .. } = before;
    let survived: HashSet<String> = after.iter().map(|(key, _)| key.clone()).collect();
    let untouched: HashMap<[u8; 32], String> =
        after.into_iter().map(|(key, print)| (print, key)).collect();
    let mut old: HashMap<String, Class> =
        classes.into_iter().map(|class| (class.name.key(), class)).collect();
    let mut known = Vec::new();
    for class in now.classes() {
        let kept = match untouched.get(&fingerprint(class)) {
            Some(key) => old.remove(key).map(|old| Class { name: class.name.clone(), ..old }),
            None => Some(match &adapter.drift {
                Some(drift) => class.moved(|mode| drift.transport_back(mode))?,
                None => (**class).clone(),
            }),
        };
        known.extend(kept);
    }
    let names: HashSet<String> = known.iter().map(|class| class.name.key()).collect();
    let dropped = old.into_iter().filter(|(key, _)| !survived.contains(key));
    known.extend(dropped.filter(|(key, _)| !names.contains(key)).map(|(_, class)| class));
    Ok(learner_of(now.d_feature(), known.into_iter().map(Arc::new), state))
}
