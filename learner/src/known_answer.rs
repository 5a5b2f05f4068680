//! Known answer: the feature of a fixed picture, stored in an adapter. A device compares it with
//! its own to check that it computes the published network.

use serde::{Deserialize, Serialize};

use crate::Matrix;

/// Numbers of the feature that the adapted network computes for [`test_pattern`].
///
/// # Shapes
///
/// - `[1, n]`, f16 in files: at most 64 numbers, spread evenly over the feature
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownAnswer(pub(crate) Matrix);

/// Largest number of stored values.
const NUMBERS: usize = 64;

/// Returns a fixed picture in its form after preprocessing: `n` numbers in [-2, 2], computed from
/// integers, so that they are the same on every machine.
pub fn test_pattern(n: usize) -> Vec<f32> {
    let number = |i: u64| (i * i % 251 + i * 7 % 61) as f32 / 310.0 * 4.0 - 2.0;
    (0..n as u64).map(number).collect()
}

impl KnownAnswer {
    /// Keeps up to 64 numbers of the feature of [`test_pattern`].
    ///
    /// # Errors
    ///
    /// `None` for numbers that a file cannot hold.
    pub fn of(feature: &[f32]) -> Option<Self> {
        let n = feature.len().min(NUMBERS);
        let answer = Matrix::from_fn(1, n, |_, k| feature[k * feature.len() / n]);
        answer.rounded().ok().map(Self)
    }

    /// Returns the difference of a feature from the answer: the largest difference over the largest
    /// number of the answer. Rounding to f16 accounts for less than .001.
    pub fn distance(&self, feature: &[f32]) -> f32 {
        let answer = self.0.values();
        let n = answer.len();
        let found = (0..n).map(|k| feature.get(k * feature.len() / n).copied());
        let away = answer.iter().zip(found).map(|(a, f)| match f {
            Some(f) if f.is_finite() => (a - f).abs(),
            _ => f32::INFINITY,
        });
        let largest = answer.iter().fold(f32::MIN_POSITIVE, |most, a| most.max(a.abs()));
        away.fold(0.0, f32::max) / largest
    }

    pub(crate) fn fits(&self, d_feature: usize) -> bool {
        self.0.shape() == [1, d_feature.min(NUMBERS)]
    }
}
