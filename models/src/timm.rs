//! Imports checkpoints of timm and DINOv2 in safetensors. The shape of the network is derived from
//! the shapes of its tensors.

use std::collections::BTreeMap;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use thiserror::Error;

use crate::{
    ATTENTION_TEMPERATURE, Resampling, VitConfig, VitWeights, WeightTensor, WeightsError,
    attention_scale,
};

/// Settings that a checkpoint does not contain.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ImportOptions {
    /// Number of attention heads. Default: that of the published network of this width.
    pub n_heads: Option<usize>,
    /// Side of the input in pixels. Default: the one at which the positions were trained.
    pub image_size: Option<usize>,
    /// Exponent of the attention temperature at another size than the trained one. Default:
    /// [`ATTENTION_TEMPERATURE`] for smaller pictures and networks without LayerScale, 0 otherwise:
    /// networks with LayerScale, such as DINOv2, were trained on crops of many sizes
    /// (docs/networks.md).
    pub attention_temperature: Option<f64>,
}

/// An imported network.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// Parameters, with positions already resampled to the requested image size.
    pub weights: VitWeights<'static>,
    /// Record of the resampling. `None` at the trained size.
    pub resampling: Option<Resampling>,
    /// Tensors that features do not need (classifier, mask token) and that were dropped.
    pub dropped: Vec<String>,
}

/// Reason why a checkpoint cannot be imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The file is not a safetensors file.
    #[error("not a readable safetensors file")]
    Format(#[from] safetensors::SafeTensorError),
    /// A tensor has another type than floats.
    #[error("tensor {name} has type {dtype}, expected F16, BF16 or F32")]
    Dtype {
        /// Its name.
        name: String,
        /// Its type.
        dtype: Dtype,
    },
    /// A tensor that determines the shape of the network has an unexpected shape.
    #[error("tensor {name} has shape {found:?}, expected {expected}")]
    Layout {
        /// Its name.
        name: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape expected.
        expected: &'static str,
    },
    /// The file does not contain the number of heads, and no published network has this shape.
    #[error(
        "the number of attention heads does not stand in the file, and no known network has width {d_model} with {d_mlp} hidden numbers; give it by --heads (timm's num_heads; it divides {d_model})"
    )]
    Heads {
        /// Width of a token.
        d_model: usize,
        /// Width of the hidden layer of a block.
        d_mlp: usize,
    },
    /// The number of positions does not form a square grid.
    #[error(
        "pos_embed has {positions} positions, which is no square grid of patches with 0, 1 or {prefix} leading ones"
    )]
    Positions {
        /// Positions found.
        positions: usize,
        /// Class token and registers.
        prefix: usize,
    },
    /// A tensor is missing, left over or of another shape.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// Tensors of checkpoints that features do not need.
const DROPPED: [&str; 5] =
    ["head.weight", "head.bias", "mask_token", "head_dist.weight", "head_dist.bias"];

/// Imports a checkpoint with timm's or DINOv2's names (`register_tokens` becomes timm's
/// `reg_token`).
///
/// # Errors
///
/// [`ImportError`] names the tensor that is missing, left over, or of another shape or type.
pub fn import_timm(bytes: &[u8], options: ImportOptions) -> Result<Imported, ImportError> {
    let file = SafeTensors::deserialize(bytes)?;
    let mut tensors = BTreeMap::new();
    let mut dropped = Vec::new();
    for (name, view) in file.tensors() {
        if DROPPED.contains(&name.as_str()) {
            dropped.push(name);
            continue;
        }
        let name = if name == "register_tokens" { "reg_token".to_owned() } else { name };
        let values = floats(view.data(), view.dtype())
            .ok_or_else(|| ImportError::Dtype { name: name.clone(), dtype: view.dtype() })?;
        tensors.insert(name, WeightTensor::Single(view.shape().to_vec(), values));
    }
    dropped.sort();
    let trained = derive_config(&tensors, options.n_heads)?;
    let weights = VitWeights::new(trained.clone(), tensors)?;
    match options.image_size {
        Some(size) if size != trained.image_size => {
            let (weights, resampling) = resampled(&weights, size, options.attention_temperature)?;
            Ok(Imported { weights, resampling: Some(resampling), dropped })
        }
        _ => Ok(Imported { weights, resampling: None, dropped }),
    }
}

/// Returns the network for pictures of another size, with its attention scaled to the new number of
/// tokens.
fn resampled(
    weights: &VitWeights<'_>,
    image_size: usize,
    exponent: Option<f64>,
) -> Result<(VitWeights<'static>, Resampling), ImportError> {
    let trained = weights.config();
    let resampled = weights.resampled(image_size)?;
    let n_tokens = resampled.config().n_tokens();
    let n_trained = trained.n_tokens();
    let of_one_size = n_tokens < n_trained && !trained.layer_scale;
    let default = if of_one_size { ATTENTION_TEMPERATURE } else { 0.0 };
    let attention_temperature = exponent.unwrap_or(default);
    let scale = attention_scale(n_tokens, n_trained, attention_temperature);
    let scaled = resampled.with_attention_scale(scale)?;
    let trained_image_size = trained.image_size;
    Ok((scaled, Resampling { trained_image_size, attention_temperature }))
}

fn floats(data: &[u8], dtype: Dtype) -> Option<Vec<f32>> {
    Some(match dtype {
        Dtype::F32 => {
            let four = data.chunks_exact(4);
            four.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        Dtype::F16 => {
            data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        Dtype::BF16 => {
            data.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        _ => return None,
    })
}

/// Derives every size of the network from its tensors.
fn derive_config(
    tensors: &BTreeMap<String, WeightTensor<'_>>,
    n_heads: Option<usize>,
) -> Result<VitConfig, ImportError> {
    let shape = |name: &'static str, rank: usize, expected: &'static str| {
        let Some(tensor) = tensors.get(name) else {
            let expected = Vec::new();
            return Err(WeightsError::Missing { name: name.to_owned(), expected }.into());
        };
        let found = tensor.shape();
        if found.len() == rank && found.iter().all(|&n| n > 0) {
            Ok(found)
        } else {
            Err(ImportError::Layout { name, found, expected })
        }
    };
    let patch = shape("patch_embed.proj.weight", 4, "[d_model, 3, patch, patch]")?;
    let d_model = patch[0];
    let patch_size = patch[3];
    let positions = shape("pos_embed", 3, "[1, positions, d_model]")?[1];
    let d_mlp = shape("blocks.0.mlp.fc1.weight", 2, "[d_mlp, d_model]")?[0];
    let n_registers = match tensors.get("reg_token") {
        Some(_) => shape("reg_token", 3, "[1, registers, d_model]")?[1],
        None => 0,
    };
    let block = |name: &String| name.strip_prefix("blocks.")?.split('.').next()?.parse().ok();
    let depth = 1 + tensors.keys().filter_map(block).max().unwrap_or(0usize);
    let prefix = 1 + n_registers;
    let (n_prefix_positions, grid) = [1, 0, prefix]
        .into_iter()
        .find_map(|lead| Some((lead, square_root(positions.checked_sub(lead)?)?)))
        .ok_or(ImportError::Positions { positions, prefix })?;
    let n_heads = match n_heads {
        Some(n) => n,
        None => heads_of(d_model, d_mlp).ok_or(ImportError::Heads { d_model, d_mlp })?,
    };
    Ok(VitConfig {
        image_size: grid * patch_size,
        patch_size,
        d_model,
        depth,
        n_heads,
        d_mlp,
        n_registers,
        n_prefix_positions,
        layer_scale: tensors.contains_key("blocks.0.ls1.gamma"),
    })
}

/// Width, hidden width and heads of the networks with a class token in timm 1.0, as published.
const PUBLISHED: [[usize; 3]; 12] = [
    [192, 768, 3],    // ViT-Ti
    [256, 1024, 4],   // vit_xsmall
    [384, 1536, 6],   // ViT-S
    [512, 2048, 8],   // vit_medium
    [640, 2560, 10],  // vit_betwixt
    [768, 3072, 12],  // ViT-B
    [896, 3584, 14],  // vit_base_plus
    [1024, 4096, 16], // ViT-L
    [1152, 4304, 16], // SoViT-400m
    [1280, 5120, 16], // ViT-H
    [1408, 6144, 16], // ViT-g
    [1664, 8192, 16], // ViT-G
];

/// Returns the number of heads of the published network of these widths. `None` if there is none.
fn heads_of(d_model: usize, d_mlp: usize) -> Option<usize> {
    let found = PUBLISHED.iter().find(|known| known[..2] == [d_model, d_mlp]);
    found.map(|&[_, _, n_heads]| n_heads)
}

fn square_root(n: usize) -> Option<usize> {
    let root = n.isqrt();
    (root > 0 && root * root == n).then_some(root)
}
