//! The two-layer perceptron of a block.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::activation::gelu;

use super::parameters::Parameters;

/// `fc2(gelu(fc1(x)))` with the exact (erf) GELU.
#[derive(Module, Debug)]
pub(super) struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    pub(super) fn new(parameters: &Parameters<'_>, name: &str) -> Self {
        Self {
            fc1: parameters.linear(&format!("{name}.fc1")),
            fc2: parameters.linear(&format!("{name}.fc2")),
        }
    }

    /// # Shapes
    ///
    /// - `tokens` and output: `[batch, tokens, d]`
    pub(super) fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.fc2.forward(gelu(self.fc1.forward(tokens)))
    }
}
