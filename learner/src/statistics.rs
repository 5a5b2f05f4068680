//! Statistics of the shots of a class: count, mean, scatter and occasions.

mod layout;
mod occasion;
mod scatter_factor;

use fmlora_models::{HalfTensor, HalfTensorError};
use thiserror::Error;

pub use occasion::Occasion;
pub use scatter_factor::ScatterFactor;

/// Count, mean and scatter of one class's shots, with count and mean of each occasion.
///
/// The mean is the position of the class; an adapter carries only the mean. The scatter makes
/// forgetting exact: the covariance that all classes share is the sum of their scatters, so that a
/// removed class leaves no trace in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassStatistics {
    count: u32,
    mean: HalfTensor<'static>,
    scatter: ScatterFactor,
    /// At least two; empty if all shots are of one occasion.
    occasions: Vec<Occasion>,
    /// Scatter of the views of each shot about the shot, in its few strongest directions. Empty
    /// without views.
    views: ScatterFactor,
}

/// Rows of the scatter of views. On pictures of grocery-160 four rows a class are as good as all.
const VIEW_ROWS: usize = 4;

/// Reason why statistics cannot be computed or are inconsistent.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum StatisticsError {
    /// There is no shot.
    #[error("a class needs at least one shot")]
    NoShots,
    /// A feature of another length.
    #[error("a shot has {found} numbers, expected {expected}")]
    Length {
        /// Numbers found.
        found: usize,
        /// Numbers of a feature here.
        expected: usize,
    },
    /// A feature with NaN, an infinity or a number that f16 cannot hold.
    #[error("a shot cannot be stored")]
    Number(#[from] HalfTensorError),
    /// More shots than a count can hold.
    #[error("a class cannot hold more than {} shots", u32::MAX)]
    TooMany,
    /// The parts of the statistics do not fit together.
    #[error("{what} of a class does not fit the {expected} numbers of a feature")]
    Inconsistent {
        /// The part that does not fit.
        what: &'static str,
        /// Numbers of a feature here.
        expected: usize,
    },
}

impl ClassStatistics {
    /// Computes the statistics of a class's first shots.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if there are no shots, or if one does not fit.
    pub fn from_shots(shots: &[Vec<f32>]) -> Result<Self, StatisticsError> {
        let first = shots.first().ok_or(StatisticsError::NoShots)?;
        let empty = Self {
            count: 0,
            mean: HalfTensor::from_f32(&[first.len()], &vec![0.0; first.len()])?,
            scatter: ScatterFactor::empty(first.len()),
            occasions: Vec::new(),
            views: ScatterFactor::empty(first.len()),
        };
        empty.with_shots(shots)
    }

    /// Returns these statistics with more shots of the same class, which are an occasion of their
    /// own.
    ///
    /// With `n` shots so far, `m` new ones, and `d` the difference of their means, the scatter
    /// about the common mean is `S + S_new + n m / (n + m) d d^T` (Chan, Golub, LeVeque 1979). The
    /// order and the grouping of shots therefore do not matter beyond rounding. The mean is rounded
    /// to f16 at each call: beyond some thousand shots taught one by one it stops moving, while
    /// shots taught together always count.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if there are no shots, or if one does not fit.
    pub fn with_shots(&self, shots: &[Vec<f32>]) -> Result<Self, StatisticsError> {
        let d = self.d_feature();
        if shots.is_empty() {
            return Err(StatisticsError::NoShots);
        }
        if let Some(odd) = shots.iter().find(|s| s.len() != d) {
            return Err(StatisticsError::Length { found: odd.len(), expected: d });
        }
        let count = u32::try_from(shots.len())
            .ok()
            .and_then(|m| self.count.checked_add(m))
            .ok_or(StatisticsError::TooMany)?;
        let old = f64::from(self.count);
        let new = shots.len() as f64;
        let old_mean = self.mean();
        let mut new_mean = vec![0.0f64; d];
        for shot in shots {
            new_mean.iter_mut().zip(shot).for_each(|(m, &v)| *m += f64::from(v) / new);
        }
        let mut rows: Vec<Vec<f64>> = shots
            .iter()
            .map(|shot| shot.iter().zip(&new_mean).map(|(&v, m)| f64::from(v) - m).collect())
            .collect();
        if self.count > 0 {
            let weight = (old * new / (old + new)).sqrt();
            let between = new_mean.iter().zip(&old_mean);
            rows.push(between.map(|(m, &o)| weight * (m - f64::from(o))).collect());
        }
        let mean: Vec<f32> = new_mean
            .iter()
            .zip(&old_mean)
            .map(|(m, &o)| ((old * f64::from(o) + new * m) / (old + new)) as f32)
            .collect();
        let new_mean: Vec<f32> = new_mean.iter().map(|&m| m as f32).collect();
        let occasion =
            Occasion { count: shots.len() as u32, mean: HalfTensor::from_f32(&[d], &new_mean)? };
        Ok(Self {
            count,
            mean: HalfTensor::from_f32(&[d], &mean)?,
            scatter: self.scatter.with_rows(&rows, count as usize - 1)?,
            occasions: self.occasions_with([occasion])?,
            views: self.views.clone(),
        })
    }

    /// Builds statistics from their parts. The scatter is the sum of the outer products of `rows`.
    pub(crate) fn from_parts(
        count: u32,
        mean: &[f32],
        rows: &[Vec<f64>],
    ) -> Result<Self, StatisticsError> {
        let max_rank = (count as usize).saturating_sub(1);
        let scatter = ScatterFactor::empty(mean.len()).with_rows(rows, max_rank)?;
        let views = ScatterFactor::empty(mean.len());
        let mean = HalfTensor::from_f32(&[mean.len()], mean)?;
        Ok(Self { count, mean, scatter, occasions: Vec::new(), views })
    }

    /// Returns these statistics with views beside their shots: deviations of the views from the
    /// mean of their shot, each over the square root of the number of views of the shot.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] for deviations that do not fit.
    pub fn with_views(&self, deviations: &[Vec<f32>]) -> Result<Self, StatisticsError> {
        let d = self.d_feature();
        if let Some(odd) = deviations.iter().find(|row| row.len() != d) {
            return Err(StatisticsError::Length { found: odd.len(), expected: d });
        }
        let wide = |row: &Vec<f32>| row.iter().map(|&v| f64::from(v)).collect();
        let rows: Vec<Vec<f64>> = deviations.iter().map(wide).collect();
        Ok(Self { views: self.views.with_rows(&rows, VIEW_ROWS)?, ..self.clone() })
    }

    /// Returns these statistics with the occasions and views of `other`, moved to these features.
    pub(crate) fn with_details_of(
        self,
        other: &Self,
        point: impl Fn(&[f32]) -> Vec<f32>,
        direction: impl Fn(&[f32]) -> Vec<f64>,
    ) -> Result<Self, StatisticsError> {
        let moved = |occasion: &Occasion| -> Result<Occasion, StatisticsError> {
            let mean = point(&occasion.mean());
            Ok(Occasion { mean: HalfTensor::from_f32(&[mean.len()], &mean)?, ..*occasion })
        };
        let occasions = other.occasions.iter().map(moved).collect::<Result<_, _>>()?;
        let rows = other.views.rows();
        let rows: Vec<Vec<f64>> =
            rows.chunks_exact(self.d_feature().max(1)).map(direction).collect();
        let views = self.views.with_rows(&rows, VIEW_ROWS)?;
        Ok(Self { occasions, views, ..self })
    }

    /// Returns the occasions with further ones. Empty while there is a single occasion.
    fn occasions_with(
        &self,
        more: impl IntoIterator<Item = Occasion>,
    ) -> Result<Vec<Occasion>, StatisticsError> {
        let before = if self.count == 0 { Vec::new() } else { self.occasions() };
        let mut occasions = occasion::joined(before, more)?;
        if occasions.len() < 2 {
            occasions.clear();
        }
        Ok(occasions)
    }

    /// Returns the statistics of both sets of shots together.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] if they do not fit together.
    pub fn merged(&self, other: &Self) -> Result<Self, StatisticsError> {
        let d = self.d_feature();
        if other.d_feature() != d {
            return Err(StatisticsError::Length { found: other.d_feature(), expected: d });
        }
        let count = self.count.checked_add(other.count).ok_or(StatisticsError::TooMany)?;
        let n = f64::from(self.count);
        let m = f64::from(other.count);
        let means: Vec<(f64, f64)> = self
            .mean()
            .iter()
            .zip(other.mean())
            .map(|(&a, b)| (f64::from(a), f64::from(b)))
            .collect();
        let mean: Vec<f32> =
            means.iter().map(|(a, b)| ((n * a + m * b) / (n + m)) as f32).collect();
        let weight = (n * m / (n + m)).sqrt();
        let rows_of = |factor: &ScatterFactor| -> Vec<Vec<f64>> {
            let row = |row: &[f32]| row.iter().map(|&v| f64::from(v)).collect();
            factor.rows().chunks_exact(d.max(1)).map(row).collect()
        };
        let mut rows = rows_of(&other.scatter);
        rows.push(means.iter().map(|(a, b)| weight * (b - a)).collect());
        Ok(Self {
            count,
            mean: HalfTensor::from_f32(&[d], &mean)?,
            scatter: self.scatter.with_rows(&rows, count as usize - 1)?,
            occasions: self.occasions_with(other.occasions())?,
            views: self.views.with_rows(&rows_of(&other.views), VIEW_ROWS)?,
        })
    }

    /// The occasions on which the shots were taught, at least one.
    pub fn occasions(&self) -> Vec<Occasion> {
        if self.occasions.is_empty() {
            return vec![Occasion { count: self.count, mean: self.mean.clone() }];
        }
        self.occasions.clone()
    }

    /// Sum of the squared distances of the shots from their mean.
    pub fn energy(&self) -> f64 {
        self.scatter.rows().iter().map(|&v| f64::from(v).powi(2)).sum()
    }

    /// Number of shots.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Numbers of a feature.
    pub fn d_feature(&self) -> usize {
        self.scatter.d_feature()
    }

    /// Mean of the shots.
    pub fn mean(&self) -> Vec<f32> {
        self.mean.to_f32()
    }

    /// Scatter of the shots about their mean.
    pub fn scatter(&self) -> &ScatterFactor {
        &self.scatter
    }

    /// Scatter of the views of each shot about the shot, in a few rows; none without views.
    pub fn views(&self) -> &ScatterFactor {
        &self.views
    }

    /// Sizes in bytes: the means, and the scatters that exact forgetting needs.
    pub fn n_bytes(&self) -> (usize, usize) {
        let occasions = self.occasions.iter().map(|occasion| occasion.mean.n_bytes());
        let means = self.mean.n_bytes() + occasions.sum::<usize>();
        (means, self.scatter.n_bytes() + self.views.n_bytes())
    }

    /// Checks statistics that were read from outside this program.
    ///
    /// # Errors
    ///
    /// [`StatisticsError`] names the part that does not fit.
    pub fn check(&self, d_feature: usize) -> Result<(), StatisticsError> {
        let inconsistent = |what| StatisticsError::Inconsistent { what, expected: d_feature };
        self.mean.check()?;
        self.scatter.check(d_feature)?;
        self.views.check(d_feature)?;
        if self.views.d_feature() != d_feature || self.views.rank() > VIEW_ROWS {
            return Err(inconsistent("the scatter of views"));
        }
        if self.count == 0 {
            return Err(StatisticsError::NoShots);
        }
        if self.mean.shape() != [d_feature] {
            return Err(inconsistent("the mean"));
        }
        let rank_fits = self.scatter.rank() < self.count as usize || self.scatter.rank() == 0;
        if self.scatter.d_feature() != d_feature || !rank_fits {
            return Err(inconsistent("the scatter"));
        }
        if self.mean().iter().any(|v| !v.is_finite()) {
            return Err(inconsistent("a number that is not finite"));
        }
        if !self.occasions.is_empty() && !self.occasions_fit() {
            return Err(inconsistent("an occasion"));
        }
        Ok(())
    }

    fn occasions_fit(&self) -> bool {
        let fits = |occasion: &Occasion| {
            let mean = &occasion.mean;
            occasion.count > 0
                && mean.check().is_ok()
                && mean.shape() == [self.d_feature()]
                && mean.is_finite()
        };
        let counts = self.occasions.iter().map(|occasion| u64::from(occasion.count));
        (2..=occasion::MAX_OCCASIONS).contains(&self.occasions.len())
            && self.occasions.iter().all(fits)
            && counts.sum::<u64>() == u64::from(self.count)
    }
}

#[cfg(test)]
mod tests;
