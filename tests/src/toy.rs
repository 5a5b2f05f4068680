//! A network small enough to train in a test, and pictures that differ by class.

use burn::tensor::{Device, Tensor, TensorData};
use fmlora_learner::TokenCache;
use fmlora_models::{Backbone, BackboneConfig, VitConfig, VitWeights};

/// Side of the toy's pictures in pixels.
const SIDE: usize = 16;

/// Returns [`toy_backbone_on`] the processor.
pub fn toy_backbone() -> Backbone {
    toy_backbone_on(&Device::flex())
}

/// Returns a random frozen network of four blocks, of which the last two can be adapted.
///
/// # Panics
///
/// Never: the shape fits.
pub fn toy_backbone_on(device: &Device) -> Backbone {
    let config = VitConfig {
        image_size: SIDE,
        patch_size: 8,
        d_model: 24,
        depth: 4,
        n_heads: 3,
        d_mlp: 48,
        n_registers: 1,
        n_prefix_positions: 1,
        layer_scale: true,
    };
    let weights = VitWeights::random(config.clone(), 5).expect("a sound shape");
    let backbone = BackboneConfig::of(&config);
    Backbone::new(&weights, backbone, device).expect("the default fits every network")
}

/// Returns tokens of `n` pictures of each of `n_classes` classes, and their labels. Every class is
/// a wave with its own direction and colour, under noise. The same `seed` gives the same pictures.
pub fn toy_tokens(
    backbone: &Backbone,
    n_classes: usize,
    n: usize,
    seed: u64,
) -> (TokenCache, Vec<usize>) {
    let mut noise = seed;
    let mut uniform = move || {
        noise =
            noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (noise >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for label in 0..n_classes {
        let angle = label as f32 * 0.7;
        for _ in 0..n {
            let phase = uniform();
            for colour in 0..3 {
                for at in 0..SIDE * SIDE {
                    let (x, y) = ((at % SIDE) as f32, (at / SIDE) as f32);
                    let along = (x * angle.cos() + y * angle.sin()) * 0.8 + phase;
                    let tint = if label % 3 == colour { 1.0 } else { 0.4 };
                    pixels.push(tint * along.sin() + 1.5 * uniform());
                }
            }
            labels.push(label);
        }
    }
    let data = TensorData::new(pixels, [labels.len(), 3, SIDE, SIDE]);
    let tokens = backbone.prefix(Tensor::from_data(data, backbone.device()));
    let [_, n_tokens, d] = tokens.dims();
    let mut cache = TokenCache::new(n_tokens, d);
    let numbers = tokens.into_data().try_into_vec::<f32>().expect("f32");
    cache.push(&numbers).expect("whole pictures");
    (cache, labels)
}
