//! Layers of adapters in use. Each records its changes, so that it can be taken out again.
//!
//! Taking a layer out restores a class that was not taught since then, to the bit, and removes a
//! class that the adapter brought. A class that was taught since then keeps the shots taught on this
//! device, and loses the shots that the adapter brought to it ([`Class::taken_out`]); a class in a
//! state written by an older program keeps both. The inverse of the drift map moves its statistics
//! back. A class that was forgotten since then stays forgotten, a new name stays, and a class that
//! the update had to drop comes back.

use std::collections::HashSet;
use std::sync::Arc;

use fmlora_learner::format::{AdapterFile, AdapterFileError, decode_adapter};
use fmlora_learner::{AdapterState, Class, Learner, StatisticsError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::difference::{difference, learner_of};
use crate::store::fingerprint;

/// An adapter in use, and the state before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Layer {
    #[serde(with = "serde_bytes")]
    pub(super) file: Vec<u8>,
    pub(super) undo: Undo,
}

/// Data to undo a switch: the state before it, and fingerprints of the changed classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Undo {
    /// Adapter state that tasks had left in the network.
    adapter: Option<AdapterState>,
    touched: Vec<Touched>,
}

/// A class that was changed, brought or dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Touched {
    before: Option<Class>,
    after: Option<Print>,
}

/// Fingerprint of a class. A class that still has it was not taught since then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Print {
    key: String,
    sha256: [u8; 32],
}

/// Result of taking something out.
#[derive(Debug)]
pub(super) struct Back {
    pub(super) learner: Learner,
    /// Classes that cannot be moved for want of a drift map. They are missing in `learner`.
    pub(super) lost: Vec<String>,
}

/// A way from the current features to others.
#[derive(Debug)]
pub(super) struct Way(Vec<Step>);

#[derive(Debug)]
struct Step {
    direction: Direction,
    adapter: AdapterFile,
    /// SHA-256 of the adapter's content.
    sha256: [u8; 32],
    /// The classes that the adapter brings.
    brings: Vec<Arc<Class>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Back,
    Forth,
}

/// Result of moving a class to the end of a way.
#[derive(Debug)]
enum Arrived {
    Class(Box<Class>),
    /// All its shots came from adapters that were taken out.
    Empty,
    /// An adapter on the way changes the features, and has no drift map.
    Lost,
}

/// An error of the stored data of a layer.
#[derive(Debug, Error)]
pub(super) enum LayerError {
    #[error(transparent)]
    File(#[from] AdapterFileError),
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
}

impl Layer {
    /// Creates the layer of an adapter from the learners before and after it.
    pub(super) fn new(file: &[u8], before: &Learner, after: &Learner) -> Self {
        Self { file: file.to_vec(), undo: Undo::between(before, after) }
    }

    /// Takes this layer, which must be the uppermost, out of `now`.
    ///
    /// # Errors
    ///
    /// [`LayerError`]
    pub(super) fn off(&self, now: &Learner) -> Result<Back, LayerError> {
        self.undo.apply(now, &Way::new([self], [])?)
    }
}

impl Way {
    /// Creates a way back through layers, given from the top down, then forth through others, given
    /// from the bottom up.
    ///
    /// # Errors
    ///
    /// [`LayerError`]
    pub(super) fn new<'a>(
        back: impl IntoIterator<Item = &'a Layer>,
        forth: impl IntoIterator<Item = &'a Layer>,
    ) -> Result<Self, LayerError> {
        let back = back.into_iter().map(|layer| Step::new(Direction::Back, layer));
        let forth = forth.into_iter().map(|layer| Step::new(Direction::Forth, layer));
        Ok(Self(back.chain(forth).collect::<Result<_, _>>()?))
    }

    /// Moves a class to the end of the way. Removes the shots of adapters that are taken out, and
    /// adds those of adapters that come into use again.
    fn go(&self, class: &Class) -> Result<Arrived, StatisticsError> {
        let is_affected = |step: &Step| {
            let stays = self
                .0
                .iter()
                .any(|other| other.direction != step.direction && other.sha256 == step.sha256);
            !stays && (class.has_shots_of(&step.sha256) || step.brings(class).is_some())
        };
        let affected = self.0.iter().any(is_affected);
        let mut gone = Some(class.clone());
        // In a class written by an older program, the shots of adapters are unknown: it keeps them,
        // and gets no more.
        let mut told_apart = true;
        let mut taken_out = Vec::new();
        for step in &self.0 {
            if step.direction == Direction::Back && affected {
                if class.has_shots_of(&step.sha256) {
                    taken_out.push(step.sha256);
                } else if step.brings(class).is_some() {
                    told_apart = false;
                }
                gone = match gone {
                    Some(class) => class.taken_out(&step.sha256)?,
                    None => None,
                };
            }
            gone = match (gone, &step.adapter.task, &step.adapter.drift) {
                (None, ..) => None,
                (Some(class), None, _) => Some(class),
                (Some(_), Some(_), None) => return Ok(Arrived::Lost),
                (Some(class), _, Some(drift)) => Some(match step.direction {
                    Direction::Back => class.moved(|mode| drift.transport_back(mode))?,
                    Direction::Forth => class.moved(|mode| drift.transport(mode))?,
                }),
            };
            if step.direction == Direction::Forth
                && affected
                && (told_apart || taken_out.contains(&step.sha256))
                && let Some(brought) = step.brings(class)
            {
                gone = Some(if let Some(class) = gone {
                    class.joined(brought, step.sha256)?
                } else {
                    let brought = brought.brought_by(step.sha256);
                    Class { name: class.name.clone(), ..brought }
                });
            }
        }
        Ok(gone.map_or(Arrived::Empty, |class| Arrived::Class(Box::new(class))))
    }
}

impl Step {
    fn new(direction: Direction, layer: &Layer) -> Result<Self, LayerError> {
        let (adapter, sha256) = decode_adapter(&layer.file)?;
        let brings = adapter.summary.to_classes()?;
        Ok(Self { direction, adapter, sha256, brings })
    }

    /// Returns what the adapter brings to a class, as a class.
    fn brings(&self, class: &Class) -> Option<&Class> {
        let key = class.name.key();
        self.brings.iter().find(|brought| brought.name.key() == key).map(AsRef::as_ref)
    }
}

impl Undo {
    /// Creates the data that leads from `after` back to `before`.
    pub(super) fn between(before: &Learner, after: &Learner) -> Self {
        let touched = |change: fmlora_learner::Change| Touched {
            before: change.before.map(|class| (*class).clone()),
            after: change.after.map(|class| Print::of(&class)),
        };
        Self {
            adapter: before.adapter().map(|state| (**state).clone()),
            touched: difference(before, after).changes.into_iter().map(touched).collect(),
        }
    }

    /// Returns the classes as they were.
    pub(super) fn classes(&self) -> impl Iterator<Item = &Class> {
        self.touched.iter().filter_map(|touched| touched.before.as_ref())
    }

    /// Like [`Undo::classes`], but mutable.
    pub(super) fn classes_mut(&mut self) -> impl Iterator<Item = &mut Class> {
        self.touched.iter_mut().filter_map(|touched| touched.before.as_mut())
    }

    /// Undoes the switch in `now`. Classes taught since then are moved along `way`.
    ///
    /// # Errors
    ///
    /// [`LayerError::Statistics`] if statistics cannot be moved.
    pub(super) fn apply(&self, now: &Learner, way: &Way) -> Result<Back, LayerError> {
        let found = self.untouched(now);
        let mut known = Vec::new();
        let mut lost = Vec::new();
        for (class, found) in now.classes().zip(found) {
            match found.map(|i| &self.touched[i].before) {
                Some(Some(old)) => {
                    known.push(Arc::new(Class { name: class.name.clone(), ..old.clone() }));
                }
                Some(None) => {}
                None => match way.go(class)? {
                    Arrived::Class(class) => known.push(Arc::from(class)),
                    Arrived::Empty => {}
                    Arrived::Lost => lost.push(class.name.to_string()),
                },
            }
        }
        let names: HashSet<String> = now.classes().map(|class| class.name.key()).collect();
        let dropped = self.touched.iter().filter(|touched| touched.after.is_none());
        let dropped = dropped.filter_map(|touched| touched.before.as_ref());
        let dropped = dropped.filter(|class| !names.contains(&class.name.key()));
        known.extend(dropped.cloned().map(Arc::new));
        Ok(Back { learner: learner_of(now.d_feature(), known, self.adapter.clone()), lost })
    }

    /// Returns, for each class of `now`, the index of the touched class that it still is,
    /// unchanged: under the same name, or else under a new one.
    fn untouched(&self, now: &Learner) -> Vec<Option<usize>> {
        let prints: Vec<Print> = now.classes().map(|class| Print::of(class)).collect();
        let names: HashSet<&str> = prints.iter().map(|print| print.key.as_str()).collect();
        let mut taken = vec![false; self.touched.len()];
        let mut found = vec![None; prints.len()];
        for renamed in [false, true] {
            for (print, found) in prints.iter().zip(&mut found).filter(|(_, f)| f.is_none()) {
                let same = |i: &usize| {
                    let after = self.touched[*i].after.as_ref().filter(|_| !taken[*i]);
                    after.is_some_and(|after| {
                        let name = if renamed {
                            !names.contains(&*after.key)
                        } else {
                            after.key == print.key
                        };
                        name && after.sha256 == print.sha256
                    })
                };
                *found = (0..taken.len()).find(same);
                if let Some(i) = *found {
                    taken[i] = true;
                }
            }
        }
        found
    }
}

impl Print {
    fn of(class: &Class) -> Self {
        Self { key: class.name.key(), sha256: fingerprint(class) }
    }
}

#[cfg(test)]
mod tests {
    use fmlora_learner::ClassName;

    use super::*;

    fn class(name: &str, numbers: &[f32]) -> Arc<Class> {
        let shots: Vec<Vec<f32>> = numbers.iter().map(|&x| vec![x, 1.0 - x]).collect();
        let name = ClassName::new(name).expect("a name");
        Arc::new(Class::from_shots(name, &shots).expect("shots"))
    }

    fn knows<const N: usize>(classes: [&Arc<Class>; N]) -> Learner {
        learner_of(2, classes.map(Arc::clone), None)
    }

    /// Takes the update from `before` to `after` out of `now`, and returns the classes that are
    /// left.
    fn back<const N: usize>(
        before: &Learner,
        after: &Learner,
        now: [&Arc<Class>; N],
    ) -> Vec<Class> {
        let undo = Undo::between(before, after);
        let back = undo.apply(&knows(now), &Way(Vec::new())).expect("sound statistics");
        assert!(back.lost.is_empty());
        back.learner.classes().map(|class| (**class).clone()).collect()
    }

    /// Classes in the order of a learner, by name.
    fn are<const N: usize>(classes: [&Arc<Class>; N]) -> [Class; N] {
        classes.map(|class| (**class).clone())
    }

    #[test]
    fn untouched_classes_are_restored_and_all_others_stay() {
        let cup = class("cup", &[0.1, 0.2]);
        let pen = class("pen", &[0.7, 0.8]);
        let joined = class("cup", &[0.1, 0.2, 0.3]);
        let tree = class("tree", &[0.5]);
        let before = knows([&cup, &pen]);
        let after = knows([&joined, &pen, &tree]);
        assert_eq!(back(&before, &after, [&joined, &pen, &tree]), are([&cup, &pen]));
        // Renamed, forgotten, new.
        let named_mug = |class: &Class| {
            let name = ClassName::new("mug").expect("a name");
            Arc::new(Class { name, ..class.clone() })
        };
        let mug = named_mug(&joined);
        let new = class("new", &[0.4]);
        assert_eq!(back(&before, &after, [&mug, &new, &tree]), are([&named_mug(&cup), &new]));
        // Taught since then, and so is a class that the adapter brought.
        let taught = class("tree", &[0.5, 0.6]);
        assert_eq!(back(&before, &after, [&joined, &pen, &taught]), are([&cup, &pen, &taught]));
    }

    #[test]
    fn two_classes_of_the_same_shots_are_told_apart_by_their_names() {
        let [cup, mug] = ["cup", "mug"].map(|name| class(name, &[0.1, 0.2]));
        let [cup_after, mug_after] = ["cup", "mug"].map(|name| class(name, &[0.3, 0.4]));
        let before = knows([&cup, &mug]);
        let after = knows([&cup_after, &mug_after]);
        assert_eq!(back(&before, &after, [&mug_after, &cup_after]), are([&cup, &mug]));
        // A copy that was taught under a third name is neither of the two.
        let third = class("third", &[0.3, 0.4]);
        let left = back(&before, &after, [&cup_after, &mug_after, &third]);
        assert_eq!(left, are([&cup, &mug, &third]));
    }

    #[test]
    fn what_the_update_dropped_comes_back_unless_its_name_is_taken() {
        let cup = class("cup", &[0.1]);
        let tree = class("tree", &[0.5]);
        let before = knows([&cup]);
        let after = knows([&tree]);
        assert_eq!(back(&before, &after, [&tree]), are([&cup]));
        let again = class("cup", &[0.9]);
        assert_eq!(back(&before, &after, [&again, &tree]), are([&again]));
    }
}
