//! Detects the format of a picture by its content: file names are often wrong.

use image::ImageFormat;

use super::decode::DecodeError;

/// Number of leading bytes that determine a file's format.
pub(super) const HEAD_BYTES: usize = 64;

/// Returns the format of a supported picture, and its name.
///
/// # Errors
///
/// [`DecodeError::Empty`], [`DecodeError::UnknownFormat`] or [`DecodeError::OtherFormat`].
pub(super) fn format_of(bytes: &[u8]) -> Result<(ImageFormat, &'static str), DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => Ok((ImageFormat::Jpeg, "JPEG")),
        Ok(ImageFormat::Png) => Ok((ImageFormat::Png, "PNG")),
        Ok(ImageFormat::WebP) => Ok((ImageFormat::WebP, "WebP")),
        Ok(ImageFormat::Bmp) => Ok((ImageFormat::Bmp, "BMP")),
        Ok(ImageFormat::Tiff) => Ok((ImageFormat::Tiff, "TIFF")),
        Ok(ImageFormat::Gif) => Ok((ImageFormat::Gif, "GIF")),
        _ => match other_format(bytes) {
            Some(name) => Err(DecodeError::OtherFormat { name }),
            None => Err(DecodeError::UnknownFormat),
        },
    }
}

/// Returns the name of a recognised format that is not supported.
fn other_format(bytes: &[u8]) -> Option<&'static str> {
    // The first box of files of the MP4 family: its brand names the content.
    if let Some(brand) = bytes.get(4..12) {
        match brand {
            b"ftypheic" | b"ftypheix" | b"ftyphevc" | b"ftyphevx" | b"ftypheim" | b"ftypheis"
            | b"ftypmif1" | b"ftypmsf1" => return Some("HEIC"),
            b"ftypavif" | b"ftypavis" => return Some("AVIF"),
            brand if brand.starts_with(b"ftyp") => return Some("a film (MP4)"),
            _ => {}
        }
    }
    let known: [(&[u8], &str); 6] = [
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL ", "JPEG XL"),
        (b"\0\0\0\x0cjP  ", "JPEG 2000"),
        (b"%PDF", "PDF"),
        (b"8BPS", "PSD"),
        (b"\0\0\x01\0", "an icon (ICO)"),
    ];
    known.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, name)| *name)
}
