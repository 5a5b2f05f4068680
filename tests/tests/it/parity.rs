//! Parity with PyTorch: the tokens after each block and the final feature, on every golden case.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use fmlora_learner::format::decode_base;
use fmlora_models::{Backbone, BackboneConfig, ImportOptions, Vit, import_timm};
use fmlora_tests::{Golden, data_dir, golden_dir, on_every_device, relative_difference};

/// f32 sums in another order; the network is at most six blocks deep.
const TOLERANCE: f32 = 1e-4;

struct Case {
    name: &'static str,
    options: ImportOptions,
}

on_every_device!(every_golden_case_is_reproduced);

fn every_golden_case_is_reproduced(device: &Device) {
    let heads = ImportOptions { n_heads: Some(3), image_size: None, attention_temperature: None };
    // timm resamples only the positions.
    let resampled =
        ImportOptions { image_size: Some(42), attention_temperature: Some(0.0), ..heads };
    let cases = [
        Case { name: "vit-plain", options: heads },
        Case { name: "vit-layerscale", options: heads },
        Case { name: "vit-registers", options: heads },
        Case { name: "vit-resampled", options: resampled },
    ];
    let mut failures = Vec::new();
    for case in cases {
        let folder = golden_dir().join(case.name);
        let bytes = std::fs::read(folder.join("weights.safetensors")).expect("weights of a case");
        let imported = import_timm(&bytes, case.options).expect("a timm checkpoint");
        let vit = Vit::new(&imported.weights, device);
        compare(
            case.name,
            &vit,
            &Golden::load(&folder.join("trace.safetensors")),
            device,
            &mut failures,
        );
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

fn base_of_112_pixels() -> Vit {
    let path = "../models/base/vit_small6_patch14_112.fmlb";
    let file = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the base");
    let (base, _) = decode_base(&file).expect("a sound base");
    Vit::new(&base.weights, &Device::flex())
}

#[test]
fn the_base_of_112_pixels_is_reproduced() {
    let golden = Golden::load(&golden_dir().join("vit-base/trace.safetensors"));
    let mut failures = Vec::new();
    compare("vit-base", &base_of_112_pixels(), &golden, &Device::flex(), &mut failures);
    assert!(failures.is_empty(), "{failures:#?}");
}

/// The same on real pictures, which are not part of the project.
#[test]
fn the_base_of_112_pixels_is_reproduced_on_real_pictures() {
    let Some(data) = data_dir() else { return };
    let trace = data.join("../golden/vit-pretrained/trace.safetensors");
    if !trace.is_file() {
        eprintln!("skipped: no {}", trace.display());
        return;
    }
    let mut failures = Vec::new();
    compare(
        "vit-pretrained",
        &base_of_112_pixels(),
        &Golden::load(&trace),
        &Device::flex(),
        &mut failures,
    );
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Prefix and suffix of the split network together compute the whole network.
#[test]
fn prefix_and_suffix_make_the_whole() {
    let bytes = std::fs::read(golden_dir().join("vit-registers/weights.safetensors"));
    let options = ImportOptions { n_heads: Some(3), image_size: None, attention_temperature: None };
    let imported = import_timm(&bytes.expect("weights of a case"), options).expect("a checkpoint");
    let device = Device::flex();
    let mut config = BackboneConfig::of(imported.weights.config());
    let golden = Golden::load(&golden_dir().join("vit-registers/trace.safetensors"));
    let (shape, values) = golden.tensor("input");
    let images =
        || Tensor::<4>::from_data(TensorData::new(values.to_vec(), shape.to_vec()), &device);
    config.feature.blocks = vec![1];
    let mut features = Vec::new();
    for first_adapted_block in [0, 1] {
        config.first_adapted_block = first_adapted_block;
        let backbone = Backbone::new(&imported.weights, config.clone(), &device).expect("fits");
        let feature = backbone.suffix(backbone.prefix(images())).into_data();
        features.push(feature.try_into_vec::<f32>().expect("f32"));
    }
    assert_eq!(features[0], features[1]);
    // Class token and mean of the patches (without class token and registers), each normalised.
    let (shape, tokens) = golden.tensor("tokens.block1");
    let [n_tokens, d] = [shape[1], shape[2]];
    let patches: Vec<f32> = (0..d)
        .map(|j| (5..n_tokens).map(|t| tokens[t * d + j]).sum::<f32>() / (n_tokens - 5) as f32)
        .collect();
    let expected = [normalised(&tokens[..d]), normalised(&patches)].concat();
    let difference = relative_difference(&features[0][..2 * d], &expected);
    assert!(difference < TOLERANCE, "{difference}");
}

fn normalised(v: &[f32]) -> Vec<f32> {
    let mean = v.iter().sum::<f32>() / v.len() as f32;
    let variance = v.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / v.len() as f32;
    v.iter().map(|x| (x - mean) / (variance + 1e-6).sqrt()).collect()
}

fn compare(case: &str, vit: &Vit, golden: &Golden, device: &Device, failures: &mut Vec<String>) {
    let (shape, values) = golden.tensor("input");
    let images = TensorData::new(values.to_vec(), shape.to_vec());
    let trace = vit.trace(Tensor::<4>::from_data(images, device));
    let mut compared = 0;
    for name in golden.names().filter(|&n| n != "input") {
        let found = match name {
            "tokens.embed" => trace.embedded.clone().into_data(),
            "feature" => trace.feature.clone().into_data(),
            block => {
                let index = block.strip_prefix("tokens.block").expect("the name of a block");
                let index: usize = index.parse().expect("a block's number");
                trace.blocks[index].clone().into_data()
            }
        };
        let found = found.try_into_vec::<f32>().expect("f32");
        let difference = relative_difference(&found, golden.tensor(name).1);
        eprintln!("{case} {name}: {difference:.1e}");
        if difference.is_nan() || difference > TOLERANCE {
            failures.push(format!("{case} {name}: {difference:.1e} of the largest, allowed 1e-4"));
        }
        compared += 1;
    }
    assert!(golden.names().any(|n| n == "feature"), "{case} has no feature");
    assert!(compared >= 2, "{case} compares {compared} tensors");
}
