//! Stack of adapters in use, with the way back through the switches that brought them.
//!
//! Each adapter in use keeps the number of the switch that brought it and, if it replaced an older
//! release, the former adapters from its position on. A rollback undoes the switch with the largest
//! number: the adapter that it brought is removed, and those that it replaced are in use again,
//! with all their own data for rollbacks.

use fmlora_learner::{Class, Learner};
use serde::{Deserialize, Serialize};

use super::layers::{Back, Layer, LayerError, Undo, Way};
use super::offer::Offered;
use super::place::Place;
use super::record::InUse;
use super::{UpdateError, kept_wrong};
use crate::store::Parts;

/// Maximum number of adapters in use that can be taken out. Older ones stay for good.
const DEPTH: usize = 8;

/// Maximum number of adapter files kept for rollbacks, including those of replaced adapters.
const FILES: usize = 2 * DEPTH;

/// Adapters in use, the oldest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Stack(Vec<Used>);

/// An adapter in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Used {
    offered: Offered,
    /// Time at which it came into use, in seconds since 1970 by the device's clock.
    since: i64,
    /// Number of the switch that brought it.
    switch: u64,
    /// Data to take it out again; `None` if it stays for good.
    layer: Option<Layer>,
    before: Before,
}

/// Former content of an adapter's position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Before {
    Nothing,
    Older(Older),
    /// It was too long ago, or is restored together with an adapter beneath.
    Forgotten,
}

/// A replaced older release and the adapters on top of it, with the data to restore them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Older {
    used: Vec<Used>,
    undo: Undo,
}

/// A switch: an adapter that comes into use, and the learners before and after it.
pub(super) struct Switch<'a> {
    pub(super) offered: &'a Offered,
    pub(super) file: &'a [u8],
    pub(super) place: Place,
    /// Seconds since 1970.
    pub(super) at: i64,
    /// The learner before the switch.
    pub(super) now: &'a Learner,
    /// The learner without the adapters that are taken out for the switch.
    pub(super) ground: &'a Learner,
    /// The learner with the adapter on `ground`, then with each of the adapters on top of it.
    pub(super) steps: &'a [Learner],
}

/// Parts that adapters brought to the classes of a stack, by the keys of the class names. They are
/// stored beside the stack, so that its format stays the same.
pub(super) type StackParts = Vec<(String, Parts)>;

impl Stack {
    /// Returns the parts that adapters brought to the classes in the stack.
    pub(super) fn parts(&self) -> StackParts {
        let part = |class: &Class| Some((class.name.key(), Parts::of(class)?));
        let mut parts: StackParts = classes(&self.0).into_iter().filter_map(part).collect();
        parts.sort_by(|(a, _), (b, _)| a.cmp(b));
        parts.dedup();
        parts
    }

    /// Returns the stack with these parts of its classes.
    pub(super) fn with_parts(mut self, parts: &StackParts) -> Self {
        for class in classes_mut(&mut self.0) {
            let key = class.name.key();
            for (_, parts) in parts.iter().filter(|(of, _)| *of == key) {
                *class = parts.clone().attached_to(class.clone());
            }
        }
        self
    }

    /// Returns a summary of the adapters in use.
    pub(super) fn in_use(&self) -> Vec<InUse> {
        let known = |used: &Used| InUse {
            offered: used.offered.clone(),
            since: used.since,
            removable: used.layer.is_some(),
        };
        self.0.iter().map(known).collect()
    }

    /// Returns the position of the adapter of the last switch.
    fn last(&self) -> Option<usize> {
        (0..self.0.len()).max_by_key(|&i| self.0[i].switch)
    }

    /// Returns the adapter of the last switch, if that can be undone.
    pub(super) fn newest(&self) -> Option<&Offered> {
        let used = &self.0[self.last()?];
        let can = used.layer.is_some() && !matches!(used.before, Before::Forgotten);
        can.then_some(&used.offered)
    }

    /// Returns the layers of the adapter in that position and of those on top of it.
    pub(super) fn layers_from(&self, place: usize) -> Vec<&Layer> {
        self.0.iter().skip(place).filter_map(|used| used.layer.as_ref()).collect()
    }

    /// Returns the layer of the adapter in that position; `None` if it stays for good.
    pub(super) fn layer(&self, place: usize) -> Option<&Layer> {
        self.0.get(place)?.layer.as_ref()
    }

    /// Takes the adapter in that position and those on top of it out of `now`.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Kept`]
    pub(super) fn without(&self, place: usize, now: &Learner) -> Result<Back, UpdateError> {
        let mut back = Back { learner: now.clone(), lost: Vec::new() };
        for used in self.0.iter().skip(place).rev() {
            let Some(layer) = &used.layer else { continue };
            let next = layer.off(&back.learner).map_err(|e| kept_wrong(&used.offered, &e))?;
            back.learner = next.learner;
            back.lost.extend(next.lost);
        }
        Ok(back)
    }

    /// Returns the stack after a switch.
    pub(super) fn after(&self, switch: &Switch<'_>) -> Self {
        let (beneath, above) = self.0.split_at(switch.place.beneath.min(self.0.len()));
        let new = Used {
            offered: switch.offered.clone(),
            since: switch.at,
            switch: 1 + self.0.iter().map(|used| used.switch).max().unwrap_or(0),
            layer: None,
            before: Before::Nothing,
        };
        let older = |(used, last): (&[Used], &Learner)| {
            Before::Older(Older { used: used.to_vec(), undo: Undo::between(switch.now, last) })
        };
        let before =
            switch.steps.last().map(|last| (above, last)).filter(|_| switch.place.replaces);
        let new = Used { before: before.map_or(Before::Nothing, older), ..new };
        let mut used = beneath.to_vec();
        let mut ground = switch.ground;
        let others = above.iter().skip(1).filter_map(|other| {
            // Adapters that it replaced are restored together with the adapter that is replaced
            // now.
            let before = Before::Forgotten;
            Some((&*other.layer.as_ref()?.file, Used { before, layer: None, ..other.clone() }))
        });
        for ((file, one), next) in
            std::iter::once((switch.file, new)).chain(others).zip(switch.steps)
        {
            let layer = Some(Layer::new(file, ground, next));
            used.push(Used { layer, ..one });
            ground = next;
        }
        let mut stack = Self(used);
        stack.forget_the_oldest();
        stack
    }

    /// Returns the stack after withdrawn adapters were taken out. It keeps the adapters below
    /// `lowest` and those in the positions `kept`. `steps` are the learner below, then with each of
    /// the kept adapters. Rollbacks to an adapter in `out` are forgotten.
    pub(super) fn without_withdrawn(
        &self,
        lowest: usize,
        kept: &[usize],
        steps: &[Learner],
        out: &[Offered],
    ) -> Self {
        let mut used = self.0[..lowest.min(self.0.len())].to_vec();
        let above = kept.iter().filter_map(|&i| self.0.get(i));
        for (above, known) in above.zip(steps.windows(2)) {
            let Some(layer) = &above.layer else { continue };
            let layer = Some(Layer::new(&layer.file, &known[0], &known[1]));
            let before = match above.before {
                Before::Nothing => Before::Nothing,
                // It lay on an adapter that is gone.
                Before::Older(_) | Before::Forgotten => Before::Forgotten,
            };
            used.push(Used { layer, before, ..above.clone() });
        }
        for used in &mut used {
            if used.leads_back_to(out) {
                used.before = Before::Forgotten;
            }
        }
        Self(used)
    }

    /// Returns learner and stack before the last switch; `None` if that cannot be undone. Classes
    /// taught since then stay.
    ///
    /// # Errors
    ///
    /// [`LayerError`]
    pub(super) fn before(&self, now: &Learner) -> Result<Option<(Back, Self)>, LayerError> {
        let Some(i) = self.last().filter(|_| self.newest().is_some()) else { return Ok(None) };
        let mut stack = self.0[..i].to_vec();
        let since = self.layers_from(i).into_iter().rev();
        let back = match &self.0[i] {
            Used { before: Before::Older(older), .. } => {
                stack.extend_from_slice(&older.used);
                let forth = older.used.iter().filter_map(|used| used.layer.as_ref());
                older.undo.apply(now, &Way::new(since, forth)?)?
            }
            // Nothing lies on it: an adapter on top would have come by a later switch.
            Used { layer: Some(layer), .. } => layer.off(now)?,
            Used { layer: None, .. } => return Ok(None),
        };
        Ok(Some((back, Self(stack))))
    }

    /// Limits the size of the stack. A rollback to a forgotten state is no longer possible.
    fn forget_the_oldest(&mut self) {
        let spare = self.0.len().saturating_sub(DEPTH);
        for used in &mut self.0[..spare] {
            used.layer = None;
            used.before = Before::Forgotten;
        }
        while n_files(&self.0) > FILES
            && let Some(switch) = oldest(&self.0)
        {
            forget(&mut self.0, switch);
        }
    }
}

impl Used {
    /// Returns true if a rollback from it brings one of these into use again.
    fn leads_back_to(&self, out: &[Offered]) -> bool {
        let older = self.older();
        older.iter().any(|used| out.contains(&used.offered) || used.leads_back_to(out))
    }

    fn older(&self) -> &[Self] {
        match &self.before {
            Before::Older(older) => &older.used,
            Before::Nothing | Before::Forgotten => &[],
        }
    }
}

/// Returns all stored classes of the states before these adapters.
fn classes(used: &[Used]) -> Vec<&Class> {
    let mut all = Vec::new();
    for used in used {
        all.extend(used.layer.iter().flat_map(|layer| layer.undo.classes()));
        if let Before::Older(older) = &used.before {
            all.extend(older.undo.classes());
            all.extend(classes(&older.used));
        }
    }
    all
}

/// Like [`classes`], but mutable.
fn classes_mut(used: &mut [Used]) -> Vec<&mut Class> {
    let mut all = Vec::new();
    for used in used {
        all.extend(used.layer.iter_mut().flat_map(|layer| layer.undo.classes_mut()));
        if let Before::Older(older) = &mut used.before {
            all.extend(older.undo.classes_mut());
            all.extend(classes_mut(&mut older.used));
        }
    }
    all
}

fn n_files(used: &[Used]) -> usize {
    used.iter().map(|used| usize::from(used.layer.is_some()) + n_files(used.older())).sum()
}

/// Returns the number of the first switch that replaced something, among these and those before
/// them.
fn oldest(used: &[Used]) -> Option<u64> {
    let replaced = used.iter().filter(|used| matches!(used.before, Before::Older(_)));
    replaced.map(|used| oldest(used.older()).unwrap_or(used.switch).min(used.switch)).min()
}

/// Forgets the adapters that the switch replaced.
fn forget(used: &mut [Used], switch: u64) {
    for used in used {
        if let Before::Older(older) = &mut used.before {
            if used.switch == switch {
                used.before = Before::Forgotten;
            } else {
                forget(&mut older.used, switch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(name: &str, release: u64) -> Offered {
        Offered::example(name, release)
    }

    impl Stack {
        /// Returns the stack after a switch that leaves the learner as it is.
        fn with(&self, name: &str, release: u64, place: Place) -> Self {
            let nothing = Learner::new(2);
            let above = self.0.len() - place.beneath;
            let steps = vec![nothing.clone(); above.max(1)];
            self.after(&Switch {
                offered: &offered(name, release),
                file: &[release as u8],
                place,
                at: 0,
                now: &nothing,
                ground: &nothing,
                steps: &steps,
            })
        }

        fn on_top(&self, name: &str, release: u64) -> Self {
            self.with(name, release, Place { beneath: self.0.len(), replaces: false })
        }

        fn instead(&self, beneath: usize, name: &str, release: u64) -> Self {
            self.with(name, release, Place { beneath, replaces: true })
        }

        /// Targets in use, from the bottom up.
        fn targets(&self) -> Vec<String> {
            self.0.iter().map(|used| used.offered.target.clone()).collect()
        }
    }

    #[test]
    fn what_is_replaced_beneath_others_leaves_them_and_is_the_last_switch() {
        let both = Stack::default().on_top("birds", 1).on_top("tools", 2);
        assert_eq!(both.newest(), Some(&offered("tools", 2)));
        let newer = both.instead(0, "birds", 3);
        assert_eq!(newer.targets(), ["birds-3.fmla", "tools-2.fmla"]);
        assert_eq!(newer.newest(), Some(&offered("birds", 3)));
        assert_eq!(newer.0[0].older(), both.0);
        assert_eq!(newer.instead(1, "tools", 4).newest(), Some(&offered("tools", 4)));
        assert_eq!(newer.layers_from(0).len(), 2);
        assert_eq!(Stack::default().newest(), None);
    }

    #[test]
    fn the_oldest_stay_for_good() {
        let stack = (0..10).fold(Stack::default(), |stack, i| stack.on_top(&format!("a{i}"), i));
        let removable: Vec<bool> = stack.in_use().iter().map(|used| used.removable).collect();
        assert_eq!(removable, [[false; 2].as_slice(), &[true; DEPTH]].concat());
    }

    #[test]
    fn so_many_files_are_kept_and_the_oldest_is_forgotten_first() {
        let mut stack = Stack::default().on_top("birds", 0).on_top("tools", 0);
        for release in 1..20 {
            stack = stack.instead(0, "birds", release);
            assert!(n_files(&stack.0) <= FILES, "{release}");
        }
        // Each of these switches keeps two files.
        let mut way = 0;
        let mut used = &stack.0[..];
        while let Some(Used { before: Before::Older(older), .. }) = used.first() {
            used = &older.used;
            way += 1;
        }
        assert_eq!(way, FILES / 2 - 1);
        assert_eq!(used[0].offered, offered("birds", 19 - way as u64));
        assert!(matches!(used[0].before, Before::Forgotten));
    }
}
