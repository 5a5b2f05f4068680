//! Parity of preprocessing with Pillow, up to rounding.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use fmlora_models::{Preprocess, decode_picture};
use fmlora_tests::{Golden, golden_dir, largest_difference};
use image::{Rgb, RgbImage};

#[test]
fn every_picture_becomes_the_golden_numbers() {
    let folder = golden_dir().join("preprocess");
    let photographs = ["landscape", "portrait", "tiny"];
    let busy = ["noise", "noise-tall", "noise-tiny", "stripes", "stripes-tall"];
    for stem in photographs.into_iter().chain(busy) {
        let bytes = std::fs::read(folder.join(format!("{stem}.png"))).expect("a picture");
        let picture = decode_picture(&bytes).expect("a sound picture");
        let found = Preprocess::imagenet(112).apply(&picture);
        let golden = Golden::load(&folder.join(format!("{stem}.safetensors")));
        let expected = golden.tensor("output").1;
        // In steps of a byte: both round to bytes twice, with differently rounded weights.
        let std = [0.229, 0.224, 0.225];
        let steps = |(place, (a, b)): (usize, (&f32, &f32))| {
            (a - b).abs() * 255.0 * std[place / (112 * 112)]
        };
        let largest = found.iter().zip(expected).enumerate().map(steps).fold(0.0, f32::max);
        assert!(largest <= 1.01, "{stem}: {largest} steps");
    }
}

/// A strip of one pixel by sixty thousand would take two gigabytes if it were resized as a whole.
#[test]
fn strips_are_cut_before_they_are_resized() {
    let strip = RgbImage::from_fn(60_000, 1, |x, _| Rgb([if x < 30_000 { 0 } else { 255 }; 3]));
    let preprocess = Preprocess { size: 112, mean: [0.0; 3], std: [1.0; 3] };
    let numbers = preprocess.apply(&strip);
    assert_eq!(numbers.len(), 3 * 112 * 112);
    // The middle remains: dark on the left, light on the right.
    let row = &numbers[..112];
    assert!(row[5] < 0.2 && row[106] > 0.8, "{} and {}", row[5], row[106]);
    // For a less extreme picture the cut has no visible effect.
    let wide = RgbImage::from_fn(500, 100, |x, y| Rgb([(x % 256) as u8, (y * 2) as u8, 90]));
    let middle = image::imageops::crop_imm(&wide, 50, 0, 400, 100).to_image();
    assert!(largest_difference(&preprocess.apply(&wide), &preprocess.apply(&middle)) < 1e-6);
}

/// Resizes the whole picture and cuts it afterwards.
fn resized_then_cut(picture: &RgbImage, size: u32) -> Vec<f32> {
    let (width, height) = picture.dimensions();
    let scale = f64::from(size) / f64::from(width.min(height));
    let scaled = |side: u32| size.max((f64::from(side) * scale).round_ties_even() as u32);
    let (w, h) = (scaled(width), scaled(height));
    let source = ImageRef::new(width, height, picture.as_raw(), PixelType::U8x3).expect("RGB");
    let mut narrow = Image::new(w, height, PixelType::U8x3);
    let mut target = Image::new(w, h, PixelType::U8x3);
    let filter = ResizeAlg::Convolution(FilterType::CatmullRom);
    let options = ResizeOptions::new().resize_alg(filter);
    Resizer::new().resize(&source, &mut narrow, &options).expect("both are U8x3");
    Resizer::new().resize(&narrow, &mut target, &options).expect("both are U8x3");
    let (left, top) = ((w - size) / 2, (h - size) / 2);
    let at = |c: u32, y: u32, x: u32| 3 * ((top + y) * w + left + x) + c;
    let places =
        (0..3).flat_map(|c| (0..size).flat_map(move |y| (0..size).map(move |x| (c, y, x))));
    places.map(|(c, y, x)| f32::from(target.buffer()[at(c, y, x) as usize])).collect()
}

#[test]
fn a_part_that_is_resized_is_that_part_of_the_resized_whole() {
    let size = 24;
    let preprocess = Preprocess { size: size as usize, mean: [0.0; 3], std: [1.0 / 255.0; 3] };
    for width in (5..100).step_by(3).chain([24, 96, 250]) {
        for height in [7, 23, 24, 25, 31, 48, 49, 97, 120] {
            if width.max(height) > 4 * width.min(height) {
                continue;
            }
            let colour = |x: u32, y: u32| [x * 37 + y * 11, x * y, (x ^ y) * 53].map(|v| v as u8);
            let picture = RgbImage::from_fn(width, height, |x, y| Rgb(colour(x, y)));
            let apart =
                largest_difference(&preprocess.apply(&picture), &resized_then_cut(&picture, size));
            // A weight of the filter may be rounded differently: one step of 256.
            assert!(apart < 1.01, "{width} x {height}: {apart}");
        }
    }
}
