//! An immutable snapshot of everything that a prediction needs.

use serde::{Deserialize, Serialize};

use crate::byte_rows::ByteRows;
use crate::{ClassName, Matrix};

/// Version of the rules in [`fit_head`](crate::fit_head). A stored predictor of another version is
/// fitted again.
pub const HEAD_VERSION: u16 = 6;

/// Test for unknown pictures: pictures that show none of the classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum UnknownTest {
    /// No test: no class has two different shots.
    Never,
    /// For a single class: a picture is unknown if it is further from the mean than nearly all
    /// shots.
    Radius {
        /// Square of the largest distance accepted.
        max_squared: f32,
    },
    /// A picture is unknown if there is too little evidence for a taught class, beside the other
    /// classes and the background.
    Evidence {
        /// Least evidence accepted, in nats.
        min: f32,
    },
}

/// Squares that express a mode's own covariance: the score of mode `c` gains half the sum of
/// `(row . (x - centre) - offset)^2` over its rows, and its bias.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnTerms {
    /// `[rows, d]`, mode by mode; stored as f16.
    #[serde(with = "half_rows")]
    pub(crate) rows: Vec<f32>,
    /// One for each row.
    pub(crate) offsets: Vec<f32>,
    /// Rows of each mode. Empty if no mode has any.
    pub(crate) counts: Vec<u32>,
    /// Bias of each mode: the cost of its larger volume.
    pub(crate) biases: Vec<f32>,
}

/// Map from the product of a picture with the weights of a class to its resemblance to the class:
/// `scale * product - offset`, the picture seen from the middle of the generic classes. The
/// resemblance is the cosine between the two, times [`SCALE`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToResemblance {
    pub(crate) scale: f32,
    pub(crate) offset: f32,
}

impl ToResemblance {
    /// Returns the resemblance. `product` is that with the weights of the class, `middle` that with
    /// the weights of the middle of the generic classes.
    fn of(self, product: f32, middle: f32) -> f32 {
        self.scale * (product - middle) - self.offset
    }
}

/// The generic classes of the prior: the background of untaught things.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Background {
    /// `[g, d]`, eight bits a number.
    pub(crate) weights: ByteRows,
    /// One for each generic class.
    pub(crate) to_resemblance: Vec<ToResemblance>,
}

impl Background {
    fn fits(&self, d_feature: usize) -> bool {
        let n = self.to_resemblance.len();
        n == 0 && self.weights.is_empty() || self.weights.fits(Some(n), d_feature)
    }

    /// Returns the products of a centred picture with the weights of each generic class.
    fn products(&self, centred: &[f32]) -> Vec<f32> {
        (0..self.to_resemblance.len()).map(|g| self.weights.dot(g, centred)).collect()
    }
}

/// Resemblance of a picture to each taught and each generic class.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resemblances {
    pub(crate) taught: Vec<f64>,
    pub(crate) generic: Vec<f64>,
}

/// Factor from cosines to resemblances.
pub(crate) const SCALE: f64 = 16.0;

/// Weight of a generic class relative to a taught one in [`evidence`].
pub(crate) const GENERIC_SHARE: f64 = 0.1;

/// Temperature of scores in [`evidence`], as a multiple of the head's: at the head's own
/// temperature, one class has nearly all of the probability.
const FLATTENING: f64 = 4.0;

/// Evidence that a picture shows one of the taught classes: the log-posterior of the likeliest
/// class by scores among the taught classes, plus that by resemblances among taught and generic
/// classes. Without generic classes, their middle takes their place. Ours, chosen on CIFAR-100,
/// PACS and the training pictures of grocery-160.
pub(crate) fn evidence(scores: &[f64], resemblances: &Resemblances, temperature: f64) -> f64 {
    let nothing = [0.0];
    let generic = match resemblances.generic.as_slice() {
        [] => &nothing,
        generic => generic,
    };
    let by_scores = log_posterior(scores, &[], FLATTENING * temperature);
    by_scores + log_posterior(&resemblances.taught, generic, 1.0)
}

/// Log of the largest share of a taught class in a softmax over all classes.
fn log_posterior(taught: &[f64], generic: &[f64], temperature: f64) -> f64 {
    let highest = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let best = highest(taught);
    let most = best.max(highest(generic));
    let sum = |values: &[f64]| -> f64 {
        values.iter().map(|value| ((value - most) / temperature).exp()).sum()
    };
    (best - most) / temperature - (sum(taught) + GENERIC_SHARE * sum(generic)).ln()
}

/// Evidence, in nats below the threshold, at which a picture shows a taught class with even chance,
/// and the slope of that chance in the evidence. Ours, chosen on the same data as [`evidence`].
const EVEN_BELOW: f32 = 2.0;
const STEEPNESS: f32 = 1.5;

/// A head over all classes: linear, plus a few squares for each mode.
///
/// The score of a class is that of its best mode. The score of mode `c` is the log-likelihood ratio
/// of its Gaussian against one at the centre of all classes with the shared covariance:
/// `w_c . (x - centre) + b_c` plus the mode's [`OwnTerms`]. The confidence is the softmax of scores
/// over the temperature, times the chance that the picture shows any class. That chance follows
/// from the evidence and its threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predictor {
    pub(crate) version: u16,
    pub(crate) names: Vec<ClassName>,
    /// Number of modes of each class.
    pub(crate) modes: Vec<u32>,
    pub(crate) centre: Vec<f32>,
    /// `[modes, d]`
    pub(crate) weights: Vec<f32>,
    pub(crate) biases: Vec<f32>,
    pub(crate) own: OwnTerms,
    /// One for each mode.
    pub(crate) to_resemblance: Vec<ToResemblance>,
    pub(crate) background: Background,
    pub(crate) temperature: f32,
    pub(crate) unknown: UnknownTest,
    /// Shrinkage of the chosen covariance; 1 is the nearest mean.
    pub(crate) shrinkage: f32,
}

/// A class and its confidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Guess {
    /// The class.
    pub class: ClassName,
    /// Calibrated probability. The sum over all classes falls short of 1 by the chance that the
    /// picture shows none of them.
    pub confidence: f32,
}

/// Prediction for one feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Classes, the likeliest first. Empty if no class was taught.
    pub top: Vec<Guess>,
    /// True if the picture likely shows none of the classes.
    pub unknown: bool,
}

impl OwnTerms {
    fn fits(&self, d_feature: usize, n_modes: usize) -> bool {
        let total: usize = self.counts.iter().map(|&n| n as usize).sum();
        let known = self.counts.is_empty() || self.counts.len() == n_modes;
        let biased = self.biases.len() == self.counts.len();
        known && biased && self.offsets.len() == total && self.rows.len() == total * d_feature
    }
}

/// Stores rows as f16: they are most of a stored head, and three digits are enough.
mod half_rows {
    use fmlora_models::HalfTensor;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(rows: &[f32], to: S) -> Result<S::Ok, S::Error> {
        let half = HalfTensor::from_f32(&[rows.len()], rows).map_err(serde::ser::Error::custom)?;
        half.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f32>, D::Error> {
        let half = HalfTensor::deserialize(from)?;
        half.check().map_err(serde::de::Error::custom)?;
        Ok(half.to_f32())
    }
}

impl Predictor {
    /// Creates a head without classes.
    pub fn empty(d_feature: usize) -> Self {
        Self {
            version: HEAD_VERSION,
            names: Vec::new(),
            modes: Vec::new(),
            centre: vec![0.0; d_feature],
            weights: Vec::new(),
            biases: Vec::new(),
            own: OwnTerms::default(),
            to_resemblance: Vec::new(),
            background: Background::default(),
            temperature: 1.0,
            unknown: UnknownTest::Never,
            shrinkage: 1.0,
        }
    }

    /// Names of the classes, ordered by key.
    pub fn names(&self) -> &[ClassName] {
        &self.names
    }

    /// Length of a feature.
    pub fn d_feature(&self) -> usize {
        self.centre.len()
    }

    /// Shrinkage of the covariance in [0, 1]; 1 is the nearest mean.
    pub fn shrinkage(&self) -> f32 {
        self.shrinkage
    }

    /// Temperature: the divisor that turns scores into log-probabilities.
    pub fn temperature(&self) -> f32 {
        self.temperature
    }

    /// The test for unknown pictures.
    pub fn unknown_test(&self) -> UnknownTest {
        self.unknown
    }

    /// Returns true if this head, as read from a store, can be used: it has the current version and
    /// the right sizes.
    pub fn is_current(&self, d_feature: usize, n_classes: usize) -> bool {
        let n_modes: usize = self.modes.iter().map(|&n| n as usize).sum();
        self.version == HEAD_VERSION
            && self.d_feature() == d_feature
            && self.names.len() == n_classes
            && self.modes.len() == n_classes
            && self.modes.iter().all(|&n| n > 0)
            && self.biases.len() == n_modes
            && self.weights.len() == n_modes * d_feature
            && self.own.fits(d_feature, n_modes)
            && self.to_resemblance.len() == n_modes
            && self.background.fits(d_feature)
    }

    /// Score of each class, in the order of [`Predictor::names`].
    pub fn scores(&self, feature: &[f32]) -> Vec<f32> {
        let centred = self.centred(feature);
        self.by_class(&self.with_own(self.linear(&centred), &centred))
    }

    /// Returns the best score of each class's modes.
    fn by_class(&self, mut of_modes: &[f32]) -> Vec<f32> {
        let best = |&n: &u32| {
            let (own, rest) = of_modes.split_at(n as usize);
            of_modes = rest;
            own.iter().copied().fold(f32::NEG_INFINITY, f32::max)
        };
        self.modes.iter().map(best).collect()
    }

    /// Returns the linear part over the temperature, `[d, modes]` and `[1, modes]`, for features
    /// that are not centred.
    pub(crate) fn calibrated(&self) -> (Matrix, Matrix) {
        let d = self.d_feature();
        let n = self.biases.len();
        let row = |c: usize| &self.weights[c * d..][..d];
        let weights = Matrix::from_fn(d, n, |i, c| row(c)[i] / self.temperature);
        let bias = |c: usize| (self.biases[c] - dot(row(c), &self.centre)) / self.temperature;
        (weights, Matrix::from_fn(1, n, |_, c| bias(c)))
    }

    fn centred(&self, feature: &[f32]) -> Vec<f32> {
        feature.iter().zip(&self.centre).map(|(x, c)| x - c).collect()
    }

    fn linear(&self, centred: &[f32]) -> Vec<f32> {
        let rows = self.weights.chunks_exact(self.d_feature().max(1));
        rows.zip(&self.biases).map(|(row, b)| dot(row, centred) + b).collect()
    }

    fn with_own(&self, mut scores: Vec<f32>, centred: &[f32]) -> Vec<f32> {
        let own = &self.own;
        let mut squares = own.rows.chunks_exact(self.d_feature().max(1)).zip(&own.offsets);
        for (score, (&count, bias)) in scores.iter_mut().zip(own.counts.iter().zip(&own.biases)) {
            let squares = squares.by_ref().take(count as usize);
            let sum: f32 = squares.map(|(row, o)| (dot(row, centred) - o).powi(2)).sum();
            *score += 0.5 * sum + bias;
        }
        scores
    }

    /// Evidence that a picture shows one of the classes, in the units of [`UnknownTest::Evidence`].
    ///
    /// # Shapes
    ///
    /// - `feature`: `d_feature` numbers
    pub fn evidence_of(&self, feature: &[f32]) -> f32 {
        let centred = self.centred(feature);
        self.evidence(&self.linear(&centred), &centred)
    }

    fn evidence(&self, linear: &[f32], centred: &[f32]) -> f32 {
        let scores = wide(self.by_class(linear));
        let resemblances = self.resemblances_of(linear, centred);
        evidence(&scores, &resemblances, f64::from(self.temperature)) as f32
    }

    /// Returns the resemblances of a centred picture, from the linear part of its scores.
    fn resemblances_of(&self, linear: &[f32], centred: &[f32]) -> Resemblances {
        let products = self.background.products(centred);
        let middle = products.iter().sum::<f32>() / products.len().max(1) as f32;
        let resemblance = |(map, product): (&ToResemblance, &f32)| map.of(*product, middle);
        let of_modes: Vec<f32> = self.to_resemblance.iter().zip(linear).map(resemblance).collect();
        let generic = self.background.to_resemblance.iter().zip(&products).map(resemblance);
        Resemblances { taught: wide(self.by_class(&of_modes)), generic: wide(generic) }
    }

    /// Resemblances of a picture to all classes.
    #[cfg(test)]
    pub(crate) fn resemblances(&self, feature: &[f32]) -> Resemblances {
        let centred = self.centred(feature);
        self.resemblances_of(&self.linear(&centred), &centred)
    }

    /// Chance that the picture shows any of the classes.
    fn chance_of_any(&self, evidence: f32) -> f32 {
        match self.unknown {
            UnknownTest::Evidence { min } => {
                1.0 / (1.0 + (STEEPNESS * (min - EVEN_BELOW - evidence)).exp())
            }
            UnknownTest::Never | UnknownTest::Radius { .. } => 1.0,
        }
    }

    /// Returns the `n_top` likeliest classes, and whether the picture likely shows none of them.
    ///
    /// # Shapes
    ///
    /// - `feature`: `d_feature` numbers
    pub fn predict(&self, feature: &[f32], n_top: usize) -> Prediction {
        let centred = self.centred(feature);
        let linear = self.linear(&centred);
        let evidence = self.evidence(&linear, &centred);
        let scores = self.by_class(&self.with_own(linear, &centred));
        let best = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |score: f32| ((score - best) / self.temperature).exp();
        let total: f32 = scores.iter().map(|&s| weight(s)).sum();
        let is_any = self.chance_of_any(evidence);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let guess = |&i: &usize| Guess {
            class: self.names[i].clone(),
            confidence: is_any * weight(scores[i]) / total,
        };
        let unknown = match self.unknown {
            _ if scores.is_empty() => true,
            UnknownTest::Never => false,
            UnknownTest::Evidence { min } => evidence < min,
            UnknownTest::Radius { max_squared } => dot(&centred, &centred) > max_squared,
        };
        Prediction { top: order.iter().take(n_top).map(guess).collect(), unknown }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn wide(values: impl IntoIterator<Item = f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}
