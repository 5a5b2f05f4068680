//! From the bytes of a file to an upright RGB picture, within bounds.

use std::io::Cursor;
use std::path::Path;

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage,
    RgbaImage,
};
use thiserror::Error;

use super::format::format_of;

/// Endings of the names of files that may be pictures.
const ENDINGS: [&str; 10] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "tif", "tiff", "gif"];

/// Whether a file's name ends like that of a picture, in upper or lower case.
pub fn has_picture_name(path: &Path) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    ending.is_some_and(|e| ENDINGS.contains(&e.as_str()))
}

/// Largest picture that is decoded, in pixels: 64 megapixels.
pub const MAX_PIXELS: u64 = 64_000_000;

/// Bytes a decoder may allocate for a picture of [`MAX_PIXELS`]: 8 for 16-bit RGBA, and as much again
/// for what it needs on the way.
const MAX_ALLOC: u64 = MAX_PIXELS * 16;

/// Colour that transparent pixels become: the mean of ImageNet, so that a network sees nothing there.
const BEHIND: [f32; 3] = [0.485 * 255.0, 0.456 * 255.0, 0.406 * 255.0];

/// Why bytes are no usable picture.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// There is nothing to read.
    #[error("the file is empty")]
    Empty,
    /// The bytes are in none of the known formats.
    #[error("not a picture: expected JPEG, PNG, WebP, BMP, TIFF or GIF")]
    UnknownFormat,
    /// The bytes are in a format that is known by name alone.
    #[error("{name} is not read: expected JPEG, PNG, WebP, BMP, TIFF or GIF")]
    OtherFormat {
        /// Name of the format.
        name: &'static str,
    },
    /// A rare kind of a format that is read otherwise.
    #[error("this kind of {format} is not read")]
    Unsupported {
        /// Name of the format.
        format: &'static str,
        /// What the decoder says.
        #[source]
        source: ImageError,
    },
    /// All pixels are transparent and of one colour.
    #[error("the picture is transparent all over: there is nothing to see")]
    Transparent,
    /// The picture states more pixels than we decode.
    #[error("{width} x {height} pixels are more than the {} megapixels allowed", MAX_PIXELS / 1_000_000)]
    TooLarge {
        /// Stated width.
        width: u32,
        /// Stated height.
        height: u32,
    },
    /// The picture states that it has no pixels.
    #[error("the picture has no pixels")]
    NoPixels,
    /// A JPEG without its end.
    #[error("the picture is cut off: its end is missing")]
    CutOff,
    /// The content is broken, or cut off in a way that the decoder notices.
    #[error("the picture is broken or cut off")]
    Broken(#[source] ImageError),
}

/// Decodes a JPEG, PNG, WebP, BMP, TIFF (its first page) or GIF (its first frame), whatever the name of its file. Turns it
/// upright by its EXIF orientation, spreads grey over the three channels and lays transparent pixels over a neutral
/// colour.
///
/// Where all of a picture is transparent, its transparency was never meant: screen grabbers leave those bytes zero. Such a
/// picture counts as opaque, unless it has one colour only, and so shows nothing.
///
/// # Errors
///
/// [`DecodeError`]; the stated size is checked before anything is decoded.
pub fn decode_picture(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let (format, name) = format_of(bytes)?;
    if format == ImageFormat::Jpeg && !has_end(bytes) {
        return Err(DecodeError::CutOff);
    }
    let failed = |error: ImageError| match error {
        ImageError::Unsupported(_) => DecodeError::Unsupported { format: name, source: error },
        other => DecodeError::Broken(other),
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_ALLOC);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(DecodeError::TooLarge { width, height });
    }
    if width == 0 || height == 0 {
        return Err(DecodeError::NoPixels);
    }
    let orientation = decoder.orientation().map_err(failed)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(failed)?;
    picture.apply_orientation(orientation);
    if !picture.color().has_alpha() {
        return Ok(picture.into_rgb8());
    }
    let picture = picture.into_rgba8();
    if picture.pixels().any(|pixel| pixel[3] > 0) {
        return Ok(laid_over_neutral(&picture));
    }
    // Tools that make pictures with real transparency write no BMP.
    if format != ImageFormat::Bmp && has_one_colour(&picture) {
        return Err(DecodeError::Transparent);
    }
    Ok(DynamicImage::from(picture).into_rgb8())
}

/// Whether a JPEG's picture data are followed by the end marker. Decoders fill what is missing with grey
/// without a word.
///
/// Segments are passed over by their length up to the first scan, so that a thumbnail in the EXIF segment
/// does not count. Within a scan the marker cannot occur by chance: there, `FF` is followed by 0 or a
/// restart marker. What stands behind the end (a film, padding) does not matter.
fn has_end(jpeg: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = jpeg.get(at..at + 4) {
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
        if marker == 0xda {
            let scan = jpeg.get(at..).unwrap_or_default();
            return memchr::memmem::find(scan, &[0xff, 0xd9]).is_some();
        }
    }
    // No scan is found: the decoder says what is wrong.
    true
}

fn has_one_colour(picture: &RgbaImage) -> bool {
    let first = picture.pixels().next();
    picture.pixels().all(|pixel| Some(pixel) == first)
}

fn laid_over_neutral(rgba: &RgbaImage) -> RgbImage {
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
        let alpha = f32::from(from[3]) / 255.0;
        let mix = |c: usize| (f32::from(from[c]) * alpha + BEHIND[c] * (1.0 - alpha)).round() as u8;
        *to = Rgb([mix(0), mix(1), mix(2)]);
    }
    rgb
}
