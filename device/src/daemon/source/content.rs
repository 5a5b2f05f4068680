//! Describes bytes by their content, for error messages about data without a readable picture.

use fmlora_models::{DecodeError, decode_picture};
use image::ImageFormat;

/// Number of bytes that are inspected.
pub(super) const HEAD: usize = 1024;

/// Longest quoted text, in characters.
const TOLD: usize = 60;

/// Describes the start of a stream without a JPEG: the header of its first part, or the kind of its
/// bytes.
pub(super) fn beginning(head: &[u8]) -> String {
    let Some((lines, body)) = part(head) else { return kind(head) };
    let value = |name: &str| {
        let mut lines = lines.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = lines.find(|(found, _)| found.trim().eq_ignore_ascii_case(name))?;
        Some(value.trim().to_owned())
    };
    let of_type = value("content-type").unwrap_or_else(|| "unknown".to_owned());
    let encoding = value("content-encoding").map(|encoding| format!(" in {encoding}"));
    let told = format!("a part of type {of_type}{}", encoding.unwrap_or_default());
    if body.is_empty() { told } else { format!("{told}, which holds {}", kind(body)) }
}

/// Splits the first part of a multipart stream into its header and its body.
fn part(head: &[u8]) -> Option<(String, &[u8])> {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let starts = text.trim_start();
    if !starts.starts_with("--") && !starts.starts_with("content-") {
        return None;
    }
    let end = |empty: &[u8]| memchr::memmem::find(head, empty).map(|at| (at, at + empty.len()));
    let (lines, body) = end(b"\r\n\r\n").or_else(|| end(b"\n\n"))?;
    Some((String::from_utf8_lossy(&head[..lines]).into_owned(), &head[body..]))
}

/// Names the kind of some bytes: a picture format, a stream format or text.
pub(super) fn kind(bytes: &[u8]) -> String {
    let bytes = bytes.trim_ascii_start();
    let known: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "gzip"),
        (b"\0\0\0\x01", "H.264 or H.265"),
        (b"\0\0\x01", "MPEG"),
        (b"FLV", "FLV"),
        (b"RIFF", "RIFF"),
    ];
    if let Some(name) = picture(bytes) {
        return name.to_owned();
    }
    if bytes.is_empty() {
        return "nothing".to_owned();
    }
    if let Some((_, name)) = known.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return (*name).to_owned();
    }
    let text = String::from_utf8_lossy(bytes);
    let is_text = |c: char| !c.is_control() || c.is_whitespace();
    if !text.chars().take(TOLD).all(|c| is_text(c) && c != '\u{fffd}') {
        return "bytes of an unknown kind".to_owned();
    }
    let line: String = text.lines().next().unwrap_or_default().chars().take(TOLD).collect();
    format!("the text {line:?}")
}

/// Name of a picture format, supported or not; `None` for other data.
fn picture(bytes: &[u8]) -> Option<&'static str> {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => Some("JPEG"),
        Ok(ImageFormat::Png) => Some("PNG"),
        Ok(ImageFormat::WebP) => Some("WebP"),
        Ok(ImageFormat::Tiff) => Some("TIFF"),
        Ok(ImageFormat::Gif) => Some("GIF"),
        // The signature of BMP has only two letters, too few to be certain.
        Ok(ImageFormat::Bmp) => None,
        _ => unread(bytes),
    }
}

/// Name of a known picture format that the decoder does not support.
fn unread(bytes: &[u8]) -> Option<&'static str> {
    match decode_picture(bytes) {
        Err(DecodeError::OtherFormat { name }) => Some(name),
        _ => None,
    }
}

/// Returns true if a file without the extension of a picture holds one by its content. Some of
/// these formats are not supported by the decoder.
pub(super) fn is_picture(head: &[u8]) -> bool {
    let kinds = ["JPEG", "PNG", "WebP", "TIFF", "GIF", "HEIC", "AVIF", "JPEG XL", "JPEG 2000"];
    picture(head).is_some_and(|kind| kinds.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_named_by_their_content() {
        let cases: [(&[u8], &str); 11] = [
            (b"\xff\xd8\xff\xe0", "JPEG"),
            (b"\x89PNG\r\n\x1a\n", "PNG"),
            (b"GIF89a", "GIF"),
            (b"\0\0\0\x18ftypheic", "HEIC"),
            (b"\0\0\0\x1cftypavif", "AVIF"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"\0\0\0\x01\x67", "H.264 or H.265"),
            (b"no\nmore", "the text \"no\""),
            (b"BMW and more", "the text \"BMW and more\""),
            (b"\x01\x02", "bytes of an unknown kind"),
            (b"", "nothing"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(kind(bytes), expected);
        }
        assert!(is_picture(b"\0\0\0\x1cftypavif") && is_picture(b"\xff\xd8\xff\xe0"));
        assert!(!is_picture(b"BMW and more") && !is_picture(b"%PDF-1.4"));
    }

    #[test]
    fn a_part_is_named_by_its_head_and_its_content() {
        let cases: [(&[u8], &str); 4] = [
            (
                b"\r\n--x\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n\x1a\n",
                "a part of type image/png, which holds PNG",
            ),
            (
                b"--x\nContent-Encoding: gzip\ncontent-type: image/jpeg\n\n\x1f\x8b",
                "a part of type image/jpeg in gzip, which holds gzip",
            ),
            (b"--x\r\n\r\n", "a part of type unknown"),
            (b"--x", "the text \"--x\""),
        ];
        for (bytes, expected) in cases {
            assert_eq!(beginning(bytes), expected);
        }
    }
}
