//! Preprocessing equals Pillow's within its rounding.

use fmlora_models::{Preprocess, decode_picture};
use fmlora_tests::{Golden, golden_dir, largest_difference};

#[test]
fn every_picture_becomes_the_golden_numbers() {
    let folder = golden_dir().join("preprocess");
    for stem in ["landscape", "portrait", "tiny"] {
        let bytes = std::fs::read(folder.join(format!("{stem}.png"))).expect("a picture");
        let picture = decode_picture(&bytes).expect("a sound picture");
        let found = Preprocess::imagenet(112).apply(&picture);
        let golden = Golden::load(&folder.join(format!("{stem}.safetensors")));
        let expected = golden.tensor("output").1;
        let largest = largest_difference(&found, expected);
        let sum: f32 = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).sum();
        let mean = sum / found.len() as f32;
        eprintln!("{stem}: mean {mean:.4}, largest {largest:.3}");
        assert!(mean <= 0.02 && largest <= 0.25, "{stem}: mean {mean}, largest {largest}");
    }
}
