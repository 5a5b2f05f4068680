//! A class: its name, and its modes.
//!
//! A class may be several things that look different: a dog photographed and a dog drawn, hammer and saw of a
//! class "tool". Each such mode keeps statistics of its own, and the class is wherever its nearest mode is. Ours; whether shots
//! found a mode is decided from the class alone, so that forgetting another class changes nothing here. On
//! CIFAR-100's twenty superclasses, taught kind by kind, modes are worth 1.6, 2.9 and 4.0 points at 20, 60 and 200
//! shots a kind (docs/method.md).

use serde::{Deserialize, Serialize};

use crate::{ClassName, ClassStatistics, Occasion, Shots, StatisticsError};

/// A class: its name and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Name as shown.
    pub name: ClassName,
    /// Count, mean and scatter of the shots of each mode, the oldest first; never empty.
    pub modes: Vec<ClassStatistics>,
    /// What of it was taught here and what adapters brought; `None` if no adapter did. A device keeps this beside the class,
    /// and no file holds it.
    #[serde(skip)]
    pub parts: Option<Box<ClassParts>>,
}

/// What the modes of a class consist of: they are [`ClassParts::own`], to which the parts of adapters were joined in their
/// order. So taking one out gives the class as if it had never been, to the bit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassParts {
    /// Modes of the shots that were taught here, in the order of [`Class::modes`]; empty if there are none.
    pub own: Vec<ClassStatistics>,
    /// What adapters brought, the oldest first; never empty.
    pub brought: Vec<Brought>,
}

/// What an adapter brought to a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brought {
    /// SHA-256 of the adapter's content.
    pub adapter: [u8; 32],
    /// Its modes.
    pub modes: Vec<ClassStatistics>,
}

/// Squared distance of two means, as a share of the variance within, from which on they are two modes. Halves of one
/// class of CIFAR-100 stay under .02, half of the pairs of classes of one superclass lie beyond .28.
const GAP: f64 = 0.1;

/// Least number of shots taught together that found a mode.
const FOUNDERS: u32 = 5;

/// Most modes of a class; shots of a further one go to the nearest.
pub const MAX_MODES: usize = 8;

impl Class {
    /// A class from its first shots.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if there are none, or one does not fit.
    pub fn from_shots(name: ClassName, shots: &[Vec<f32>]) -> Result<Self, StatisticsError> {
        Self::from_viewed(name, &Shots::from(shots.to_vec()))
    }

    /// As [`Class::from_shots`], with the views of the shots.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if there are no shots, or one does not fit.
    pub fn from_viewed(name: ClassName, shots: &Shots) -> Result<Self, StatisticsError> {
        Ok(Self { name, modes: vec![shots.statistics()?], parts: None })
    }

    /// The class with more shots, taught together: in its nearest mode, or as a new one if they lie apart from all.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if there are no shots, or one does not fit.
    pub fn with_shots(&self, shots: &[Vec<f32>]) -> Result<Self, StatisticsError> {
        self.with_viewed(&Shots::from(shots.to_vec()))
    }

    /// As [`Class::with_shots`], with the views of the shots.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if there are no shots, or one does not fit.
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

    /// Place of the mode whose mean is nearest to a point.
    pub fn nearest_mode(&self, point: &[f32]) -> usize {
        nearest_mode(&self.modes, point)
    }

    /// The class with the modes that an adapter brings to it: each joins its nearest mode, or stays a mode of its own if it
    /// lies apart from all. `adapter` is the SHA-256 of the adapter's content.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if the two do not fit together.
    pub fn joined(&self, brought: &Self, adapter: [u8; 32]) -> Result<Self, StatisticsError> {
        let (own, mut parts) = match &self.parts {
            Some(parts) => (parts.own.clone(), parts.brought.clone()),
            None => (self.modes.clone(), Vec::new()),
        };
        parts.push(Brought { adapter, modes: brought.modes.clone() });
        self.of_parts(own, parts)
    }

    /// The same class as one that an adapter brings, where nothing of it is known yet.
    #[must_use]
    pub fn brought_by(&self, adapter: [u8; 32]) -> Self {
        let brought = vec![Brought { adapter, modes: self.modes.clone() }];
        let parts = Some(Box::new(ClassParts { own: Vec::new(), brought }));
        Self { parts, ..self.clone() }
    }

    /// The class without what an adapter brought; `None` if nothing is left, and the class itself if that adapter is not known
    /// to have brought shots of it.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if the numbers together are out of range.
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

    /// Whether that adapter is known to have brought shots of it.
    pub fn has_shots_of(&self, adapter: &[u8; 32]) -> bool {
        let brought = self.parts.iter().flat_map(|parts| &parts.brought);
        brought.into_iter().any(|brought| brought.adapter == *adapter)
    }

    /// The class of these parts: each mode that was brought joins its nearest mode, or stays one of its own.
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

    /// The class with each of its modes moved.
    ///
    /// # Errors
    ///
    /// Those of `moved`.
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

    /// All modes as one.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if the numbers together are out of range.
    pub fn as_one_mode(&self) -> Result<ClassStatistics, StatisticsError> {
        let (first, rest) = self.modes.split_first().ok_or(StatisticsError::NoShots)?;
        rest.iter().try_fold(first.clone(), |sum, mode| sum.merged(mode))
    }

    /// The occasions on which it was taught, of all modes.
    pub fn occasions(&self) -> Vec<Occasion> {
        self.modes.iter().flat_map(ClassStatistics::occasions).collect()
    }

    /// Shots of all modes.
    pub fn count(&self) -> u32 {
        self.modes.iter().fold(0, |sum, mode| sum.saturating_add(mode.count()))
    }

    /// Bytes of the numbers: means, and the scatter that exact forgetting needs.
    pub fn n_bytes(&self) -> (usize, usize) {
        let sizes = self.modes.iter().map(ClassStatistics::n_bytes);
        sizes.fold((0, 0), |(means, scatters), (m, s)| (means + m, scatters + s))
    }

    /// Checks a class that came from outside.
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
            let (what, expected) = ("the number of modes", d_feature);
            return Err(StatisticsError::Inconsistent { what, expected });
        }
        let brought = brought.iter().flat_map(|brought| &brought.modes);
        self.modes.iter().chain(own).chain(brought).try_for_each(|mode| mode.check(d_feature))
    }
}

/// Modes with more shots, taught together.
fn modes_with_shots(
    modes: &[ClassStatistics],
    shots: &Shots,
) -> Result<Vec<ClassStatistics>, StatisticsError> {
    let new = shots.statistics()?;
    with_mode(modes, &new, |mode| mode.with_shots(&shots.features)?.with_views(&shots.views))
}

/// Modes with another one: it joins the nearest by `join`, or is added if it lies apart from all.
fn with_mode(
    modes: &[ClassStatistics],
    new: &ClassStatistics,
    join: impl FnOnce(&ClassStatistics) -> Result<ClassStatistics, StatisticsError>,
) -> Result<Vec<ClassStatistics>, StatisticsError> {
    let mut modes = modes.to_vec();
    let (n_modes, nearest) = (modes.len(), nearest_mode(&modes, &new.mean()));
    let mode = modes.get_mut(nearest).ok_or(StatisticsError::NoShots)?;
    if new.d_feature() != mode.d_feature() {
        let (found, expected) = (new.d_feature(), mode.d_feature());
        return Err(StatisticsError::Length { found, expected });
    }
    if n_modes < MAX_MODES && new.count() >= FOUNDERS && apart(mode, new) {
        modes.push(new.clone());
    } else {
        *mode = join(mode)?;
    }
    Ok(modes)
}

/// Place of the mode whose mean is nearest to a point.
fn nearest_mode(modes: &[ClassStatistics], point: &[f32]) -> usize {
    let distance = |mode: &ClassStatistics| squared_distance(&mode.mean(), point);
    let distances: Vec<f64> = modes.iter().map(distance).collect();
    (0..distances.len()).min_by(|&a, &b| distances[a].total_cmp(&distances[b])).unwrap_or(0)
}

/// Whether the means differ by more than [`GAP`] and twice what chance brings about: means of `n` and `m` shots of one
/// mode are `(1 / n + 1 / m)` of its variance apart.
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

    /// Shots about a centre, in 16 directions.
    fn shots(centre: f32, n: usize, seed: usize) -> Vec<Vec<f32>> {
        let number = |shot: usize, i: usize| ((seed + shot * 16 + i) as f32 * 12.989).sin();
        (0..n).map(|s| (0..16).map(|i| centre + number(s, i)).collect()).collect()
    }

    fn class(shots: &[Vec<f32>]) -> Class {
        Class::from_shots(ClassName::new("tool").expect("a sound name"), shots)
            .expect("sound shots")
    }

    #[test]
    fn shots_that_lie_apart_found_a_mode_and_others_join_one() {
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
    fn as_one_the_modes_are_what_they_would_be_taught_together() {
        let (a, b) = (shots(0.0, 12, 1), shots(2.0, 9, 400));
        let two = class(&a).with_shots(&b).expect("sound shots");
        assert_eq!(two.modes.len(), 2);
        let (one, together) = (two.as_one_mode().expect("finite"), class(&[a, b].concat()));
        assert_eq!(one.count(), together.count());
        for (x, y) in one.mean().iter().zip(together.modes[0].mean()) {
            // Means are kept in f16, each mode's own.
            assert!((x - y).abs() < 2e-3, "{x} {y}");
        }
        assert!((one.energy() / together.modes[0].energy() - 1.0).abs() < 2e-3);
    }

    #[test]
    fn a_class_of_the_same_name_joins_as_if_its_shots_had_been_taught_here() {
        let (here, near, far) = (shots(0.0, 12, 1), shots(0.0, 9, 400), shots(2.0, 9, 7));
        for (there, modes) in [(near, 1), (far, 2)] {
            let joined = class(&here).joined(&class(&there), [0; 32]).expect("sound shots");
            let taught = class(&here).with_shots(&there).expect("sound shots");
            assert_eq!((joined.modes.len(), joined.count()), (modes, 21));
            for (a, b) in joined.modes.iter().zip(&taught.modes) {
                // Mean and scatter are kept in f16, each class's own.
                let away = squared_distance(&a.mean(), &b.mean()).sqrt();
                assert!(away < 4e-3, "{away}");
                assert!((a.energy() / b.energy() - 1.0).abs() < 2e-3);
            }
        }
    }

    #[test]
    fn what_an_adapter_brought_is_taken_out_to_the_bit() {
        let (own, since) = (shots(0.0, 12, 1), shots(0.1, 7, 31));
        let taught = class(&own).with_shots(&since).expect("sound shots");
        let without =
            |class: &Class, adapter| class.taken_out(&[adapter; 32]).expect("finite numbers");
        for brought in [shots(0.0, 9, 400), shots(2.0, 9, 7)] {
            let (first, second) = (class(&brought), class(&shots(0.5, 6, 90)));
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
        // Nothing was taught here.
        let brought = class(&own).brought_by([1; 32]);
        assert_eq!(without(&brought, 1), None);
        let more = brought.with_shots(&since).expect("sound shots");
        assert_eq!((more.count(), without(&more, 1)), (12 + 7, Some(class(&since))));
    }

    #[test]
    fn modes_are_bounded() {
        let start = class(&shots(0.0, 6, 1));
        let many =
            (1..20).try_fold(start, |class, i| class.with_shots(&shots(4.0 * i as f32, 6, i)));
        let many = many.expect("sound shots");
        assert_eq!((many.modes.len(), many.count()), (MAX_MODES, 120));
        assert!(many.check(16).is_ok() && many.check(15).is_err());
        assert!(Class { modes: Vec::new(), ..many }.check(16).is_err());
    }
}
