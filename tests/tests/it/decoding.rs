//! Pictures of every kind become upright RGB, and bad bytes become errors.

use std::io::Cursor;

use fmlora_models::{DecodeError, decode_picture};
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};

/// Left half red, right half blue.
fn two_halves() -> RgbImage {
    RgbImage::from_fn(32, 16, |x, _| if x < 16 { Rgb([220, 10, 10]) } else { Rgb([10, 10, 220]) })
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).expect("encoding in memory");
    bytes.into_inner()
}

/// Puts an EXIF segment with an orientation behind the start of a JPEG.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat()
}

#[test]
fn exif_orientation_turns_the_picture_upright() {
    let jpeg = encoded(two_halves(), ImageFormat::Jpeg);
    let upright = decode_picture(&jpeg).expect("a JPEG");
    assert_eq!(upright.dimensions(), (32, 16));
    // 6: turn clockwise by 90 degrees, so left becomes top; 3: upside down, so left becomes right.
    let turned = decode_picture(&with_orientation(&jpeg, 6)).expect("a JPEG with EXIF");
    assert_eq!(turned.dimensions(), (16, 32));
    assert!(turned.get_pixel(8, 3)[0] > 150, "red is at the top: {:?}", turned.get_pixel(8, 3));
    let down = decode_picture(&with_orientation(&jpeg, 3)).expect("a JPEG with EXIF");
    assert!(down.get_pixel(28, 8)[0] > 150, "red is at the right: {:?}", down.get_pixel(28, 8));
}

#[test]
fn grey_spreads_and_transparency_becomes_neutral() {
    let grey = GrayImage::from_pixel(8, 8, Luma([77]));
    let grey = decode_picture(&encoded(grey, ImageFormat::Png)).expect("a grey PNG");
    assert_eq!(grey.get_pixel(3, 3), &Rgb([77, 77, 77]));
    let clear = RgbaImage::from_fn(8, 8, |x, _| Rgba([250, 0, 0, if x < 4 { 255 } else { 0 }]));
    let clear = decode_picture(&encoded(clear, ImageFormat::Png)).expect("a PNG with alpha");
    assert_eq!(clear.get_pixel(1, 1), &Rgb([250, 0, 0]));
    assert_eq!(clear.get_pixel(6, 1), &Rgb([124, 116, 104]), "the mean of ImageNet");
}

#[test]
fn every_format_is_read() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp] {
        let picture = decode_picture(&encoded(two_halves(), format));
        assert_eq!(picture.expect("a sound picture").dimensions(), (32, 16), "{format:?}");
    }
}

#[test]
fn bad_bytes_are_told_apart() {
    let png = encoded(two_halves(), ImageFormat::Png);
    let jpeg = encoded(two_halves(), ImageFormat::Jpeg);
    assert!(matches!(decode_picture(b""), Err(DecodeError::Empty)));
    assert!(matches!(decode_picture(b"hello, world"), Err(DecodeError::UnknownFormat)));
    assert!(matches!(decode_picture(b"GIF89a not supported"), Err(DecodeError::UnknownFormat)));
    assert!(matches!(decode_picture(&png[..png.len() / 2]), Err(DecodeError::Broken(_))));
    assert!(decode_picture(&jpeg[..20]).is_err());
    let cut = decode_picture(&jpeg[..jpeg.len() - 40]);
    assert!(matches!(cut, Err(DecodeError::CutOff)), "decoders fill a cut JPEG with grey");
    // Phones append films, in which any pair of bytes occurs.
    let film = [0xff, 0xd9, 1, 2, 0xff, 0xda, 3, 4, 0xff, 0xda];
    let with_film = [jpeg.as_slice(), &film].concat();
    assert!(decode_picture(&with_film).is_ok(), "what stands behind the end does not matter");
    // 8001 x 8001 grey pixels are 64 kB of PNG and just above the limit.
    let bomb = encoded(GrayImage::new(8001, 8001), ImageFormat::Png);
    let refused = decode_picture(&bomb);
    assert!(matches!(refused, Err(DecodeError::TooLarge { width: 8001, height: 8001 })));
}
