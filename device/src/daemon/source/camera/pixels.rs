//! Converts the bytes of a camera's frame to an RGB picture.

use std::fmt;

use fmlora_models::{DecodeError, MAX_PIXELS, decode_picture};
use image::RgbImage;
use thiserror::Error;

use super::huffman::with_tables;

/// Pixel format of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PixelFormat {
    /// Two pixels in four bytes: Y, Cb, Y, Cr.
    Yuyv,
    /// All Y, then Cb and Cr interleaved, one pair for two by two pixels.
    Nv12,
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One JPEG per frame.
    Mjpeg,
    /// Brightness only.
    Gray,
}

impl PixelFormat {
    /// All formats, the preferred ones first: raw colour is the cheapest to decode and has no
    /// compression loss.
    pub(super) const ALL: [Self; 6] =
        [Self::Yuyv, Self::Nv12, Self::Rgb, Self::Bgr, Self::Mjpeg, Self::Gray];

    /// Name in a URI.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Yuyv => "yuyv",
            Self::Nv12 => "nv12",
            Self::Rgb => "rgb",
            Self::Bgr => "bgr",
            Self::Mjpeg => "mjpeg",
            Self::Gray => "gray",
        }
    }

    /// Bytes of a line without padding; of NV12, a line of its first plane. 0 for JPEGs, which have
    /// no lines.
    fn line(self, width: usize) -> usize {
        match self {
            // A line ends with a whole pair of pixels.
            Self::Yuyv => 4 * width.div_ceil(2),
            Self::Nv12 => 2 * width.div_ceil(2),
            Self::Rgb | Self::Bgr => 3 * width,
            Self::Mjpeg => 0,
            Self::Gray => width,
        }
    }
}

impl fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Memory layout of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) format: PixelFormat,
    /// Width in pixels.
    pub(super) width: u32,
    /// Height in pixels.
    pub(super) height: u32,
    /// Bytes from the start of a line to the start of the next one; 0 for lines without padding.
    pub(super) stride: usize,
}

/// Error of a frame that is no picture.
#[derive(Debug, Error)]
pub(super) enum PixelError {
    /// The frame has no pixels, or more than the limit.
    #[error("{width} x {height} pixels, expected 1 to {MAX_PIXELS} of them")]
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The lines overlap.
    #[error("lines of {line} bytes that begin every {stride} bytes")]
    Stride {
        /// Bytes of a line.
        line: usize,
        /// Bytes from the start of one line to the next.
        stride: usize,
    },
    /// The end of the frame is missing.
    #[error("{found} bytes, expected {expected}")]
    Short {
        /// Number of bytes received.
        found: usize,
        /// Number of bytes of a complete frame.
        expected: usize,
    },
    /// The camera marks the frame as broken; only V4L2 reports this.
    #[cfg(all(feature = "camera", target_os = "linux"))]
    #[error("the camera marks it as broken")]
    Marked,
    /// The frame is no valid JPEG.
    #[error(transparent)]
    Jpeg(#[from] DecodeError),
}

/// Converts a frame to an RGB picture.
///
/// Colours are those of BT.601 in its limited range (Y 16 to 235, Cb and Cr 16 to 240), the default
/// of V4L2 and UVC. The size of a JPEG is the one that it states.
///
/// # Errors
///
/// [`PixelError`] if bytes are missing or are no picture; bytes after the frame are ignored.
pub(super) fn to_rgb(layout: &Layout, bytes: &[u8]) -> Result<RgbImage, PixelError> {
    let Layout { format, width, height, .. } = *layout;
    if format == PixelFormat::Mjpeg {
        return Ok(decode_picture(&with_tables(bytes))?);
    }
    if !(1..=MAX_PIXELS).contains(&(u64::from(width) * u64::from(height))) {
        return Err(PixelError::Size { width, height });
    }
    let (columns, rows) = (width as usize, height as usize);
    let line = format.line(columns);
    let stride = if layout.stride == 0 { line } else { layout.stride };
    if stride < line {
        return Err(PixelError::Stride { line, stride });
    }
    // Lines of both planes; no padding is expected after the last line.
    let n_lines = if format == PixelFormat::Nv12 { rows + rows.div_ceil(2) } else { rows };
    let expected = stride.saturating_mul(n_lines - 1).saturating_add(line);
    if bytes.len() < expected {
        return Err(PixelError::Short { found: bytes.len(), expected });
    }
    let mut picture = RgbImage::new(width, height);
    let (lines, chroma) = bytes.split_at((stride * rows).min(bytes.len()));
    for (row, to) in picture.chunks_exact_mut(3 * columns).enumerate() {
        let from = &lines[row * stride..][..line];
        match format {
            PixelFormat::Yuyv => {
                for (to, pair) in to.chunks_mut(6).zip(from.chunks_exact(4)) {
                    for (to, y) in to.chunks_exact_mut(3).zip([pair[0], pair[2]]) {
                        to.copy_from_slice(&rgb(y, pair[1], pair[3]));
                    }
                }
            }
            PixelFormat::Nv12 => {
                let colours = &chroma[row / 2 * stride..][..line];
                let lights = from.chunks_exact(2).zip(colours.chunks_exact(2));
                for (to, (ys, colour)) in to.chunks_mut(6).zip(lights) {
                    for (to, &y) in to.chunks_exact_mut(3).zip(ys) {
                        to.copy_from_slice(&rgb(y, colour[0], colour[1]));
                    }
                }
            }
            PixelFormat::Bgr => {
                for (to, from) in to.chunks_exact_mut(3).zip(from.chunks_exact(3)) {
                    to.copy_from_slice(&[from[2], from[1], from[0]]);
                }
            }
            PixelFormat::Gray => {
                for (to, &from) in to.chunks_exact_mut(3).zip(from) {
                    to.fill(from);
                }
            }
            PixelFormat::Rgb | PixelFormat::Mjpeg => to.copy_from_slice(from),
        }
    }
    Ok(picture)
}

/// Converts a colour of BT.601 in its limited range, in fixed point with 8 fractional bits: `R =
/// 1.164 (Y - 16) + 1.596 (Cr - 128)`, `G = ... - 0.391 (Cb - 128) - 0.813 (Cr - 128)`, `B = ... +
/// 2.018 (Cb - 128)`.
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let light = 298 * (i32::from(y) - 16) + 128;
    let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
    [light + 409 * cr, light - 100 * cb - 208 * cr, light + 516 * cb]
        .map(|value| (value >> 8).clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(format: PixelFormat, width: u32, height: u32, stride: usize) -> Layout {
        Layout { format, width, height, stride }
    }

    fn pixels(layout: &Layout, bytes: &[u8]) -> Vec<[u8; 3]> {
        to_rgb(layout, bytes).expect("a picture").pixels().map(|pixel| pixel.0).collect()
    }

    #[test]
    fn colours_are_those_of_bt_601_in_its_limited_range() {
        // The definition: R, G, B of 0 to 1 to Y of 16 to 235, Cb and Cr of 16 to 240.
        let mut worst = 0;
        let levels = (0..=255).step_by(15);
        for (r, g, b) in levels.clone().flat_map(|r| {
            let levels = levels.clone();
            levels.clone().flat_map(move |g| levels.clone().map(move |b| (r, g, b)))
        }) {
            let part = |value: i32| f64::from(value) / 255.0;
            let light = 0.299 * part(r) + 0.587 * part(g) + 0.114 * part(b);
            let y = 16.0 + 219.0 * light;
            let cb = 128.0 + 224.0 * (part(b) - light) / 1.772;
            let cr = 128.0 + 224.0 * (part(r) - light) / 1.402;
            let got = rgb(y.round() as u8, cb.round() as u8, cr.round() as u8);
            for (got, expected) in got.into_iter().zip([r, g, b]) {
                worst = worst.max((i32::from(got) - expected).abs());
            }
        }
        // Rounding Y, Cb and Cr costs up to 0.58, 1.01 and 0.80 of a level each.
        assert!(worst <= 2, "off by {worst} of 255");
        assert_eq!([rgb(16, 128, 128), rgb(235, 128, 128)], [[0; 3], [255; 3]]);
        assert_eq!([rgb(0, 128, 128), rgb(255, 255, 255)], [[0; 3], [255, 125, 255]]);
    }

    #[test]
    fn every_format_puts_each_pixel_into_its_place() {
        use PixelFormat::{Bgr, Gray, Nv12, Rgb, Yuyv};
        let grey = |y: u8| rgb(y, 128, 128);
        // Three by three pixels; lines are padded with 99 where a stride is given.
        let yuyv = |padding: &[u8]| {
            let mut bytes = Vec::new();
            for row in 0..3 {
                let y = |column: u8| 20 + 30 * row + 10 * column;
                bytes.extend([y(0), 128, y(1), 128, y(2), 128, 0, 128]);
                bytes.extend(padding);
            }
            bytes
        };
        let nine: Vec<_> =
            (0..3).flat_map(|r| (0..3).map(move |c| grey(20 + 30 * r + 10 * c))).collect();
        let mut nv12 = Vec::new();
        for row in 0..3 {
            nv12.extend([20 + 30 * row, 30 + 30 * row, 40 + 30 * row, 99, 99]);
        }
        nv12.extend([128, 128, 128, 128, 99, 128, 128, 90, 240]);
        let last = [rgb(80, 128, 128), rgb(90, 128, 128), rgb(100, 90, 240)];
        let cases = [
            ("yuyv", layout(Yuyv, 3, 3, 0), yuyv(&[]), nine.clone()),
            ("yuyv with a stride", layout(Yuyv, 3, 3, 10), yuyv(&[99, 99]), nine.clone()),
            ("nv12", layout(Nv12, 3, 3, 5), nv12, [&nine[..6], &last].concat()),
            ("rgb", layout(Rgb, 1, 2, 4), vec![1, 2, 3, 99, 4, 5, 6], vec![[1, 2, 3], [4, 5, 6]]),
            ("bgr", layout(Bgr, 2, 1, 0), vec![1, 2, 3, 4, 5, 6], vec![[3, 2, 1], [6, 5, 4]]),
            ("gray", layout(Gray, 1, 2, 2), vec![7, 99, 8], vec![[7; 3], [8; 3]]),
            ("more behind it", layout(Gray, 1, 1, 0), vec![7, 99, 99], vec![[7; 3]]),
        ];
        let wrong: Vec<_> = cases
            .iter()
            .filter(|(_, layout, bytes, expected)| &pixels(layout, bytes) != expected)
            .map(|(name, ..)| name)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn two_pixels_of_yuyv_share_their_colour() {
        let frame = pixels(&layout(PixelFormat::Yuyv, 2, 1, 0), &[81, 90, 145, 240]);
        assert_eq!(frame, [rgb(81, 90, 240), rgb(145, 90, 240)]);
        assert_eq!(frame[0], [255, 0, 0], "red, as the standard has it, up to rounding");
    }

    #[test]
    fn an_incomplete_or_invalid_frame_is_refused() {
        for format in PixelFormat::ALL.into_iter().filter(|f| *f != PixelFormat::Mjpeg) {
            for (width, height) in [(1, 1), (2, 2), (3, 5), (64, 48)] {
                for padding in [0, 1, 7] {
                    let line = format.line(width as usize);
                    let layout = layout(format, width, height, line + padding);
                    let mut bytes = vec![100; 3 * (line + padding) * height as usize];
                    let Err(PixelError::Short { expected, found: 0 }) = to_rgb(&layout, &[]) else {
                        panic!("no bytes are a frame of {layout:?}");
                    };
                    bytes.truncate(expected);
                    assert!(to_rgb(&layout, &bytes).is_ok(), "{layout:?}");
                    bytes.pop();
                    let short = to_rgb(&layout, &bytes);
                    assert!(matches!(short, Err(PixelError::Short { .. })), "{layout:?}");
                }
            }
            let tight = layout(format, 8, 8, format.line(8) - 1);
            assert!(matches!(to_rgb(&tight, &[0; 4096]), Err(PixelError::Stride { .. })));
            for (width, height) in [(0, 8), (8, 0), (u32::MAX, u32::MAX), (100_000, 1_000)] {
                let odd = to_rgb(&layout(format, width, height, 0), &[0; 4096]);
                assert!(matches!(odd, Err(PixelError::Size { .. })), "{format} {width}x{height}");
            }
            let far = layout(format, 8, 8, usize::MAX);
            assert!(matches!(to_rgb(&far, &[0; 4096]), Err(PixelError::Short { .. })));
        }
    }

    #[test]
    fn a_jpeg_is_decoded_and_half_of_one_is_not() {
        let mut bytes = std::io::Cursor::new(Vec::new());
        RgbImage::from_pixel(33, 17, image::Rgb([200, 30, 60]))
            .write_to(&mut bytes, image::ImageFormat::Jpeg)
            .expect("a JPEG");
        let mut bytes = bytes.into_inner();
        let layout = layout(PixelFormat::Mjpeg, 640, 480, 0);
        bytes.extend([0; 100]);
        assert_eq!(to_rgb(&layout, &bytes).expect("a picture").dimensions(), (33, 17));
        bytes.truncate(bytes.len() / 2);
        for bad in [&bytes[..], &[], &[0; 100]] {
            assert!(matches!(to_rgb(&layout, bad), Err(PixelError::Jpeg(_))));
        }
    }
}
