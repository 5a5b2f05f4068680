//! Occasions: groups of a class's shots that were taught together.

use fmlora_models::HalfTensor;
use serde::{Deserialize, Serialize};

use super::StatisticsError;

/// Count and mean of the shots of one operation or one burst.
///
/// Shots of one occasion show one object in one light. The distance between the means of several
/// occasions predicts the distance of the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occasion {
    pub(super) count: u32,
    /// `[d]`
    #[serde(deserialize_with = "HalfTensor::owned")]
    pub(super) mean: HalfTensor<'static>,
}

/// Largest number of occasions. Beyond it, the nearest two are merged.
pub(super) const MAX_OCCASIONS: usize = 8;

/// Least number of shots of an occasion. A single shot joins the nearest occasion, so that no
/// single shot is stored.
pub(super) const FIRST_SHOTS: u32 = 2;

impl Occasion {
    /// Number of shots.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Mean of the shots.
    pub fn mean(&self) -> Vec<f32> {
        self.mean.to_f32()
    }

    /// Merges two occasions.
    fn merged(&self, other: &Self) -> Result<Self, StatisticsError> {
        let count = self.count.checked_add(other.count).ok_or(StatisticsError::TooMany)?;
        let share = f64::from(other.count) / f64::from(count);
        let means = self.mean().into_iter().zip(other.mean());
        let mean: Vec<f32> = means
            .map(|(a, b)| (f64::from(a) + share * (f64::from(b) - f64::from(a))) as f32)
            .collect();
        Ok(Self { count, mean: HalfTensor::from_f32(&[mean.len()], &mean)? })
    }

    fn squared_distance(&self, other: &Self) -> f64 {
        let pairs = self.mean().into_iter().zip(other.mean());
        pairs.map(|(a, b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
    }
}

/// Returns the occasions with further ones, at most [`MAX_OCCASIONS`].
pub(super) fn joined(
    mut occasions: Vec<Occasion>,
    more: impl IntoIterator<Item = Occasion>,
) -> Result<Vec<Occasion>, StatisticsError> {
    for new in more {
        let distance = |occasion: &Occasion| occasion.squared_distance(&new);
        let partner = if new.count < FIRST_SHOTS {
            occasions.iter_mut().min_by(|a, b| distance(a).total_cmp(&distance(b)))
        } else {
            occasions.iter_mut().find(|occasion| occasion.count < FIRST_SHOTS)
        };
        if let Some(partner) = partner {
            *partner = partner.merged(&new)?;
            continue;
        }
        occasions.push(new);
        if occasions.len() > MAX_OCCASIONS {
            join_nearest_pair(&mut occasions)?;
        }
    }
    Ok(occasions)
}

fn join_nearest_pair(occasions: &mut Vec<Occasion>) -> Result<(), StatisticsError> {
    let n = occasions.len();
    let pairs = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
    let distance = |&(i, j): &(usize, usize)| occasions[i].squared_distance(&occasions[j]);
    let nearest = pairs.min_by(|a, b| distance(a).total_cmp(&distance(b)));
    if let Some((i, j)) = nearest {
        let other = occasions.remove(j);
        occasions[i] = occasions[i].merged(&other)?;
    }
    Ok(())
}
