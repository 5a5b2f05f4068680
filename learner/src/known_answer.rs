//! A question whose answer travels with an adapter, so that a device can tell whether it computes what was published.

use serde::{Deserialize, Serialize};

use crate::Matrix;

/// Numbers of the feature that the adapted network makes of [`test_pattern`].
///
/// # Shapes
///
/// - `[1, n]`, f16 in files: at most 64 numbers, spread evenly over the feature
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownAnswer(pub(crate) Matrix);

/// Most numbers that are kept of the feature.
const NUMBERS: usize = 64;

/// A picture as it is after preprocessing, made of whole numbers, so that it is the same everywhere: `n` numbers in
/// [-2, 2].
pub fn test_pattern(n: usize) -> Vec<f32> {
    let number = |i: u64| (i * i % 251 + i * 7 % 61) as f32 / 310.0 * 4.0 - 2.0;
    (0..n as u64).map(number).collect()
}

impl KnownAnswer {
    /// Keeps some numbers of the feature that [`test_pattern`] has.
    ///
    /// # Errors
    ///
    /// `None` for numbers that a file cannot hold.
    pub fn of(feature: &[f32]) -> Option<Self> {
        let n = feature.len().min(NUMBERS);
        let answer = Matrix::from_fn(1, n, |_, k| feature[k * feature.len() / n]);
        answer.rounded().ok().map(Self)
    }

    /// How far a feature is from the answer: the largest difference over the largest number of the answer. What f16
    /// rounds is under .001.
    pub fn distance(&self, feature: &[f32]) -> f32 {
        let (answer, n) = (self.0.values(), self.0.values().len());
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
