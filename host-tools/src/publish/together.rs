//! Warnings about adapters of a repository that no device can use together, or that bring the same
//! class, so that shots add up.
//!
//! An adapter begins with one feature space and leads to another, or keeps it. A device takes the
//! adapters that begin with its current feature space, the smallest release first. An adapter that
//! begins with a feature space that the device has left is of no use to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use fmlora_learner::format::{AdapterFile, decode_adapter};
use fmlora_learner::{BaseId, FeatureSpaceId};
use tough::schema::Targets;

use super::offers::{Published, published};
use super::repository::target_file;

/// Names of an adapter's classes, by class key.
type Brought = BTreeMap<String, String>;

/// The adapters of a repository.
pub(super) struct Together<'a> {
    pub(super) folder: &'a Path,
    pub(super) targets: &'a Targets,
    /// Name and content of a target that is not in the folder yet.
    pub(super) new: Option<(&'a str, &'a AdapterFile)>,
}

impl Together<'_> {
    /// Returns all warnings.
    pub(super) fn warnings(&self) -> Result<Vec<String>> {
        let mut audiences: BTreeMap<(String, String), Vec<Published>> = BTreeMap::new();
        for adapter in published(self.targets)?.into_iter().filter(|p| p.withdrawn.is_none()) {
            let audience = (adapter.offer.channel.clone(), adapter.offer.base_id.to_string());
            audiences.entry(audience).or_default().push(adapter);
        }
        let mut all = Vec::new();
        for adapters in audiences.values() {
            all.extend(apart(adapters));
            all.extend(self.brought_twice(adapters));
        }
        Ok(all)
    }

    /// Warns of classes that adapters of different names bring: their shots add up on devices that
    /// take both. Warns also of adapters that cannot be read.
    fn brought_twice(&self, adapters: &[Published]) -> Vec<String> {
        let newest = newest(adapters);
        let classes: Vec<Option<Brought>> =
            newest.iter().map(|adapter| self.classes_of(adapter)).collect();
        let mut warnings = Vec::new();
        for (i, adapter) in newest.iter().enumerate() {
            let Some(own) = &classes[i] else {
                warnings.push(format!(
                    "{}: its file cannot be read, so its classes are not known",
                    adapter.target
                ));
                continue;
            };
            for (other, theirs) in newest[..i].iter().zip(&classes) {
                let Some(theirs) =
                    theirs.as_ref().filter(|_| other.offer.name != adapter.offer.name)
                else {
                    continue;
                };
                let keys: BTreeSet<&String> =
                    own.keys().filter(|key| theirs.contains_key(*key)).collect();
                if keys.is_empty() {
                    continue;
                }
                let names: Vec<&str> = keys.into_iter().map(|key| own[key].as_str()).collect();
                warnings.push(format!(
                "{} and {} both bring {}: on devices that take both the shots add up; releases of one adapter have one name \
                 (train-adapter --name {}), and the next takes the place of the last",
                other.target,
                adapter.target,
                names.join(", "),
                other.offer.name
            ));
            }
        }
        warnings
    }

    /// Returns the classes of an adapter; `None` if its file is missing or damaged.
    fn classes_of(&self, adapter: &Published) -> Option<Brought> {
        let names = |file: &AdapterFile| {
            let classes = file.summary.classes.iter();
            classes.map(|class| (class.name.key(), class.name.to_string())).collect()
        };
        if let Some((_, file)) = self.new.filter(|(target, _)| *target == adapter.target) {
            return Some(names(file));
        }
        let file = target_file(self.folder, &adapter.target, &adapter.sha256);
        let (file, _) = decode_adapter(&std::fs::read(file).ok()?).ok()?;
        Some(names(&file))
    }
}

/// Warns of adapters that no device can use together with others of the same channel and base.
fn apart(adapters: &[Published]) -> Vec<String> {
    let Some(base) = adapters.first().map(|adapter| adapter.offer.base_id) else {
        return Vec::new();
    };
    let newest = newest(adapters);
    let roots = roots(base, adapters);
    let of_roots: Vec<Vec<&Published>> = roots.iter().map(|&root| taken(root, &newest)).collect();
    let mut warnings = Vec::new();
    for adapter in &newest {
        if of_roots.iter().flatten().any(|taken| taken.target == adapter.target) {
            continue;
        }
        let before = adapter.offer.feature_space_before;
        let left = of_roots.iter().flatten().find(|taken| {
            taken.offer.feature_space_before == before && taken.offer.feature_space_after != before
        });
        let why = match left {
            Some(left) => format!(
                "{} changes these features, and devices that have it cannot use {}",
                left.target, adapter.target
            ),
            None => format!(
                "no adapter that devices have when they come to {} leads there",
                adapter.target
            ),
        };
        warnings.push(format!(
            "{} begins with features {:.8}…, but {why}: train it --after what they have, or withdraw what is in its way",
            adapter.target,
            before.to_string()
        ));
    }
    warnings
}

/// Returns the newest release for each name and starting feature space, the smallest release first:
/// devices take no other.
fn newest(adapters: &[Published]) -> Vec<&Published> {
    let mut newest: BTreeMap<(String, String), &Published> = BTreeMap::new();
    for adapter in adapters {
        let offer = &adapter.offer;
        let line = (offer.name.to_string(), offer.feature_space_before.to_string());
        let best = newest.entry(line).or_insert(adapter);
        if offer.release > best.offer.release {
            *best = adapter;
        }
    }
    let mut newest: Vec<&Published> = newest.into_values().collect();
    newest.sort_by_key(|adapter| (adapter.offer.release, adapter.target.clone()));
    newest
}

/// Returns the feature spaces that devices may have before they take any of these adapters: that of
/// the base, and those to which no adapter leads, not even an older release.
fn roots(base: BaseId, adapters: &[Published]) -> Vec<FeatureSpaceId> {
    let mut roots = vec![base.feature_space()];
    for adapter in adapters {
        let before = adapter.offer.feature_space_before;
        let leads = |other: &Published| {
            let offer = &other.offer;
            offer.feature_space_before != before && offer.feature_space_after == before
        };
        if !roots.contains(&before) && !adapters.iter().any(leads) {
            roots.push(before);
        }
    }
    roots
}

/// Returns the adapters that a device takes, in order, if it begins with `features`.
fn taken<'a>(mut features: FeatureSpaceId, adapters: &[&'a Published]) -> Vec<&'a Published> {
    let mut left: Vec<&Published> = adapters.to_vec();
    let mut taken = Vec::new();
    while let Some(i) = left.iter().position(|next| next.offer.feature_space_before == features) {
        let next = left.remove(i);
        features = next.offer.feature_space_after;
        taken.push(next);
    }
    taken
}
