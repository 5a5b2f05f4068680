//! What a training changes: matrices, each with its state of the optimizer.

use burn::optim::{AdamW, AdamWConfig, AdamWState, Optimizer};
use burn::tensor::{Gradients, Tensor};

use super::{TrainError, TrainingConfig};

/// Names a parameter of its [`Parameters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterId(usize);

struct Parameter {
    /// On the plain device.
    value: Tensor<2>,
    /// Factor of the learning rate.
    rate: f64,
    state: Option<AdamWState<2>>,
}

/// All parameters of a training; everything else is a constant to it.
pub struct Parameters {
    items: Vec<Parameter>,
    optimizer: AdamW,
}

/// The parameters of one step, on the autodiff device.
pub struct Leaves(Vec<Tensor<2>>);

impl Leaves {
    /// One of them.
    pub fn get(&self, id: ParameterId) -> Tensor<2> {
        self.0[id.0].clone()
    }
}

impl Parameters {
    /// None yet. The optimizer is AdamW with the constants of its paper (arXiv:1711.05101).
    pub fn new(weight_decay: f64) -> Self {
        let config = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(weight_decay as f32);
        Self { items: Vec::new(), optimizer: config.build() }
    }

    /// Adds a matrix that learns at `rate` times the learning rate.
    pub fn add(&mut self, value: Tensor<2>, rate: f64) -> ParameterId {
        self.items.push(Parameter { value, rate, state: None });
        ParameterId(self.items.len() - 1)
    }

    /// The present value.
    pub fn value(&self, id: ParameterId) -> Tensor<2> {
        self.items[id.0].value.clone()
    }

    /// How many numbers are trained.
    pub fn n_numbers(&self) -> usize {
        self.items.iter().map(|item| item.value.dims().iter().product::<usize>()).sum()
    }

    pub(super) fn leaves(&self) -> Leaves {
        let leaf = |item: &Parameter| item.value.clone().autodiff().require_grad();
        Leaves(self.items.iter().map(leaf).collect())
    }

    /// Clips all gradients by their common norm and steps.
    pub(super) fn step(
        &mut self,
        leaves: &Leaves,
        gradients: &Gradients,
        learning_rate: f64,
        config: &TrainingConfig,
    ) -> Result<(), TrainError> {
        let found: Vec<Option<Tensor<2>>> = leaves.0.iter().map(|l| l.grad(gradients)).collect();
        // One number for the host to wait for, not one a parameter.
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
