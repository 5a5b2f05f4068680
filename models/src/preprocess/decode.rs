//! Decodes the bytes of a picture file to upright RGB, within limits of size and memory.

use std::io::Cursor;
use std::path::Path;

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage,
    RgbaImage,
};
use thiserror::Error;

use super::format::format_of;

/// File name extensions of pictures.
const ENDINGS: [&str; 10] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "tif", "tiff", "gif"];

/// Returns true if a file's name has the extension of a picture, in upper or lower case.
pub fn has_picture_name(path: &Path) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    ending.is_some_and(|e| ENDINGS.contains(&e.as_str()))
}

/// Largest picture that is decoded, in pixels: 64 megapixels.
pub const MAX_PIXELS: u64 = 64_000_000;

/// Memory limit of a decoder, in bytes, for a picture of [`MAX_PIXELS`]: 8 for 16-bit RGBA, and as
/// much again for temporary data.
const MAX_ALLOC: u64 = MAX_PIXELS * 16;

/// Background of transparent pixels: the mean of ImageNet, which a network sees as zero.
const BEHIND: [f32; 3] = [0.485 * 255.0, 0.456 * 255.0, 0.406 * 255.0];

/// Reason why bytes are not a usable picture.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// The bytes have no known format.
    #[error("not a picture: expected JPEG, PNG, WebP, BMP, TIFF or GIF")]
    UnknownFormat,
    /// The format is recognised but not supported.
    #[error("{name} is not read: expected JPEG, PNG, WebP, BMP, TIFF or GIF")]
    OtherFormat {
        /// Name of the format.
        name: &'static str,
    },
    /// A rare variant of a supported format.
    #[error("this kind of {format} is not read")]
    Unsupported {
        /// Name of the format.
        format: &'static str,
        /// Error of the decoder.
        #[source]
        source: ImageError,
    },
    /// All pixels are transparent and of one colour.
    #[error("the picture is transparent all over: there is nothing to see")]
    Transparent,
    /// The picture states more pixels than [`MAX_PIXELS`].
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
    /// A JPEG without its end marker.
    #[error("the picture is cut off: its end is missing")]
    CutOff,
    /// The content is broken, or truncated in a way that the decoder notices.
    #[error("the picture is broken or cut off")]
    Broken(#[source] ImageError),
}

/// Decodes a JPEG, PNG, WebP, BMP, TIFF (its first page) or GIF (its first frame), recognised by
/// content. Turns it upright by its EXIF orientation, copies grey to the three channels and blends
/// transparent pixels with a neutral colour.
///
/// If all of a picture is transparent, the alpha channel is taken for unused: screen grabbers leave
/// those bytes zero. The picture then counts as opaque, unless it has a single colour and so shows
/// nothing.
///
/// # Errors
///
/// [`DecodeError`]. The stated size is checked before anything is decoded.
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
    // BMP is exempt: tools that write real transparency do not write BMP.
    if format != ImageFormat::Bmp && has_one_colour(&picture) {
        return Err(DecodeError::Transparent);
    }
    Ok(DynamicImage::from(picture).into_rgb8())
}

/// Returns true if an end marker follows a JPEG's picture data. Decoders fill missing data with
/// grey and report no error.
///
/// Segments are skipped by their length up to the first scan, so that a thumbnail in the EXIF
/// segment does not count. Within a scan the marker cannot occur by chance: there, `FF` is followed
/// by 0 or a restart marker. Data after the end (a film, padding) are ignored.
fn has_end(jpeg: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = jpeg.get(at..at + 4) {
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
        if marker == 0xda {
            let scan = jpeg.get(at..).unwrap_or_default();
            return memchr::memmem::find(scan, &[0xff, 0xd9]).is_some();
        }
    }
    // There is no scan: the decoder reports the error.
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
