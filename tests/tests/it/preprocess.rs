//! Preprocessing equals Pillow's within its rounding.

use fmlora_models::{Preprocess, decode_picture};
use fmlora_tests::{Golden, golden_dir, largest_difference};
use image::{Rgb, RgbImage};

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

/// A strip of one pixel by sixty thousand would be two gigabytes if it were resized as a whole.
#[test]
fn strips_are_cut_before_they_are_resized() {
    let strip = RgbImage::from_fn(60_000, 1, |x, _| Rgb([if x < 30_000 { 0 } else { 255 }; 3]));
    let preprocess = Preprocess { size: 112, mean: [0.0; 3], std: [1.0; 3] };
    let numbers = preprocess.apply(&strip);
    assert_eq!(numbers.len(), 3 * 112 * 112);
    // What is left is the middle: dark on the left, light on the right.
    let row = &numbers[..112];
    assert!(row[5] < 0.2 && row[106] > 0.8, "{} and {}", row[5], row[106]);
    // Cutting changes nothing that a less extreme picture shows.
    let wide = RgbImage::from_fn(500, 100, |x, y| Rgb([(x % 256) as u8, (y * 2) as u8, 90]));
    let middle = image::imageops::crop_imm(&wide, 50, 0, 400, 100).to_image();
    assert!(largest_difference(&preprocess.apply(&wide), &preprocess.apply(&middle)) < 1e-6);
}
