//! Adapters in use lie one on the other: what each of them did, so that it can be taken out again.
//!
//! A class that was not taught since is what it was, to the bit; one that the adapter brought is gone. A class that was
//! taught since keeps what was taught here, and loses what the adapter brought to it ([`Class::taken_out`]); classes of a
//! state that an older program wrote keep that as well. Its statistics are moved back by the inverse of the drift map. A
//! class that was forgotten since stays forgotten, a new name stays, and what the update itself had to drop comes back.

use std::collections::HashSet;
use std::sync::Arc;

use fmlora_learner::format::{AdapterFile, AdapterFileError, decode_adapter};
use fmlora_learner::{AdapterState, Class, Learner, StatisticsError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::difference::{difference, learner_of};
use crate::store::fingerprint;

/// An adapter in use, and what there was before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Layer {
    #[serde(with = "serde_bytes")]
    pub(super) file: Vec<u8>,
    pub(super) undo: Undo,
}

/// What a switch changed: what there was before, and how to find it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Undo {
    /// What tasks had left in the network.
    adapter: Option<AdapterState>,
    touched: Vec<Touched>,
}

/// A class that was changed, brought or dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Touched {
    before: Option<Class>,
    after: Option<Print>,
}

/// How a class is known again: one that still has its fingerprint was not taught since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Print {
    key: String,
    sha256: [u8; 32],
}

/// What is known after something was taken back.
#[derive(Debug)]
pub(super) struct Back {
    pub(super) learner: Learner,
    /// Classes that nothing tells how to move, and that are not among the others therefore.
    pub(super) lost: Vec<String>,
}

/// A way from the features of now to others.
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

/// A class at the end of a way.
#[derive(Debug)]
enum Arrived {
    Class(Box<Class>),
    /// All its shots came from adapters that were taken out.
    Empty,
    /// An adapter on the way changes features and does not say where they go.
    Lost,
}

/// Why what is kept cannot be used.
#[derive(Debug, Error)]
pub(super) enum LayerError {
    #[error(transparent)]
    File(#[from] AdapterFileError),
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
}

impl Layer {
    /// What came of an adapter.
    pub(super) fn new(file: &[u8], before: &Learner, after: &Learner) -> Self {
        Self { file: file.to_vec(), undo: Undo::between(before, after) }
    }

    /// What is known without it, which is the uppermost.
    ///
    /// # Errors
    ///
    /// [`LayerError`]
    pub(super) fn off(&self, now: &Learner) -> Result<Back, LayerError> {
        self.undo.apply(now, &Way::new([self], [])?)
    }
}

impl Way {
    /// Back through layers, given from the uppermost down, then forth through others, given upwards.
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

    /// Takes a class to the end of the way: without what adapters brought to it that are taken out, with what those bring
    /// that come into use again.
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
        // Of a class that an older program wrote, it is not known what adapters brought: it keeps that, and gets no more.
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

    /// What the adapter brings to a class.
    fn brings(&self, class: &Class) -> Option<&Class> {
        let key = class.name.key();
        self.brings.iter().find(|brought| brought.name.key() == key).map(AsRef::as_ref)
    }
}

impl Undo {
    /// What leads from `after` back to `before`.
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

    /// The classes as they were.
    pub(super) fn classes(&self) -> impl Iterator<Item = &Class> {
        self.touched.iter().filter_map(|touched| touched.before.as_ref())
    }

    /// The same, to be changed.
    pub(super) fn classes_mut(&mut self) -> impl Iterator<Item = &mut Class> {
        self.touched.iter_mut().filter_map(|touched| touched.before.as_mut())
    }

    /// What is known without what was done; classes taught since go the way.
    ///
    /// # Errors
    ///
    /// [`LayerError::Statistics`] if statistics cannot be moved.
    pub(super) fn apply(&self, now: &Learner, way: &Way) -> Result<Back, LayerError> {
        let found = self.untouched(now);
        let (mut known, mut lost) = (Vec::new(), Vec::new());
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

    /// For each class of now, which of those that were touched it still is: under its name, or else under a new one.
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

    /// What is left after the update from `before` to `after` is taken out of `now`.
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

    /// Classes by their names, as a learner has them.
    fn are<const N: usize>(classes: [&Arc<Class>; N]) -> [Class; N] {
        classes.map(|class| (**class).clone())
    }

    #[test]
    fn what_nobody_touched_is_what_it_was_and_everything_else_stays() {
        let (cup, pen) = (class("cup", &[0.1, 0.2]), class("pen", &[0.7, 0.8]));
        let (joined, tree) = (class("cup", &[0.1, 0.2, 0.3]), class("tree", &[0.5]));
        let (before, after) = (knows([&cup, &pen]), knows([&joined, &pen, &tree]));
        assert_eq!(back(&before, &after, [&joined, &pen, &tree]), are([&cup, &pen]));
        // Renamed, forgotten, new.
        let named_mug = |class: &Class| {
            let name = ClassName::new("mug").expect("a name");
            Arc::new(Class { name, ..class.clone() })
        };
        let (mug, new) = (named_mug(&joined), class("new", &[0.4]));
        assert_eq!(back(&before, &after, [&mug, &new, &tree]), are([&named_mug(&cup), &new]));
        // Taught since, the brought one too.
        let taught = class("tree", &[0.5, 0.6]);
        assert_eq!(back(&before, &after, [&joined, &pen, &taught]), are([&cup, &pen, &taught]));
    }

    #[test]
    fn two_classes_of_the_same_shots_are_told_apart_by_their_names() {
        let [cup, mug] = ["cup", "mug"].map(|name| class(name, &[0.1, 0.2]));
        let [cup_after, mug_after] = ["cup", "mug"].map(|name| class(name, &[0.3, 0.4]));
        let (before, after) = (knows([&cup, &mug]), knows([&cup_after, &mug_after]));
        assert_eq!(back(&before, &after, [&mug_after, &cup_after]), are([&cup, &mug]));
        // A copy that was taught under a third name is none of them.
        let third = class("third", &[0.3, 0.4]);
        let left = back(&before, &after, [&cup_after, &mug_after, &third]);
        assert_eq!(left, are([&cup, &mug, &third]));
    }

    #[test]
    fn what_the_update_dropped_comes_back_unless_its_name_is_taken() {
        let (cup, tree) = (class("cup", &[0.1]), class("tree", &[0.5]));
        let (before, after) = (knows([&cup]), knows([&tree]));
        assert_eq!(back(&before, &after, [&tree]), are([&cup]));
        let again = class("cup", &[0.9]);
        assert_eq!(back(&before, &after, [&again, &tree]), are([&again]));
    }
}
