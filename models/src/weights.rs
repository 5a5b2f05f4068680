//! Parameters of a [`Vit`](crate::Vit) by timm's names, before they become tensors.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{ConfigError, HalfTensor, HalfTensorError, VitConfig};

/// One parameter: f16 as in this project's files, or f32 as in an f32 checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum WeightTensor<'a> {
    /// f16, as in this project's files.
    Half(HalfTensor<'a>),
    /// f32, as read from a checkpoint: shape and numbers, row-major.
    Single(Vec<usize>, Vec<f32>),
}

/// A shape and exactly the parameters that it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct VitWeights<'a> {
    config: VitConfig,
    tensors: BTreeMap<String, WeightTensor<'a>>,
}

/// Reason why parameters do not fit a shape.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum WeightsError {
    /// The shape itself is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A parameter is missing.
    #[error("tensor {name} is missing, expected shape {expected:?}")]
    Missing {
        /// timm's name.
        name: String,
        /// Its shape.
        expected: Vec<usize>,
    },
    /// A parameter that the shape does not use.
    #[error("tensor {name} (shape {shape:?}) has no place in this network")]
    Unexpected {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A parameter of another shape.
    #[error("tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// timm's name.
        name: String,
        /// The shape found.
        found: Vec<usize>,
        /// The shape expected.
        expected: Vec<usize>,
    },
    /// A parameter that f16 cannot hold, or with a number of bytes that does not fill its shape.
    #[error("tensor {name}: {source}")]
    Half {
        /// timm's name.
        name: String,
        /// The error of the number or shape.
        source: HalfTensorError,
    },
    /// A parameter contains NaN or an infinity.
    #[error("tensor {name} holds a number that is not finite")]
    NotFinite {
        /// timm's name.
        name: String,
    },
}

/// Representation of [`VitWeights`] in a file.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    config: Cow<'a, VitConfig>,
    #[serde(borrow)]
    tensors: BTreeMap<Cow<'a, str>, HalfTensor<'a>>,
}

impl WeightTensor<'_> {
    /// Returns the sizes of the axes.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Half(t) => t.shape(),
            Self::Single(shape, _) => shape.clone(),
        }
    }

    fn is_finite(&self) -> bool {
        match self {
            Self::Half(t) => t.is_finite(),
            Self::Single(_, values) => values.iter().all(|v| v.is_finite()),
        }
    }

    /// Returns the numbers in f32, row-major.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        match self {
            Self::Half(t) => Cow::Owned(t.to_f32()),
            Self::Single(_, values) => Cow::Borrowed(values),
        }
    }
}

impl<'a> VitWeights<'a> {
    /// Checks parameters against a shape.
    ///
    /// # Errors
    ///
    /// [`WeightsError`] names the first tensor that is missing, of another shape, left over or not
    /// finite.
    pub fn new(
        config: VitConfig,
        tensors: BTreeMap<String, WeightTensor<'a>>,
    ) -> Result<Self, WeightsError> {
        config.check()?;
        let expected = expected_shapes(&config);
        for (name, shape) in &expected {
            let Some(tensor) = tensors.get(name) else {
                return Err(WeightsError::Missing { name: name.clone(), expected: shape.clone() });
            };
            if let WeightTensor::Half(half) = tensor {
                let check = half.check();
                check.map_err(|source| WeightsError::Half { name: name.clone(), source })?;
            }
            if tensor.shape() != *shape {
                let found = tensor.shape();
                let expected = shape.clone();
                return Err(WeightsError::Shape { name: name.clone(), found, expected });
            }
            if !tensor.is_finite() {
                return Err(WeightsError::NotFinite { name: name.clone() });
            }
        }
        if let Some((name, tensor)) = tensors.iter().find(|(n, _)| !expected.contains_key(*n)) {
            return Err(WeightsError::Unexpected { name: name.clone(), shape: tensor.shape() });
        }
        Ok(Self { config, tensors })
    }

    /// The shape of the network.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Returns one parameter. `name` must be one of [`expected_shapes`].
    pub(crate) fn tensor(&self, name: &str) -> &WeightTensor<'a> {
        &self.tensors[name]
    }

    /// Returns all parameters without borrows.
    pub(crate) fn owned_tensors(&self) -> BTreeMap<String, WeightTensor<'static>> {
        let owned = |tensor: &WeightTensor<'_>| match tensor {
            WeightTensor::Half(t) => WeightTensor::Half(t.clone().into_owned()),
            WeightTensor::Single(shape, values) => {
                WeightTensor::Single(shape.clone(), values.clone())
            }
        };
        self.tensors.iter().map(|(name, tensor)| (name.clone(), owned(tensor))).collect()
    }

    /// Returns the same network with every number rounded to f16, as files store it.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Half`] names a tensor with a number beyond the range of f16.
    pub fn to_half(&self) -> Result<VitWeights<'static>, WeightsError> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in &self.tensors {
            let half = match tensor {
                WeightTensor::Half(t) => t.clone().into_owned(),
                WeightTensor::Single(shape, values) => HalfTensor::from_f32(shape, values)
                    .map_err(|source| WeightsError::Half { name: name.clone(), source })?,
            };
            tensors.insert(name.clone(), WeightTensor::Half(half));
        }
        Ok(VitWeights { config: self.config.clone(), tensors })
    }

    /// Small random parameters, for tests and benchmarks: the same `seed` gives the same network.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Config`] if the shape is invalid.
    pub fn random(config: VitConfig, seed: u64) -> Result<VitWeights<'static>, WeightsError> {
        config.check()?;
        let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
        let mut tensors = BTreeMap::new();
        for (name, shape) in expected_shapes(&config) {
            let is_gain = name.contains("norm") && name.ends_with("weight");
            let values = (0..shape.iter().product::<usize>())
                .map(|_| {
                    // The sum of four uniform numbers approximates a normal one, here with
                    // deviation 0.06.
                    let sum: f32 = (0..4).map(|_| uniform(&mut state) - 0.5).sum();
                    sum * 0.1 + f32::from(u8::from(is_gain))
                })
                .collect();
            tensors.insert(name, WeightTensor::Single(shape, values));
        }
        Ok(VitWeights { config, tensors })
    }
}

/// Returns the next number of splitmix64 in [0, 1).
fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
}

/// Returns name and shape of every parameter, in timm's layout (a linear weight is `[out, in]`).
pub(crate) fn expected_shapes(config: &VitConfig) -> BTreeMap<String, Vec<usize>> {
    let d = config.d_model;
    let p = config.patch_size;
    let positions = config.n_prefix_positions + config.n_patches();
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut add = |name: String, shape: &[usize]| shapes.insert(name, shape.to_vec());
    add("cls_token".into(), &[1, 1, d]);
    add("pos_embed".into(), &[1, positions, d]);
    if config.n_registers > 0 {
        add("reg_token".into(), &[1, config.n_registers, d]);
    }
    add("patch_embed.proj.weight".into(), &[d, 3, p, p]);
    add("patch_embed.proj.bias".into(), &[d]);
    for i in 0..config.depth {
        let mut pair = |name: &str, d_out: usize, d_in: usize| {
            add(format!("blocks.{i}.{name}.weight"), &[d_out, d_in]);
            add(format!("blocks.{i}.{name}.bias"), &[d_out]);
        };
        pair("attn.qkv", 3 * d, d);
        pair("attn.proj", d, d);
        pair("mlp.fc1", config.d_mlp, d);
        pair("mlp.fc2", d, config.d_mlp);
        for norm in ["norm1", "norm2"] {
            add(format!("blocks.{i}.{norm}.weight"), &[d]);
            add(format!("blocks.{i}.{norm}.bias"), &[d]);
        }
        if config.layer_scale {
            add(format!("blocks.{i}.ls1.gamma"), &[d]);
            add(format!("blocks.{i}.ls2.gamma"), &[d]);
        }
    }
    add("norm.weight".into(), &[d]);
    add("norm.bias".into(), &[d]);
    shapes
}

impl Serialize for VitWeights<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in &self.tensors {
            let WeightTensor::Half(half) = tensor else {
                let why = format!("tensor {name} is f32: round it with `to_half` first");
                return Err(serde::ser::Error::custom(why));
            };
            tensors.insert(Cow::Borrowed(name.as_str()), half.clone());
        }
        Stored { config: Cow::Borrowed(&self.config), tensors }.serialize(serializer)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for VitWeights<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        let tensors = stored.tensors.into_iter();
        let tensors = tensors.map(|(n, t)| (n.into_owned(), WeightTensor::Half(t))).collect();
        VitWeights::new(stored.config.into_owned(), tensors).map_err(serde::de::Error::custom)
    }
}
