//! The two-layer perceptron of a block.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::activation::gelu;

use super::parameters::Parameters;
use super::product::{halved, product};
use crate::side_branch::{BlockBranches, Site};

/// `fc2(gelu(fc1(x)))` with the exact (erf) GELU.
#[derive(Module, Debug)]
pub(super) struct Mlp {
    pub(super) fc1: Linear,
    pub(super) fc2: Linear,
}

impl Mlp {
    pub(super) fn new(parameters: &mut Parameters<'_>, name: &str) -> Self {
        Self {
            fc1: parameters.linear(&format!("{name}.fc1")),
            fc2: parameters.linear(&format!("{name}.fc2")),
        }
    }

    /// Returns the same layer with weights in f16.
    pub(super) fn halved(&self) -> Self {
        Self { fc1: halved(&self.fc1), fc2: halved(&self.fc2) }
    }

    /// # Shapes
    ///
    /// - `tokens` and output: `[batch, tokens, d]`
    pub(super) fn forward(
        &self,
        tokens: Tensor<3>,
        branches: Option<&mut BlockBranches<'_, '_>>,
    ) -> Tensor<3> {
        let Some(branches) = branches else {
            return product(&self.fc2, gelu(product(&self.fc1, tokens)));
        };
        let inner = branches.added(Site::Fc1, &tokens, product(&self.fc1, tokens.clone()));
        let inner = gelu(inner);
        branches.added(Site::Fc2, &inner, product(&self.fc2, inner.clone()))
    }
}
