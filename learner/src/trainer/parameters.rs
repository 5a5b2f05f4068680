//! Trainable parameters: matrices with the optimizer state of each.

use burn::optim::{AdamW, AdamWConfig, AdamWState, Optimizer};
use burn::tensor::{Gradients, Tensor};

use super::{TrainError, TrainingConfig};

/// Id of a parameter in its [`Parameters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterId(usize);

struct Parameter {
    /// On the device without autodiff.
    value: Tensor<2>,
    /// Factor on the learning rate.
    rate: f64,
    state: Option<AdamWState<2>>,
}

/// All parameters of a training. Every other tensor is a constant.
pub struct Parameters {
    items: Vec<Parameter>,
    optimizer: AdamW,
}

/// The parameters of one step, on the autodiff device.
pub struct Leaves(Vec<Tensor<2>>);

impl Leaves {
    /// Returns a parameter.
    pub fn get(&self, id: ParameterId) -> Tensor<2> {
        self.0[id.0].clone()
    }
}

impl Parameters {
    /// Creates an empty set. The optimizer is AdamW with the constants of its paper
    /// (arXiv:1711.05101).
    pub fn new(weight_decay: f64) -> Self {
        let config = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(weight_decay as f32);
        Self { items: Vec::new(), optimizer: config.build() }
    }

    /// Adds a matrix, with `rate` times the learning rate.
    pub fn add(&mut self, value: Tensor<2>, rate: f64) -> ParameterId {
        self.items.push(Parameter { value, rate, state: None });
        ParameterId(self.items.len() - 1)
    }

    /// Returns the present value of a parameter.
    pub fn value(&self, id: ParameterId) -> Tensor<2> {
        self.items[id.0].value.clone()
    }

    /// Number of trained numbers.
    pub fn n_numbers(&self) -> usize {
        self.items.iter().map(|item| item.value.dims().iter().product::<usize>()).sum()
    }

    pub(super) fn leaves(&self) -> Leaves {
        let leaf = |item: &Parameter| item.value.clone().autodiff().require_grad();
        Leaves(self.items.iter().map(leaf).collect())
    }

    /// Clips the gradients by their global norm and makes a step of the optimizer.
    pub(super) fn step(
        &mut self,
        leaves: &Leaves,
        gradients: &Gradients,
        learning_rate: f64,
        config: &TrainingConfig,
    ) -> Result<(), TrainError> {
        let found: Vec<Option<Tensor<2>>> = leaves.0.iter().map(|l| l.grad(gradients)).collect();
        // Summed on the device: the host waits for one number, not for one of each parameter.
        let squares = found.iter().flatten().map(|g| g.clone().square().sum());
        let Some(total) = squares.reduce(|a, b| a + b) else { return Ok(()) };
        let total = total.try_into_scalar::<f32>();
        let norm = f64::from(total.map_err(|e| TrainError::Device(e.to_string()))?).sqrt();
        let scale = (config.max_gradient_norm / norm.max(1e-12)).min(1.0);
        for (item, gradient) in self.items.iter_mut().zip(found) {
            let Some(gradient) = gradient else { continue };
            let gradient = gradient.mul_scalar(scale);
            let rate = learning_rate * item.rate;
            let state = item.state.take();
            let (value, state) = self.optimizer.step(rate, item.value.clone(), gradient, state);
            (item.value, item.state) = (value, state);
        }
        Ok(())
    }
}
