//! Named networks.

use crate::VitConfig;

/// A network with a name in the literature or in this project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// Name, in timm's spelling if timm has one.
    pub name: &'static str,
    image_size: usize,
    patch_size: usize,
    d_model: usize,
    depth: usize,
    n_heads: usize,
    layer_scale: bool,
}

/// All named networks.
pub const VARIANTS: [Variant; 5] = [
    Variant::new("vit_tiny_patch16_224", 224, 16, 192, 12, 3, false),
    Variant::new("vit_small_patch16_224", 224, 16, 384, 12, 6, false),
    Variant::new("vit_base_patch16_224", 224, 16, 768, 12, 12, false),
    Variant::new("vit_small_patch14_dinov2", 518, 14, 384, 12, 6, true),
    Variant::new("vit_small6_patch14_112", 112, 14, 384, 6, 6, false),
];

impl Variant {
    const fn new(
        name: &'static str,
        image_size: usize,
        patch_size: usize,
        d_model: usize,
        depth: usize,
        n_heads: usize,
        layer_scale: bool,
    ) -> Self {
        Self { name, image_size, patch_size, d_model, depth, n_heads, layer_scale }
    }

    /// Returns the shape of the network.
    pub fn config(&self) -> VitConfig {
        VitConfig {
            image_size: self.image_size,
            patch_size: self.patch_size,
            d_model: self.d_model,
            depth: self.depth,
            n_heads: self.n_heads,
            d_mlp: 4 * self.d_model,
            n_registers: 0,
            n_prefix_positions: 1,
            layer_scale: self.layer_scale,
        }
    }
}

/// Returns the name of a shape, at any image size. `None` if it has no name.
pub fn variant_of(config: &VitConfig) -> Option<&'static str> {
    VARIANTS
        .iter()
        .find(|v| VitConfig { image_size: config.image_size, ..v.config() } == *config)
        .map(|v| v.name)
}
