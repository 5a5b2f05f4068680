//! The learner: holds all classes, checks requests, and computes the operations that they cause.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thiserror::Error;

use crate::{
    AdapterChange, AdapterState, Change, Class, ClassName, Operation, OperationKind, Shots,
    StatisticsError,
};

/// Error of a refused operation. The state is unchanged.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LearnError {
    /// No class has this name.
    #[error("there is no class {name:?}{}", suggestion(.known))]
    NoSuchClass {
        /// The name asked for.
        name: String,
        /// Names that exist.
        known: Vec<String>,
    },
    /// The name is taken.
    #[error("class {name:?} exists already{}", spelt(.name, .existing))]
    Exists {
        /// The name asked for.
        name: String,
        /// Name of the existing class.
        existing: String,
    },
    /// One request names a class twice.
    #[error("{first:?} and {second:?} name the same class (case and Unicode form do not count)")]
    Twice {
        /// The first spelling.
        first: String,
        /// The second spelling.
        second: String,
    },
    /// The statistics of a class are invalid, or cannot be computed from its shots.
    #[error("class {name:?}: {source}")]
    Statistics {
        /// Name of the class.
        name: String,
        /// Cause.
        source: StatisticsError,
    },
}

fn suggestion(known: &[String]) -> String {
    match known.len() {
        0 => "; nothing was taught yet".to_owned(),
        1..=12 => format!("; known: {}", known.join(", ")),
        n => format!("; {n} others are known (see `classes`)"),
    }
}

fn spelt(name: &str, existing: &str) -> String {
    if name == existing { String::new() } else { format!(" as {existing:?}") }
}

/// All classes of a device, by [`ClassName::key`].
///
/// Operations are computed first and applied later. A store writes them in between, so that memory
/// is never ahead of the disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Learner {
    d_feature: usize,
    adapter: Option<Arc<AdapterState>>,
    classes: BTreeMap<String, Arc<Class>>,
}

impl Learner {
    /// Returns a learner without classes, for features of `d_feature` numbers.
    pub fn new(d_feature: usize) -> Self {
        Self { d_feature, adapter: None, classes: BTreeMap::new() }
    }

    /// Returns the length of a feature.
    pub fn d_feature(&self) -> usize {
        self.d_feature
    }

    /// Returns the adapter state of all tasks; `None` is the base without tasks.
    pub fn adapter(&self) -> Option<&Arc<AdapterState>> {
        self.adapter.as_ref()
    }

    /// Returns all classes, ordered by key.
    pub fn classes(&self) -> impl ExactSizeIterator<Item = &Arc<Class>> {
        self.classes.values()
    }

    /// Returns the class of a name, in any spelling.
    ///
    /// # Errors
    ///
    /// [`LearnError::NoSuchClass`] lists the names that exist.
    pub fn class(&self, name: &ClassName) -> Result<&Arc<Class>, LearnError> {
        self.classes.get(&name.key()).ok_or_else(|| LearnError::NoSuchClass {
            name: name.to_string(),
            known: self.classes.values().map(|c| c.name.to_string()).collect(),
        })
    }

    /// Adds shots to known or new classes; all of them or none. Each entry is one occasion of its
    /// class. Occasions of a class are added in order.
    ///
    /// # Errors
    ///
    /// [`LearnError::Twice`] if two entries spell one class differently, [`LearnError::Statistics`]
    /// if a shot does not fit.
    pub fn teach(
        &self,
        kind: OperationKind,
        shots: &[(ClassName, Shots)],
    ) -> Result<Operation, LearnError> {
        let names: BTreeSet<&str> = shots.iter().map(|(name, _)| name.as_str()).collect();
        let first = |name: &&str| shots.iter().find(|(n, _)| n.as_str() == *name);
        distinct(names.iter().filter_map(first).map(|(name, _)| name))?;
        let mut changes: Vec<Change> = Vec::with_capacity(names.len());
        for (name, shots) in shots {
            let fail = |source| LearnError::Statistics { name: name.to_string(), source };
            if let Some(odd) = shots.features.iter().find(|s| s.len() != self.d_feature) {
                let found = odd.len();
                let expected = self.d_feature;
                return Err(fail(StatisticsError::Length { found, expected }));
            }
            let is_of_class = |change: &&mut Change| {
                change.after.as_ref().is_some_and(|class| class.name.key() == name.key())
            };
            if let Some(Change { after: Some(class), .. }) =
                changes.iter_mut().find(|change| is_of_class(change))
            {
                *class = Arc::new(class.with_viewed(shots).map_err(fail)?);
                continue;
            }
            let before = self.classes.get(&name.key()).cloned();
            // A known class keeps its spelling.
            let after = match &before {
                Some(class) => class.with_viewed(shots),
                None => Class::from_viewed(name.clone(), shots),
            };
            changes.push(Change { before, after: Some(Arc::new(after.map_err(fail)?)) });
        }
        Ok(Operation { kind, changes, adapter: None })
    }

    /// Puts a trained network to use. `state` is its adapter state, `moved` are all classes known
    /// before the task with their statistics in the new features, and `shots` are the shots of the
    /// task in the new features. If the classes of the task already have statistics, these are
    /// computed again.
    ///
    /// # Errors
    ///
    /// As [`Learner::teach`], and [`LearnError::NoSuchClass`] if a class is neither among `moved`
    /// nor among `shots`.
    pub fn adapt(
        &self,
        state: AdapterState,
        moved: &[Arc<Class>],
        shots: &[(ClassName, Shots)],
    ) -> Result<Operation, LearnError> {
        let kind = OperationKind::Train;
        let after = Some(Arc::new(state));
        let mut next = Self { adapter: after.clone(), ..Self::new(self.d_feature) };
        next.classes.extend(moved.iter().map(|class| (class.name.key(), Arc::clone(class))));
        next.apply(&next.teach(kind, shots)?);
        for class in self.classes.values() {
            next.class(&class.name)?;
        }
        let change = |(key, class): (&String, &Arc<Class>)| Change {
            before: self.classes.get(key).cloned(),
            after: Some(Arc::clone(class)),
        };
        let changes = next.classes.iter().map(change).collect();
        let adapter = Some(AdapterChange { before: self.adapter.clone(), after });
        Ok(Operation { kind, changes, adapter })
    }

    /// Forgets a class. The remaining state equals one that never had it.
    ///
    /// # Errors
    ///
    /// [`LearnError::NoSuchClass`].
    pub fn forget(&self, name: &ClassName) -> Result<Operation, LearnError> {
        let before = Some(self.class(name)?.clone());
        let changes = vec![Change { before, after: None }];
        Ok(Operation { kind: OperationKind::Forget, changes, adapter: None })
    }

    /// Renames a class.
    ///
    /// # Errors
    ///
    /// [`LearnError::NoSuchClass`], or [`LearnError::Exists`] if another class has the new name.
    pub fn rename(&self, old: &ClassName, new: &ClassName) -> Result<Operation, LearnError> {
        let before = self.class(old)?.clone();
        let taken = self.classes.get(&new.key()).filter(|_| old.key() != new.key());
        if let Some(class) = taken {
            let name = new.to_string();
            let existing = class.name.to_string();
            return Err(LearnError::Exists { name, existing });
        }
        let after = Class { name: new.clone(), ..(*before).clone() };
        let changes = vec![Change { before: Some(before), after: Some(Arc::new(after)) }];
        Ok(Operation { kind: OperationKind::Rename, changes, adapter: None })
    }

    /// Imports classes of another state of the same feature space.
    ///
    /// # Errors
    ///
    /// [`LearnError::Exists`] for a name that is taken, unless `replace`; [`LearnError::Twice`];
    /// [`LearnError::Statistics`] if a class does not fit.
    pub fn import(&self, classes: Vec<Class>, replace: bool) -> Result<Operation, LearnError> {
        distinct(classes.iter().map(|class| &class.name))?;
        let mut changes = Vec::with_capacity(classes.len());
        for class in classes {
            let fail = |source| LearnError::Statistics { name: class.name.to_string(), source };
            class.check(self.d_feature).map_err(fail)?;
            let before = self.classes.get(&class.name.key()).cloned();
            if let Some(taken) = before.as_ref().filter(|_| !replace) {
                let name = class.name.to_string();
                let existing = taken.name.to_string();
                return Err(LearnError::Exists { name, existing });
            }
            changes.push(Change { before, after: Some(Arc::new(class)) });
        }
        Ok(Operation { kind: OperationKind::Import, changes, adapter: None })
    }

    /// Applies an operation.
    pub fn apply(&mut self, operation: &Operation) {
        if let Some(change) = &operation.adapter {
            self.adapter.clone_from(&change.after);
        }
        for change in &operation.changes {
            if let Some(before) = &change.before {
                self.classes.remove(&before.name.key());
            }
        }
        for change in &operation.changes {
            if let Some(after) = &change.after {
                self.classes.insert(after.name.key(), after.clone());
            }
        }
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a ClassName>) -> Result<(), LearnError> {
    let mut seen: BTreeMap<String, &ClassName> = BTreeMap::new();
    for name in names {
        if let Some(first) = seen.insert(name.key(), name) {
            let first = first.to_string();
            let second = name.to_string();
            return Err(LearnError::Twice { first, second });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ClassName {
        ClassName::new(text).expect("a name")
    }

    fn shots(class: &str, n: usize, value: f32) -> (ClassName, Shots) {
        (name(class), vec![vec![value; 4]; n].into())
    }

    #[test]
    fn a_training_computes_the_classes_of_its_task_anew_and_loses_none() {
        let mut learner = Learner::new(4);
        let known = learner.teach(OperationKind::Teach, &[shots("cup", 3, 0.1)]);
        learner.apply(&known.expect("sound shots"));
        let moved: Vec<Arc<Class>> = learner.classes().cloned().collect();
        let task = learner.teach(OperationKind::Learn, &[shots("plant", 5, 0.2)]);
        learner.apply(&task.expect("sound shots"));
        let taught = learner.clone();

        let empty = BTreeMap::new();
        let state = AdapterState { grams: empty.clone(), merged: empty, n_seen: 5, prompt: None };
        let operation = learner.adapt(state.clone(), &moved, &[shots("plant", 5, 0.3)]);
        let mut operation = operation.expect("every class is there");
        assert_eq!(operation.to_string(), "train the network (2 classes)");
        learner.apply(&operation);
        assert_eq!(learner.class(&name("plant")).expect("known").count(), 5);
        assert_eq!(learner.adapter().map(AsRef::as_ref), Some(&state));

        for change in &mut operation.changes {
            std::mem::swap(&mut change.before, &mut change.after);
        }
        let change = operation.adapter.as_mut().expect("a change of the network");
        std::mem::swap(&mut change.before, &mut change.after);
        learner.apply(&operation);
        assert_eq!(learner, taught);

        let lost = learner.adapt(state, &[], &[shots("plant", 5, 0.3)]);
        assert!(matches!(lost, Err(LearnError::NoSuchClass { name, .. }) if name == "cup"));
    }
}
