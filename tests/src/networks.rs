//! Networks for tests and benchmarks.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use fmlora_learner::format::decode_base;
use fmlora_learner::{Adapter, AdapterConfig, Matrix, SharedBases, SharedBasis};
use fmlora_models::{Backbone, BackboneConfig, Place, VARIANTS, VitConfig, VitWeights};

/// Returns [`embedded_network_on`] the processor.
pub fn embedded_network() -> Backbone {
    embedded_network_on(&Device::flex())
}

/// Returns the network that is embedded in `fmlora-edge`.
///
/// # Panics
///
/// If the project's base is missing or invalid.
pub fn embedded_network_on(device: &Device) -> Backbone {
    let path = "../models/base/vit_small6_patch14_140.fmlb";
    let file = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the base");
    let (base, _) = decode_base(&file).expect("a sound base");
    Backbone::new(&base.weights, base.backbone, device).expect("a sound base")
}

/// Returns a named network with random weights on the processor, at its own image size or another
/// one.
///
/// # Panics
///
/// If no network has the name, or if its patches do not fit the size.
pub fn random_network(name: &str, image_size: Option<usize>) -> Backbone {
    let variant = VARIANTS.iter().find(|v| v.name == name).expect("a network with a name");
    let named = variant.config();
    let config = VitConfig { image_size: image_size.unwrap_or(named.image_size), ..named };
    let weights = VitWeights::random(config, 1).expect("a sound shape");
    let backbone = BackboneConfig::of(weights.config());
    Backbone::new(&weights, backbone, &Device::flex()).expect("a sound network")
}

/// Returns numbers like those of preprocessed pictures, for `n_pictures` pictures.
pub fn wave_pixels(backbone: &Backbone, n_pictures: usize) -> Vec<f32> {
    (0..n_pictures * backbone.n_pixels()).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// Returns small numbers without a pattern that would make a product faster.
pub fn wave_matrix(rows: usize, columns: usize, step: f32) -> Matrix {
    Matrix::from_fn(rows, columns, |i, j| 0.05 * ((i * columns + j) as f32 * step).sin())
}

/// Returns an adapter in which no task has been learned: bases of one rank on query and value of
/// all adapted blocks, and a prompt.
pub fn blank_adapter(backbone: &Backbone, rank: usize, n_prompt_tokens: usize) -> Adapter {
    let vit = backbone.vit_config();
    let layers = AdapterConfig { rank, ..AdapterConfig::default() };
    let places = layers.places(backbone.config().first_adapted_block, vit);
    let of_layer = |&place: &Place| {
        let a = wave_matrix(place.site.d_out(vit), rank, 1.3);
        (place, SharedBasis { a, b: wave_matrix(place.site.d_in(vit), rank, 0.7) })
    };
    let bases = SharedBases::new(rank, places.iter().map(of_layer).collect());
    Adapter::new(Arc::new(bases), Some(wave_matrix(n_prompt_tokens, vit.d_model, 0.9)))
}
