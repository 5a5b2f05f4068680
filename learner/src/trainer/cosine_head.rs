//! Cosine head: a softmax classifier over scaled cosines, used during a training.
//!
//! Cosines bound the logits, so longer features cannot lower the loss of a few shots without limit
//! (`NormFace`, arXiv:1704.06369). Ours: the angles are measured around the centre of the classes,
//! and the class vectors start at the class means, so the training starts from the class
//! statistics.

use burn::tensor::{Device, Tensor};

use super::{Leaves, ParameterId, Parameters};
use crate::Matrix;

/// Factor from cosine to logit: the logit of a feature in the direction of its class vector.
const SCALE: f32 = 16.0;

/// Lower bound of a vector's length, against division by zero.
const LEAST_LENGTH: f32 = 1e-6;

/// Class vectors of a cosine head among the parameters of a training.
#[derive(Debug, Clone)]
pub struct CosineHead {
    /// Id of the class vectors, `[d_feature, classes]`.
    classes: ParameterId,
    /// Mean of the class means: `[1, d_feature]`.
    centre: Tensor<2>,
}

/// Class means, the initial class vectors of a [`CosineHead`].
#[derive(Debug, Clone, PartialEq)]
pub struct ClassMeans {
    sums: Vec<Vec<f64>>,
    counts: Vec<usize>,
}

impl ClassMeans {
    /// Creates means without features, for `n_classes` classes and features of `d_feature` numbers.
    pub fn new(n_classes: usize, d_feature: usize) -> Self {
        Self { sums: vec![vec![0.0; d_feature]; n_classes], counts: vec![0; n_classes] }
    }

    /// Adds a feature of a class.
    pub fn push(&mut self, label: usize, feature: &[f32]) {
        self.sums[label].iter_mut().zip(feature).for_each(|(sum, v)| *sum += f64::from(*v));
        self.counts[label] += 1;
    }

    /// `[classes, d_feature]`
    fn means(&self) -> Vec<Vec<f64>> {
        let mean = |(sum, &n): (&Vec<f64>, &usize)| {
            sum.iter().map(|v| v / n.max(1) as f64).collect::<Vec<f64>>()
        };
        self.sums.iter().zip(&self.counts).map(mean).collect()
    }
}

impl CosineHead {
    /// Adds the class vectors to `parameters`, with `rate` times the learning rate.
    pub fn add(
        parameters: &mut Parameters,
        start: &ClassMeans,
        rate: f64,
        device: &Device,
    ) -> Self {
        let means = start.means();
        let n_classes = means.len();
        let d = means.first().map_or(0, Vec::len);
        let n = n_classes.max(1) as f64;
        let centre: Vec<f64> =
            (0..d).map(|j| means.iter().map(|mean| mean[j]).sum::<f64>() / n).collect();
        let direction = |mean: &Vec<f64>| -> Vec<f64> {
            let from_centre: Vec<f64> = mean.iter().zip(&centre).map(|(m, c)| m - c).collect();
            let length = from_centre.iter().map(|v| v * v).sum::<f64>().sqrt();
            from_centre.iter().map(|v| v / length.max(f64::from(LEAST_LENGTH))).collect()
        };
        let directions: Vec<Vec<f64>> = means.iter().map(direction).collect();
        let classes = Matrix::from_fn(d, n_classes, |i, j| directions[j][i] as f32);
        let centre = Matrix::from_fn(1, d, |_, j| centre[j] as f32).to_tensor(device);
        Self { classes: parameters.add(classes.to_tensor(device), rate), centre }
    }

    /// Computes the logits: scaled cosines of the centred features with the class vectors.
    ///
    /// # Shapes
    ///
    /// - `features`: `[batch, d_feature]`
    /// - output: `[batch, classes]`
    pub(super) fn logits(&self, features: Tensor<2>, leaves: &Leaves) -> Tensor<2> {
        let features = features - self.centre.clone();
        let classes = leaves.get(self.classes);
        let cosines = of_length_one(features, 1).matmul(of_length_one(classes, 0));
        cosines.mul_scalar(SCALE)
    }
}

/// Divides vectors along `dim` by their length.
fn of_length_one(vectors: Tensor<2>, dim: usize) -> Tensor<2> {
    let lengths = vectors.clone().square().sum_dim(dim).sqrt().add_scalar(LEAST_LENGTH);
    vectors / lengths
}
