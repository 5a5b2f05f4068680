//! The network equals PyTorch: per block and at the end, on every golden case.

use burn::tensor::{Device, Tensor, TensorData};
use fmlora_models::{ImportOptions, Vit, import_timm};
use fmlora_tests::{Golden, golden_dir, relative_difference};

/// f32 sums in another order; the network is six blocks deep at most.
const TOLERANCE: f32 = 1e-4;

struct Case {
    name: &'static str,
    options: ImportOptions,
}

#[test]
fn every_golden_case_is_reproduced() {
    let heads = ImportOptions { n_heads: Some(3), image_size: None };
    let cases = [
        Case { name: "vit-plain", options: heads },
        Case { name: "vit-layerscale", options: heads },
        Case { name: "vit-registers", options: heads },
        Case { name: "vit-resampled", options: ImportOptions { image_size: Some(42), ..heads } },
    ];
    let mut failures = Vec::new();
    for case in cases {
        let folder = golden_dir().join(case.name);
        let bytes = std::fs::read(folder.join("weights.safetensors")).expect("weights of a case");
        let imported = import_timm(&bytes, case.options).expect("a timm checkpoint");
        let vit = Vit::new(&imported.weights, &Device::flex());
        compare(case.name, &vit, &Golden::load(&folder.join("trace.safetensors")), &mut failures);
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

fn compare(case: &str, vit: &Vit, golden: &Golden, failures: &mut Vec<String>) {
    let (shape, values) = golden.tensor("input");
    let images = TensorData::new(values.to_vec(), shape.to_vec());
    let trace = vit.trace(Tensor::<4>::from_data(images, &Device::flex()));
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
        let found = found.into_vec::<f32>().expect("f32");
        let difference = relative_difference(&found, golden.tensor(name).1);
        println!("{case} {name}: {difference:.1e}");
        // Written so that a NaN fails too.
        if !(difference <= TOLERANCE) {
            failures.push(format!("{case} {name}: {difference:.1e} of the largest, allowed 1e-4"));
        }
        compared += 1;
    }
    assert!(compared >= 2, "{case} compares {compared} tensors");
}
