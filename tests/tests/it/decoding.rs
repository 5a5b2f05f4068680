//! Decoding of pictures: every format becomes upright RGB, and invalid bytes become errors.

use std::io::Cursor;
use std::path::PathBuf;

use fmlora_models::{DecodeError, PictureFolder, decode_picture};
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use tempfile::TempDir;

/// Returns a picture with a red left half and a blue right half.
fn two_halves() -> RgbImage {
    RgbImage::from_fn(32, 16, |x, _| if x < 16 { Rgb([220, 10, 10]) } else { Rgb([10, 10, 220]) })
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).expect("encoding in memory");
    bytes.into_inner()
}

/// Inserts an EXIF segment with an orientation after the start of a JPEG.
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
    let formats = [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::Gif,
    ];
    for format in formats {
        let picture = decode_picture(&encoded(two_halves(), format));
        assert_eq!(picture.expect("a sound picture").dimensions(), (32, 16), "{format:?}");
    }
}

/// Returns a BMP of 32 bits with a V5 header; the fourth byte of each pixel is alpha.
fn bmp_with_alpha(picture: &RgbImage, alpha: u8) -> Vec<u8> {
    let (width, height) = picture.dimensions();
    let head: u32 = 14 + 124;
    let mut bmp = b"BM".to_vec();
    let words = |bmp: &mut Vec<u8>, words: &[u32]| {
        bmp.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    words(&mut bmp, &[head + 4 * width * height, 0, head, 124, width, height]);
    // One plane, 32 bits, masks of the channels.
    words(&mut bmp, &[32 << 16 | 1, 3, 4 * width * height, 2835, 2835, 0, 0]);
    words(&mut bmp, &[0x00ff_0000, 0x0000_ff00, 0x0000_00ff, 0xff00_0000, 0x7352_4742]);
    bmp.resize(head as usize, 0);
    for y in (0..height).rev() {
        for x in 0..width {
            let Rgb([red, green, blue]) = *picture.get_pixel(x, y);
            bmp.extend([blue, green, red, alpha]);
        }
    }
    bmp
}

#[test]
fn full_transparency_counts_as_an_unused_alpha_channel() {
    let picture = two_halves();
    for alpha in [0, 255] {
        let seen = decode_picture(&bmp_with_alpha(&picture, alpha)).expect("a BMP");
        assert_eq!(seen, picture, "alpha {alpha}");
    }
    let black = RgbImage::new(8, 8);
    assert_eq!(decode_picture(&bmp_with_alpha(&black, 0)).expect("a BMP"), black);
    let clear = RgbaImage::from_fn(32, 16, |x, y| {
        let Rgb([red, green, blue]) = *picture.get_pixel(x, y);
        Rgba([red, green, blue, 0])
    });
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff] {
        let seen = decode_picture(&encoded(clear.clone(), format)).expect("a picture");
        assert_eq!(seen, picture, "{format:?}");
        let nothing = decode_picture(&encoded(RgbaImage::new(8, 8), format));
        assert!(matches!(nothing, Err(DecodeError::Transparent)), "{format:?}: {nothing:?}");
    }
}

#[test]
fn formats_that_are_not_read_are_named() {
    let film = |brand: &[u8]| [&[0, 0, 0, 24], b"ftyp", brand, &[0; 12]].concat();
    let cases: [(Vec<u8>, &str); 6] = [
        (film(b"heic"), "HEIC"),
        (film(b"mif1"), "HEIC"),
        (film(b"avif"), "AVIF"),
        (film(b"isom"), "a film (MP4)"),
        (b"\xff\x0a and more".to_vec(), "JPEG XL"),
        (b"%PDF-1.7".to_vec(), "PDF"),
    ];
    for (bytes, expected) in cases {
        let refused = decode_picture(&bytes);
        let named = matches!(refused, Err(DecodeError::OtherFormat { name }) if name == expected);
        assert!(named, "{expected}: {refused:?}");
    }
}

#[test]
fn a_folder_gives_its_pictures_by_content_and_names_the_rest() {
    let folder = TempDir::new().expect("a folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder above")).expect("a folder");
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    let jpeg = encoded(two_halves(), ImageFormat::Jpeg);
    let pictures: Vec<PathBuf> =
        ["0.jpg", "day1/deep/2.jpeg", "day2/1.png", "down.jfif", "no-ending"]
            .map(|name| write(name, &jpeg))
            .into();
    let others =
        [("empty.jpg", &b""[..]), ("notes.txt", b"text"), ("x.heic", b"\0\0\0\x18ftypheic")];
    let others = others.map(|(name, bytes)| write(name, bytes));
    for hidden in ["._0.jpg", ".DS_Store", "Thumbs.db", ".git/0.jpg", "__MACOSX/0.jpg"] {
        write(hidden, &jpeg);
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path(), folder.path().join("circle")).expect("a link");
    let found = PictureFolder::read(folder.path()).expect("a folder");
    assert_eq!(found.pictures, pictures);
    let left_out: Vec<&PathBuf> = found.left_out.iter().map(|file| &file.path).collect();
    for path in &others {
        assert!(left_out.contains(&path), "{} is not in {left_out:?}", path.display());
    }
    assert!(found.left_out.iter().any(|file| file.reason.contains("HEIC")));
    assert!(PictureFolder::read(&folder.path().join("absent")).is_err());
}

#[test]
fn each_kind_of_invalid_bytes_has_its_error() {
    let png = encoded(two_halves(), ImageFormat::Png);
    let jpeg = encoded(two_halves(), ImageFormat::Jpeg);
    assert!(matches!(decode_picture(b""), Err(DecodeError::Empty)));
    assert!(matches!(decode_picture(b"hello, world"), Err(DecodeError::UnknownFormat)));
    assert!(decode_picture(b"GIF89a and no more").is_err());
    assert!(matches!(decode_picture(&png[..png.len() / 2]), Err(DecodeError::Broken(_))));
    assert!(decode_picture(&jpeg[..20]).is_err());
    let cut = decode_picture(&jpeg[..jpeg.len() - 40]);
    assert!(matches!(cut, Err(DecodeError::CutOff)), "decoders fill a cut JPEG with grey");
    // Phones append films, which may contain any pair of bytes.
    let film = [0xff, 0xd9, 1, 2, 0xff, 0xda, 3, 4, 0xff, 0xda];
    let with_film = [jpeg.as_slice(), &film].concat();
    assert!(decode_picture(&with_film).is_ok(), "what stands behind the end does not matter");
    // 8001 x 8001 grey pixels are 64 kB of PNG and just above the limit.
    let bomb = encoded(GrayImage::new(8001, 8001), ImageFormat::Png);
    let refused = decode_picture(&bomb);
    assert!(matches!(refused, Err(DecodeError::TooLarge { width: 8001, height: 8001 })));
}
