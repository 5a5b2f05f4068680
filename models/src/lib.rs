//! The frozen vision transformer of fmlora: from the bytes of a picture to a feature vector.
//!
//! The data flows in one direction, and each step is a module of its own:
//!
//! 1. [`decode_picture`] turns the bytes of a picture file into an upright RGB picture;
//! 2. [`Preprocess`] resizes, crops and normalises it into numbers;
//! 3. [`Backbone::prefix`] runs the frozen blocks and returns tokens;
//! 4. [`Backbone::suffix`] runs the remaining blocks and returns one feature vector a picture.
//!
//! Weights are imported by their names in timm ([`import_timm`]) and stored in [`VitWeights`]: f16
//! in files, f32 in memory. This crate has no notion of tasks, classes or adapters.

mod attention_temperature;
mod backbone;
mod compute;
mod config;
mod feature;
mod half_tensor;
mod pos_embed;
mod preprocess;
mod side_branch;
mod timm;
mod variants;
mod vit;
mod weights;

pub use attention_temperature::{ATTENTION_TEMPERATURE, Resampling, attention_scale};
pub use backbone::{Backbone, BackboneConfig, BackboneError, Precision};
pub use compute::{
    AdapterKind, ComputeDevice, DeviceSpec, GpuAdapter, Hardware, OpenDeviceError, adapters,
    keep_measurements_in,
};
pub use config::{ConfigError, LAYER_NORM_EPS, VitConfig};
pub use feature::{FeatureConfig, TokenKind};
pub use half_tensor::{HalfTensor, HalfTensorError};
pub use preprocess::decode::{DecodeError, MAX_PIXELS, decode_picture, has_picture_name};
pub use preprocess::folder::{LeftOut, PictureFolder, folder_numbers, is_hidden_name};
pub use preprocess::{Preprocess, PreprocessError};
pub use side_branch::{Observer, Place, SideBranch, SideBranches, Site};
pub use timm::{ImportError, ImportOptions, Imported, import_timm};
pub use variants::{VARIANTS, Variant, variant_of};
pub use vit::{Vit, VitTrace};
pub use weights::{VitWeights, WeightTensor, WeightsError};
