//! The shots of one class, taught together, with their views.

use crate::{ClassStatistics, StatisticsError};

/// Features of the shots of one class, taught together.
///
/// A shot may have several views: the unchanged picture, and random crops of it in other light.
/// Views are not shots: the shot counts once, at the mean of its views.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shots {
    /// Mean of the views of each shot: `[shots, d]`.
    pub features: Vec<Vec<f32>>,
    /// Deviation of each view from the mean of its shot, over the square root of the number of
    /// views: `[views, d]`. Empty for shots without views.
    pub views: Vec<Vec<f32>>,
}

impl From<Vec<Vec<f32>>> for Shots {
    fn from(features: Vec<Vec<f32>>) -> Self {
        Self { features, views: Vec::new() }
    }
}

impl Shots {
    /// Returns the number of extra views of each shot, for `n_shots` taught together: the fewer
    /// shots, the more views (docs/method.md).
    pub fn n_views(n_shots: usize) -> usize {
        match n_shots {
            0..=2 => 8,
            3..=10 => 2,
            11..=20 => 1,
            _ => 0,
        }
    }

    /// Adds a shot: the feature of the unchanged picture, and those of its views.
    pub fn push(&mut self, plain: Vec<f32>, views: &[Vec<f32>]) {
        if views.is_empty() {
            self.features.push(plain);
            return;
        }
        let n = (1 + views.len()) as f32;
        let all = || std::iter::once(&plain).chain(views);
        let mut mean = vec![0.0; plain.len()];
        for view in all() {
            mean.iter_mut().zip(view).for_each(|(m, v)| *m += v / n);
        }
        let deviation = |view: &Vec<f32>| -> Vec<f32> {
            view.iter().zip(&mean).map(|(v, m)| (v - m) / n.sqrt()).collect()
        };
        self.views.extend(all().map(deviation));
        self.features.push(mean);
    }

    /// Number of shots.
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// Returns true if there are no shots.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// Computes count, mean and scatters.
    pub(crate) fn statistics(&self) -> Result<ClassStatistics, StatisticsError> {
        ClassStatistics::from_shots(&self.features)?.with_views(&self.views)
    }
}
