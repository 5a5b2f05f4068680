//! Products of tokens with weights, in the precision of the weight.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{DType, FloatDType, Tensor};

/// Computes `x W + b`. With a weight in f16 the product is computed in f16; input and output are
/// f32, so that sums over blocks, norms and softmax keep their precision.
///
/// # Shapes
///
/// - `input`: `[batch, tokens, d_in]`, f32
/// - output: `[batch, tokens, d_out]`, f32
pub(super) fn product(layer: &Linear, input: Tensor<3>) -> Tensor<3> {
    let weight = layer.weight.val();
    if weight.dtype() != DType::F16 {
        return layer.forward(input);
    }
    let output = input.cast(FloatDType::F16).matmul(weight.unsqueeze::<3>());
    let output = output.cast(FloatDType::F32);
    match &layer.bias {
        Some(bias) => output + bias.val().unsqueeze::<3>(),
        None => output,
    }
}

/// Returns the same layer with its weight in f16.
pub(super) fn halved(layer: &Linear) -> Linear {
    let weight = layer.weight.val().cast(FloatDType::F16);
    Linear { weight: Param::from_tensor(weight), bias: layer.bias.clone() }
}
