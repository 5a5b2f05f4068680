//! Builds layers from named weights.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::weights::expected_shapes;
use crate::{LAYER_NORM_EPS, VitConfig, VitWeights, WeightTensor};

/// Weights to be moved to one device. Names and shapes are valid: [`VitWeights`] checked both.
pub(super) struct Parameters<'a> {
    config: &'a VitConfig,
    device: &'a Device,
    /// Numbers by name, in f32, in the shape that the layer needs.
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl<'a> Parameters<'a> {
    /// Widens all numbers to f32, and transposes the weights of linear layers: files hold
    /// `[out, in]`, a layer takes `[in, out]`.
    pub(super) fn new(weights: &'a VitWeights<'a>, device: &'a Device) -> Self {
        let config = weights.config();
        let shapes: Vec<(String, Vec<usize>)> = expected_shapes(config).into_iter().collect();
        let tensors = shapes.into_par_iter().map(|(name, shape)| {
            if let [d_out, d_in] = shape[..] {
                let turned = transposed(weights.tensor(&name), d_out, d_in);
                return (name, (vec![d_in, d_out], turned));
            }
            let values = weights.tensor(&name).to_f32().into_owned();
            (name, (shape, values))
        });
        Self { config, device, tensors: tensors.collect() }
    }

    /// Returns a parameter in the layout of the file. Not for the weight of a linear layer.
    pub(super) fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let found = self.tensors.get(name);
        let (shape, values) =
            found.expect("every name asked for is in the list of expected shapes");
        Tensor::from_data(TensorData::new(values.clone(), shape.clone()), self.device)
    }

    /// Returns a linear layer with weight `[in, out]`. Only one call per layer: the numbers are
    /// moved, not copied.
    pub(super) fn linear(&mut self, name: &str) -> Linear {
        let found = self.tensors.remove(&format!("{name}.weight"));
        let (shape, values) = found.expect("a layer is asked for once, by a name of the list");
        let weight = Tensor::<2>::from_data(TensorData::new(values, shape), self.device);
        let bias = self.tensor::<1>(&format!("{name}.bias"));
        Linear { weight: Param::from_tensor(weight), bias: Some(Param::from_tensor(bias)) }
    }

    /// Returns a layer norm with timm's epsilon.
    pub(super) fn layer_norm(&self, name: &str) -> LayerNorm {
        let d_model = self.config.d_model;
        let mut norm = LayerNormConfig::new(d_model).with_epsilon(LAYER_NORM_EPS).init(self.device);
        norm.gamma = Param::from_tensor(self.tensor(&format!("{name}.weight")));
        norm.beta = Some(Param::from_tensor(self.tensor(&format!("{name}.bias"))));
        norm
    }

    /// Returns class token and registers with their positions: `[1, prefix, d]`.
    pub(super) fn prefix_tokens(&self) -> Tensor<3> {
        let config = self.config;
        let class_token = self.tensor::<3>("cls_token");
        let tokens = if config.n_registers > 0 {
            Tensor::cat(vec![class_token, self.tensor("reg_token")], 1)
        } else {
            class_token
        };
        let n_tokens = config.n_prefix_tokens();
        let n_positions = config.n_prefix_positions;
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

/// Transposes `[rows, columns]` to `[columns, rows]` in f32, a tile at a time so that both stay in
/// the cache.
fn transposed(tensor: &WeightTensor<'_>, rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 16;
    let mut turned = vec![0.0; rows * columns];
    // Rows are widened band by band: widening the whole matrix first would cost as much as the
    // transposition.
    let mut widened = vec![0.0; TILE.min(rows) * columns];
    for top in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - top);
        let band = &mut widened[..height * columns];
        match tensor {
            WeightTensor::Half(half) => half.widen_from(top * columns, band),
            WeightTensor::Single(_, values) => {
                band.copy_from_slice(&values[top * columns..][..height * columns]);
            }
        }
        for left in (0..columns).step_by(TILE) {
            for column in left..columns.min(left + TILE) {
                let target = &mut turned[column * rows + top..][..height];
                for (row, value) in target.iter_mut().enumerate() {
                    *value = band[row * columns + column];
                }
            }
        }
    }
    turned
}
