//! From named numbers to the layers that hold them.

use burn::module::Param;
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Tensor, TensorData};

use crate::weights::expected_shapes;
use crate::{LAYER_NORM_EPS, VitWeights};

/// Weights on their way to one device. Names exist and shapes fit: [`VitWeights`] checked both.
pub(super) struct Parameters<'a> {
    weights: &'a VitWeights<'a>,
    device: &'a Device,
}

impl<'a> Parameters<'a> {
    pub(super) fn new(weights: &'a VitWeights<'a>, device: &'a Device) -> Self {
        Self { weights, device }
    }

    /// The parameter as it stands in the file.
    pub(super) fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let shape = expected_shapes(self.weights.config()).remove(name);
        let shape = shape.expect("every name asked for is in the list of expected shapes");
        let values = self.weights.values(name).into_owned();
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }

    /// A linear layer; files hold `[out, in]`, the layer wants `[in, out]`.
    pub(super) fn linear(&self, name: &str) -> Linear {
        let weight = self.tensor::<2>(&format!("{name}.weight")).transpose();
        let [d_in, d_out] = weight.dims();
        // Written out in its new order: a product over a transposed view is slower on the CPU.
        let data = weight.into_data();
        let weight = Tensor::<2>::from_data(data, self.device).reshape([d_in, d_out]);
        let bias = self.tensor::<1>(&format!("{name}.bias"));
        Linear { weight: Param::from_tensor(weight), bias: Some(Param::from_tensor(bias)) }
    }

    /// A layer norm with timm's epsilon.
    pub(super) fn layer_norm(&self, name: &str) -> LayerNorm {
        let d_model = self.weights.config().d_model;
        let mut norm = LayerNormConfig::new(d_model).with_epsilon(LAYER_NORM_EPS).init(self.device);
        norm.gamma = Param::from_tensor(self.tensor(&format!("{name}.weight")));
        norm.beta = Some(Param::from_tensor(self.tensor(&format!("{name}.bias"))));
        norm
    }

    /// Class token and registers with the positions that belong to them: `[1, prefix, d]`.
    pub(super) fn prefix_tokens(&self) -> Tensor<3> {
        let config = self.weights.config();
        let class_token = self.tensor::<3>("cls_token");
        let tokens = if config.n_registers > 0 {
            Tensor::cat(vec![class_token, self.tensor("reg_token")], 1)
        } else {
            class_token
        };
        let (n_tokens, n_positions) = (config.n_prefix_tokens(), config.n_prefix_positions);
        if n_positions == 0 {
            return tokens;
        }
        let positions = self.tensor::<3>("pos_embed").narrow(1, 0, n_positions);
        let with_position = tokens.clone().narrow(1, 0, n_positions) + positions;
        if n_positions == n_tokens {
            return with_position;
        }
        let without = tokens.narrow(1, n_positions, n_tokens - n_positions);
        Tensor::cat(vec![with_position, without], 1)
    }
}
