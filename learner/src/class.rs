//! A class: its name and its modes.
//!
//! A class may consist of things that look different: a dog photographed and a dog drawn, a hammer
//! and a saw of a class "tool". Each of these modes has statistics of its own, and the score of the
//! class is that of its nearest mode. Ours. A new mode depends on the shots of its class alone, so
//! that forgetting another class changes nothing here. On CIFAR-100's twenty superclasses, taught
//! kind by kind, modes are worth 1.6, 2.9 and 4.0 points at 20, 60 and 200 shots a kind
//! (docs/method.md).

use serde::{Deserialize, Serialize};

use crate::{ClassName, ClassStatistics, Occasion, Shots, StatisticsError};

/// A class: its name and its statistics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Name as displayed.
    pub name: ClassName,
    /// Count, mean and scatter of the shots of each mode, the oldest mode first. Never empty.
    pub modes: Vec<ClassStatistics>,
    /// The modes taught here and those brought by adapters, apart. `None` if no adapter brought
    /// any. A device stores this beside the class; files do not contain it.
    #[serde(skip)]
    pub parts: Option<Box<ClassParts>>,
}

/// The parts of a class's modes: [`ClassParts::own`], then the parts of adapters, which are joined
/// to it in their order. Removing one part gives the same class, to the bit, as if that part had
/// never been added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassParts {
    /// Modes of the shots taught here, in the order of [`Class::modes`]. Empty if there are none.
    pub own: Vec<ClassStatistics>,
    /// Modes brought by adapters, the oldest first. Never empty.
    pub brought: Vec<Brought>,
}

/// Modes that one adapter brought to a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brought {
    /// SHA-256 of the adapter's content.
    pub adapter: [u8; 32],
    /// The modes.
    pub modes: Vec<ClassStatistics>,
}

/// Least squared distance of two means, as a share of the variance within, for them to be two
/// modes. Halves of one class of CIFAR-100 stay under .02; half of the pairs of classes of one
/// superclass are further apart than .28.
const GAP: f64 = 0.1;

/// Least number of shots, taught together, that can make a new mode.
const FOUNDERS: u32 = 5;

/// Largest number of modes of a class. Beyond it, shots join the nearest mode.
pub const MAX_MODES: usize = 8;

impl Class {
    /// Creates a class from its first shots.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if there are no shots, or if one does not fit.
    pub fn from_shots(name: ClassName, shots: &[Vec<f32>]) -> Result<Self, StatisticsError> {
        Self::from_viewed(name, &Shots::from(shots.to_vec()))
    }

    /// Creates a class from its first shots and their views: see [`Class::from_shots`].
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if there are no shots, or if one does not fit.
    pub fn from_viewed(name: ClassName, shots: &Shots) -> Result<Self, StatisticsError> {
        Ok(Self { name, modes: vec![shots.statistics()?], parts: None })
    }

    /// Returns the class with more shots, which were taught together. They join the nearest mode,
    /// or make a new one if they are far enough from all modes.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if there are no shots, or if one does not fit.
    pub fn with_shots(&self, shots: &[Vec<f32>]) -> Result<Self, StatisticsError> {
        self.with_viewed(&Shots::from(shots.to_vec()))
    }

    /// Returns the class with more shots and their views: see [`Class::with_shots`].
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if there are no shots, or if one does not fit.
    pub fn with_viewed(&self, shots: &Shots) -> Result<Self, StatisticsError> {
        let Some(parts) = &self.parts else {
            let modes = modes_with_shots(&self.modes, shots)?;
            return Ok(Self { modes, ..self.clone() });
        };
        let own = if parts.own.is_empty() {
            vec![shots.statistics()?]
        } else {
            modes_with_shots(&parts.own, shots)?
        };
        self.of_parts(own, parts.brought.clone())
    }

    /// Returns the index of the mode with the mean nearest to a point.
    pub fn nearest_mode(&self, point: &[f32]) -> usize {
        nearest_mode(&self.modes, point)
    }

    /// Returns the class with the modes that an adapter brings. Each of them joins its nearest
    /// mode, or stays a mode of its own if it is far enough from all. `adapter` is the SHA-256 of
    /// the adapter's content.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if the two classes do not fit together.
    pub fn joined(&self, brought: &Self, adapter: [u8; 32]) -> Result<Self, StatisticsError> {
        let (own, mut parts) = match &self.parts {
            Some(parts) => (parts.own.clone(), parts.brought.clone()),
            None => (self.modes.clone(), Vec::new()),
        };
        parts.push(Brought { adapter, modes: brought.modes.clone() });
        self.of_parts(own, parts)
    }

    /// Marks all modes of this class as brought by an adapter. For a class that the device does not
    /// know yet.
    #[must_use]
    pub fn brought_by(&self, adapter: [u8; 32]) -> Self {
        let brought = vec![Brought { adapter, modes: self.modes.clone() }];
        let parts = Some(Box::new(ClassParts { own: Vec::new(), brought }));
        Self { parts, ..self.clone() }
    }

    /// Returns the class without the modes that an adapter brought. `None` if no mode is left. The
    /// class is unchanged if the adapter is not recorded as one that brought shots of it.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if the sums are out of range.
    pub fn taken_out(&self, adapter: &[u8; 32]) -> Result<Option<Self>, StatisticsError> {
        let Some(parts) = self.parts.as_deref().filter(|_| self.has_shots_of(adapter)) else {
            return Ok(Some(self.clone()));
        };
        let mut brought = parts.brought.clone();
        brought.retain(|brought| brought.adapter != *adapter);
        if brought.is_empty() && parts.own.is_empty() {
            return Ok(None);
        }
        self.of_parts(parts.own.clone(), brought).map(Some)
    }

    /// Returns true if the adapter is recorded as one that brought shots of this class.
    pub fn has_shots_of(&self, adapter: &[u8; 32]) -> bool {
        let brought = self.parts.iter().flat_map(|parts| &parts.brought);
        brought.into_iter().any(|brought| brought.adapter == *adapter)
    }

    /// Builds the class from its parts: each brought mode joins its nearest mode, or stays one of
    /// its own.
    fn of_parts(
        &self,
        own: Vec<ClassStatistics>,
        brought: Vec<Brought>,
    ) -> Result<Self, StatisticsError> {
        let mut modes = own.clone();
        for new in brought.iter().flat_map(|brought| &brought.modes) {
            if modes.is_empty() {
                modes.push(new.clone());
            } else {
                modes = with_mode(&modes, new, |mode| mode.merged(new))?;
            }
        }
        let parts = (!brought.is_empty()).then(|| Box::new(ClassParts { own, brought }));
        Ok(Self { name: self.name.clone(), modes, parts })
    }

    /// Returns the class with each of its modes moved.
    ///
    /// # Errors
    ///
    /// The errors of `moved`.
    pub fn moved(
        &self,
        moved: impl Fn(&ClassStatistics) -> Result<ClassStatistics, StatisticsError>,
    ) -> Result<Self, StatisticsError> {
        let all = |modes: &[ClassStatistics]| -> Result<Vec<ClassStatistics>, StatisticsError> {
            modes.iter().map(&moved).collect()
        };
        let Some(parts) = &self.parts else {
            return Ok(Self { modes: all(&self.modes)?, ..self.clone() });
        };
        let mut brought = parts.brought.clone();
        for brought in &mut brought {
            brought.modes = all(&brought.modes)?;
        }
        self.of_parts(all(&parts.own)?, brought)
    }

    /// Merges all modes into one.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if the sums are out of range.
    pub fn as_one_mode(&self) -> Result<ClassStatistics, StatisticsError> {
        let (first, rest) = self.modes.split_first().ok_or(StatisticsError::NoShots)?;
        rest.iter().try_fold(first.clone(), |sum, mode| sum.merged(mode))
    }

    /// Occasions on which the class was taught, of all modes.
    pub fn occasions(&self) -> Vec<Occasion> {
        self.modes.iter().flat_map(ClassStatistics::occasions).collect()
    }

    /// Number of shots of all modes.
    pub fn count(&self) -> u32 {
        self.modes.iter().fold(0, |sum, mode| sum.saturating_add(mode.count()))
    }

    /// Sizes in bytes: the means, and the scatters that exact forgetting needs.
    pub fn n_bytes(&self) -> (usize, usize) {
        let sizes = self.modes.iter().map(ClassStatistics::n_bytes);
        sizes.fold((0, 0), |(means, scatters), (m, s)| (means + m, scatters + s))
    }

    /// Checks a class that was read from outside this program.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] names the part that does not fit.
    pub fn check(&self, d_feature: usize) -> Result<(), StatisticsError> {
        let parts = self.parts.as_deref();
        let own = parts.map_or(&[][..], |parts| &parts.own);
        let brought = parts.map_or(&[][..], |parts| &parts.brought);
        let mut sizes = [self.modes.len(), own.len()]
            .into_iter()
            .chain(brought.iter().map(|brought| brought.modes.len()));
        if self.modes.is_empty() || sizes.any(|n| n > MAX_MODES) {
            let what = "the number of modes";
            return Err(StatisticsError::Inconsistent { what, expected: d_feature });
        }
        let brought = brought.iter().flat_map(|brought| &brought.modes);
        self.modes.iter().chain(own).chain(brought).try_for_each(|mode| mode.check(d_feature))
    }
}

/// Returns the modes with more shots, which were taught together.
fn modes_with_shots(
    modes: &[ClassStatistics],
    shots: &Shots,
) -> Result<Vec<ClassStatistics>, StatisticsError> {
    let new = shots.statistics()?;
    with_mode(modes, &new, |mode| mode.with_shots(&shots.features)?.with_views(&shots.views))
}

/// Returns the modes with a further one: it joins the nearest by `join`, or is added if it is far
/// enough from all.
fn with_mode(
    modes: &[ClassStatistics],
    new: &ClassStatistics,
    join: impl FnOnce(&ClassStatistics) -> Result<ClassStatistics, StatisticsError>,
) -> Result<Vec<ClassStatistics>, StatisticsError> {
    let mut modes = modes.to_vec();
    let n_modes = modes.len();
    let nearest = nearest_mode(&modes, &new.mean());
    let mode = modes.get_mut(nearest).ok_or(StatisticsError::NoShots)?;
    if new.d_feature() != mode.d_feature() {
        let found = new.d_feature();
        let expected = mode.d_feature();
        return Err(StatisticsError::Length { found, expected });
    }
    if n_modes < MAX_MODES && new.count() >= FOUNDERS && apart(mode, new) {
        modes.push(new.clone());
    } else {
        *mode = join(mode)?;
    }
    Ok(modes)
}

/// Returns the index of the mode with the mean nearest to a point.
fn nearest_mode(modes: &[ClassStatistics], point: &[f32]) -> usize {
    let distance = |mode: &ClassStatistics| squared_distance(&mode.mean(), point);
    let distances: Vec<f64> = modes.iter().map(distance).collect();
    (0..distances.len()).min_by(|&a, &b| distances[a].total_cmp(&distances[b])).unwrap_or(0)
}

/// Returns true if the means differ by more than [`GAP`] plus twice the difference expected by
/// chance: the means of `n` and `m` shots of one mode are `(1 / n + 1 / m)` of its variance apart.
fn apart(mode: &ClassStatistics, new: &ClassStatistics) -> bool {
    let degrees = f64::from(mode.count()) + f64::from(new.count()) - 2.0;
    let variance = (mode.energy() + new.energy()) / degrees.max(1.0);
    let chance = 1.0 / f64::from(mode.count()) + 1.0 / f64::from(new.count());
    squared_distance(&mode.mean(), &new.mean()) > variance * (GAP + 2.0 * chance)
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` shots about a centre, in 16 dimensions.
    fn shots(centre: f32, n: usize, seed: usize) -> Vec<Vec<f32>> {
        let number = |shot: usize, i: usize| ((seed + shot * 16 + i) as f32 * 12.989).sin();
        (0..n).map(|s| (0..16).map(|i| centre + number(s, i)).collect()).collect()
    }

    fn class(shots: &[Vec<f32>]) -> Class {
        Class::from_shots(ClassName::new("tool").expect("a sound name"), shots)
            .expect("sound shots")
    }

    #[test]
    fn distant_shots_make_a_new_mode_and_near_ones_join_a_mode() {
        let class = class(&shots(0.0, 20, 1));
        let same = class.with_shots(&shots(0.0, 20, 900)).expect("sound shots");
        assert_eq!((same.modes.len(), same.count()), (1, 40));
        let other = same.with_shots(&shots(2.0, 20, 77)).expect("sound shots");
        assert_eq!((other.modes.len(), other.count()), (2, 60));
        let both = other.with_shots(&shots(2.0, 1, 5)).expect("sound shots");
        assert_eq!(
            (both.modes[0].count(), both.modes[1].count()),
            (40, 21),
            "the nearest takes it"
        );
        let few = class.with_shots(&shots(2.0, 4, 3)).expect("sound shots");
        assert_eq!(few.modes.len(), 1, "four shots found no mode");
    }

    #[test]
    fn merged_modes_equal_one_mode_taught_together() {
        let a = shots(0.0, 12, 1);
        let b = shots(2.0, 9, 400);
        let two = class(&a).with_shots(&b).expect("sound shots");
        assert_eq!(two.modes.len(), 2);
        let one = two.as_one_mode().expect("finite");
        let together = class(&[a, b].concat());
        assert_eq!(one.count(), together.count());
        for (x, y) in one.mean().iter().zip(together.modes[0].mean()) {
            // The means are stored in f16, one for each mode.
            assert!((x - y).abs() < 2e-3, "{x} {y}");
        }
        assert!((one.energy() / together.modes[0].energy() - 1.0).abs() < 2e-3);
    }

    #[test]
    fn a_class_of_the_same_name_joins_as_if_its_shots_had_been_taught_here() {
        let here = shots(0.0, 12, 1);
        let near = shots(0.0, 9, 400);
        let far = shots(2.0, 9, 7);
        for (there, modes) in [(near, 1), (far, 2)] {
            let joined = class(&here).joined(&class(&there), [0; 32]).expect("sound shots");
            let taught = class(&here).with_shots(&there).expect("sound shots");
            assert_eq!((joined.modes.len(), joined.count()), (modes, 21));
            for (a, b) in joined.modes.iter().zip(&taught.modes) {
                // Mean and scatter are stored in f16, those of each class separately.
                let away = squared_distance(&a.mean(), &b.mean()).sqrt();
                assert!(away < 4e-3, "{away}");
                assert!((a.energy() / b.energy() - 1.0).abs() < 2e-3);
            }
        }
    }

    #[test]
    fn shots_brought_by_an_adapter_are_removed_to_the_bit() {
        let own = shots(0.0, 12, 1);
        let since = shots(0.1, 7, 31);
        let taught = class(&own).with_shots(&since).expect("sound shots");
        let without =
            |class: &Class, adapter| class.taken_out(&[adapter; 32]).expect("finite numbers");
        for brought in [shots(0.0, 9, 400), shots(2.0, 9, 7)] {
            let first = class(&brought);
            let second = class(&shots(0.5, 6, 90));
            let joined = |class: &Class, part, adapter| {
                class.joined(part, [adapter; 32]).expect("sound shots")
            };
            let mixed = joined(&joined(&class(&own), &first, 1), &second, 2);
            let mixed = mixed.with_shots(&since).expect("sound shots");
            assert_eq!(mixed.count(), 12 + 9 + 6 + 7);
            for (out, part, left) in [(1, &second, 2), (2, &first, 1)] {
                let rest = without(&mixed, out).expect("shots that are left");
                assert_eq!(rest, joined(&taught, part, left), "as if it had never been");
                assert_eq!(without(&rest, left), Some(taught.clone()));
            }
            assert_eq!(without(&mixed, 3), Some(mixed.clone()));
        }
        // No shots were taught here: all were brought.
        let brought = class(&own).brought_by([1; 32]);
        assert_eq!(without(&brought, 1), None);
        let more = brought.with_shots(&since).expect("sound shots");
        assert_eq!((more.count(), without(&more, 1)), (12 + 7, Some(class(&since))));
    }

    #[test]
    fn modes_are_bounded() {
        let start = class(&shots(0.0, 6, 1));
        let many = (1..20)
            .try_fold(start, |class, i| class.with_shots(&shots(4.0 * i as f32, 6, i)))
            .expect("sound shots");
        assert_eq!((many.modes.len(), many.count()), (MAX_MODES, 120));
        assert!(many.check(16).is_ok() && many.check(15).is_err());
        assert!(Class { modes: Vec::new(), ..many }.check(16).is_err());
    }
}
