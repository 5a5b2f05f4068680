//! An immutable snapshot of everything that a prediction needs.

use serde::{Deserialize, Serialize};

use crate::ClassName;

/// Version of the rules in [`fit_head`](crate::fit_head): a stored predictor of another one is fitted anew.
pub const HEAD_VERSION: u16 = 1;

/// When a picture shows none of the classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum UnknownTest {
    /// Too little is known to tell: no two different shots of any class.
    Never,
    /// A single class: unknown is what lies further from its mean than nearly all of its shots.
    Radius {
        /// Square of the largest distance accepted.
        max_squared: f32,
    },
    /// Several classes: unknown is what no class explains better than the centre of all classes does,
    /// by a log-likelihood ratio.
    Evidence {
        /// Least ratio accepted.
        min: f32,
    },
}

/// A linear head over all classes.
///
/// Class `c` scores `w_c . (x - centre) + b_c`, which is the log-likelihood ratio of its Gaussian against
/// one at the centre of all classes with the same covariance. Confidence is the softmax of scores over
/// the temperature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predictor {
    pub(crate) version: u16,
    pub(crate) names: Vec<ClassName>,
    pub(crate) centre: Vec<f32>,
    /// `[classes, d]`
    pub(crate) weights: Vec<f32>,
    pub(crate) biases: Vec<f32>,
    pub(crate) temperature: f32,
    pub(crate) unknown: UnknownTest,
    /// Shrinkage of the covariance that was chosen; 1 is the nearest mean.
    pub(crate) shrinkage: f32,
}

/// One class and how sure the head is of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Guess {
    /// The class.
    pub class: ClassName,
    /// Calibrated probability, given that the picture shows one of the classes.
    pub confidence: f32,
}

/// What a head says of one feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Classes from the likeliest on; empty if nothing was taught.
    pub top: Vec<Guess>,
    /// Whether the picture likely shows none of the classes.
    pub unknown: bool,
}

impl Predictor {
    /// A head that knows no class.
    pub fn empty(d_feature: usize) -> Self {
        Self {
            version: HEAD_VERSION,
            names: Vec::new(),
            centre: vec![0.0; d_feature],
            weights: Vec::new(),
            biases: Vec::new(),
            temperature: 1.0,
            unknown: UnknownTest::Never,
            shrinkage: 1.0,
        }
    }

    /// Names of the classes, ordered by key.
    pub fn names(&self) -> &[ClassName] {
        &self.names
    }

    /// Numbers of a feature.
    pub fn d_feature(&self) -> usize {
        self.centre.len()
    }

    /// Shrinkage of the covariance in [0, 1]; 1 is the nearest mean.
    pub fn shrinkage(&self) -> f32 {
        self.shrinkage
    }

    /// What scores are divided by to become log-probabilities.
    pub fn temperature(&self) -> f32 {
        self.temperature
    }

    /// When a picture shows none of the classes.
    pub fn unknown_test(&self) -> UnknownTest {
        self.unknown
    }

    /// Whether this head, as read from a store, can serve: made by these rules, of sizes that fit.
    pub fn is_current(&self, d_feature: usize, n_classes: usize) -> bool {
        self.version == HEAD_VERSION
            && self.d_feature() == d_feature
            && self.names.len() == n_classes
            && self.biases.len() == n_classes
            && self.weights.len() == n_classes * d_feature
    }

    /// Score of each class, in the order of [`Predictor::names`].
    pub fn scores(&self, feature: &[f32]) -> Vec<f32> {
        let centred: Vec<f32> = feature.iter().zip(&self.centre).map(|(x, c)| x - c).collect();
        let rows = self.weights.chunks_exact(self.d_feature().max(1));
        let dot = |row: &[f32]| row.iter().zip(&centred).map(|(w, x)| w * x).sum::<f32>();
        rows.zip(&self.biases).map(|(row, b)| dot(row) + b).collect()
    }

    /// The `n_top` likeliest classes, and whether it is likely none of them.
    ///
    /// # Shapes
    ///
    /// - `feature`: `d_feature` numbers
    pub fn predict(&self, feature: &[f32], n_top: usize) -> Prediction {
        let scores = self.scores(feature);
        let best = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |score: f32| ((score - best) / self.temperature).exp();
        let total: f32 = scores.iter().map(|&s| weight(s)).sum();
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let guess = |&i: &usize| Guess {
            class: self.names[i].clone(),
            confidence: weight(scores[i]) / total,
        };
        let unknown = match self.unknown {
            _ if scores.is_empty() => true,
            UnknownTest::Never => false,
            UnknownTest::Evidence { min } => best < min,
            UnknownTest::Radius { max_squared } => {
                let squares = feature.iter().zip(&self.centre).map(|(x, c)| (x - c).powi(2));
                squares.sum::<f32>() > max_squared
            }
        };
        Prediction { top: order.iter().take(n_top).map(guess).collect(), unknown }
    }
}
