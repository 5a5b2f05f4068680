//! Import of checkpoints: shapes are derived, and every mismatch is named in the error.

use std::collections::BTreeMap;

use fmlora_models::{
    ATTENTION_TEMPERATURE, ImportOptions, VARIANTS, VitConfig, import_timm, variant_of,
};
use fmlora_tests::golden_dir;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};

type Tensors = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

const HEADS: ImportOptions =
    ImportOptions { n_heads: Some(3), image_size: None, attention_temperature: None };

fn checkpoint() -> Tensors {
    let path = golden_dir().join("vit-layerscale/weights.safetensors");
    let bytes = std::fs::read(path).expect("a golden checkpoint");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let tensors = file.tensors().into_iter();
    tensors.map(|(name, v)| (name, (v.shape().to_vec(), v.data().to_vec()))).collect()
}

fn written(tensors: &Tensors) -> Vec<u8> {
    let view = |(shape, data): &'static (Vec<usize>, Vec<u8>)| {
        TensorView::new(Dtype::F32, shape.clone(), data).expect("numbers fill the shape")
    };
    // Leaked, a few kB in a test process, to get views with a static lifetime.
    let tensors: &'static Tensors = Box::leak(Box::new(tensors.clone()));
    serialize(tensors.iter().map(|(n, t)| (n, view(t))), None).expect("writing in memory")
}

#[test]
fn the_shape_follows_from_the_tensors() {
    let mut tensors = checkpoint();
    tensors.insert("head.weight".into(), (vec![1, 1], vec![0; 4]));
    tensors.insert("mask_token".into(), (vec![1, 1], vec![0; 4]));
    let imported = import_timm(&written(&tensors), HEADS).expect("a sound checkpoint");
    let expected = VitConfig {
        image_size: 28,
        patch_size: 14,
        d_model: 48,
        depth: 2,
        n_heads: 3,
        d_mlp: 192,
        n_registers: 0,
        n_prefix_positions: 1,
        layer_scale: true,
    };
    assert_eq!(imported.weights.config(), &expected);
    assert_eq!(imported.dropped, ["head.weight", "mask_token"]);
}

#[test]
fn a_misfit_is_named() {
    type Change = fn(&mut Tensors);
    let cases: [(&str, &str, Change); 7] = [
        ("missing", "blocks.1.attn.proj.bias is missing", |t| {
            t.remove("blocks.1.attn.proj.bias");
        }),
        ("no patches", "patch_embed.proj.weight is missing", |t| {
            t.remove("patch_embed.proj.weight");
        }),
        ("left over", "blocks.0.mlp.w12.weight", |t| {
            t.insert("blocks.0.mlp.w12.weight".into(), (vec![1], vec![0; 4]));
        }),
        ("another shape", "norm.bias has shape [47], expected [48]", |t| {
            t.insert("norm.bias".into(), (vec![47], vec![0; 47 * 4]));
        }),
        ("no square", "pos_embed has 7 positions", |t| {
            t.insert("pos_embed".into(), (vec![1, 7, 48], vec![0; 7 * 48 * 4]));
        }),
        ("not finite", "blocks.0.norm1.weight holds a number that is not finite", |t| {
            let nan: Vec<u8> = (0..48).flat_map(|_| f32::NAN.to_le_bytes()).collect();
            t.insert("blocks.0.norm1.weight".into(), (vec![48], nan));
        }),
        ("gap between blocks", "blocks.2.", |t| {
            let copy = t["blocks.1.norm1.bias"].clone();
            t.insert("blocks.2.norm1.bias".into(), copy);
        }),
    ];
    for (case, expected, change) in cases {
        let mut tensors = checkpoint();
        change(&mut tensors);
        let error = import_timm(&written(&tensors), HEADS).expect_err(case).to_string();
        assert!(error.contains(expected), "{case}: {error}");
    }
    assert!(import_timm(b"no safetensors", HEADS).is_err());
}

/// Returns a network of one block, given its width and the hidden width of its MLP.
fn one_block(d_model: usize, d_mlp: usize) -> Vec<u8> {
    let shapes: [(&str, &[usize]); 18] = [
        ("cls_token", &[1, 1, d_model]),
        ("pos_embed", &[1, 2, d_model]),
        ("patch_embed.proj.weight", &[d_model, 3, 2, 2]),
        ("patch_embed.proj.bias", &[d_model]),
        ("norm.weight", &[d_model]),
        ("norm.bias", &[d_model]),
        ("blocks.0.norm1.weight", &[d_model]),
        ("blocks.0.norm1.bias", &[d_model]),
        ("blocks.0.norm2.weight", &[d_model]),
        ("blocks.0.norm2.bias", &[d_model]),
        ("blocks.0.attn.qkv.weight", &[3 * d_model, d_model]),
        ("blocks.0.attn.qkv.bias", &[3 * d_model]),
        ("blocks.0.attn.proj.weight", &[d_model, d_model]),
        ("blocks.0.attn.proj.bias", &[d_model]),
        ("blocks.0.mlp.fc1.weight", &[d_mlp, d_model]),
        ("blocks.0.mlp.fc1.bias", &[d_mlp]),
        ("blocks.0.mlp.fc2.weight", &[d_model, d_mlp]),
        ("blocks.0.mlp.fc2.bias", &[d_model]),
    ];
    let mut tensors = Tensors::new();
    for (name, shape) in shapes {
        let zeros = vec![0; 4 * shape.iter().product::<usize>()];
        tensors.insert(name.to_owned(), (shape.to_vec(), zeros));
    }
    written(&tensors)
}

#[test]
fn heads_are_those_of_a_published_network_or_are_asked_for() {
    let n_heads = |d_model, d_mlp, n_heads| {
        let options = ImportOptions { n_heads, ..ImportOptions::default() };
        import_timm(&one_block(d_model, d_mlp), options).map(|net| net.weights.config().n_heads)
    };
    for (d_model, d_mlp, expected) in [(192, 768, 3), (384, 1536, 6), (1152, 4304, 16)] {
        let found = n_heads(d_model, d_mlp, None).expect("a published network");
        assert_eq!(found, expected, "{d_model}");
    }
    let error = n_heads(320, 640, None).expect_err("an unknown network").to_string();
    assert!(error.contains("--heads") && error.contains("width 320"), "{error}");
    // The width of a known network is not enough on its own.
    assert!(n_heads(384, 768, None).is_err());
    assert_eq!(n_heads(320, 640, Some(4)).expect("heads are given"), 4);
    assert!(n_heads(320, 640, Some(3)).is_err(), "320 is no multiple of 3");
}

#[test]
fn a_smaller_picture_gets_an_attention_temperature_where_there_is_no_layer_scale() {
    let imported = |case: &str, image_size, attention_temperature| {
        let path = golden_dir().join(case).join("weights.safetensors");
        let bytes = std::fs::read(path).expect("a golden checkpoint");
        let options =
            ImportOptions { image_size: Some(image_size), attention_temperature, ..HEADS };
        import_timm(&bytes, options).expect("a sound checkpoint")
    };
    let exponent = |case, image_size, given| {
        let resampling = imported(case, image_size, given).resampling;
        resampling.map(|r| (r.trained_image_size, r.attention_temperature))
    };
    assert_eq!(exponent("vit-plain", 28, Some(2.0)), None, "the trained size");
    assert_eq!(exponent("vit-plain", 14, None), Some((28, ATTENTION_TEMPERATURE)));
    assert_eq!(exponent("vit-plain", 14, Some(2.5)), Some((28, 2.5)));
    assert_eq!(exponent("vit-plain", 42, None), Some((28, 0.0)));
    assert_eq!(exponent("vit-resampled", 42, None), Some((56, 0.0)), "with LayerScale");
    let weights = |exponent| imported("vit-plain", 14, exponent).weights.to_half();
    let plain = imported("vit-plain", 28, None).weights.resampled(14).expect("one patch");
    assert_eq!(weights(Some(0.0)), plain.to_half());
    assert_ne!(weights(None), plain.to_half());
}

/// Number of parameters without classifier and mask token, as timm counts them.
#[test]
fn named_networks_have_their_published_sizes() {
    let sizes = [5_524_416, 21_665_664, 85_798_656, 22_056_192, 10_899_072];
    for (variant, size) in VARIANTS.iter().zip(sizes) {
        let config = variant.config();
        config.check().expect("a named network is possible");
        assert_eq!(config.n_parameters(), size, "{}", variant.name);
        assert_eq!(variant_of(&config), Some(variant.name));
    }
}
