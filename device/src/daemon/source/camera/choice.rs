//! Chooses the mode of a camera.

use std::collections::BTreeMap;
use std::fmt;

use super::pixels::PixelFormat;

/// Number of pixels of the preferred size: a network with 112 x 112 inputs needs no more than 640
/// x 480.
const PREFERRED_PIXELS: u64 = 640 * 480;

/// A mode of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) format: PixelFormat,
    /// Width in pixels.
    pub(super) width: u32,
    /// Height in pixels.
    pub(super) height: u32,
    /// Frames per second.
    pub(super) fps: u32,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}x{} at {} fps", self.format, self.width, self.height, self.fps)
    }
}

/// Mode that the configuration requests; values that it does not name are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) format: Option<PixelFormat>,
    /// Width in pixels.
    pub(super) width: Option<u32>,
    /// Height in pixels.
    pub(super) height: Option<u32>,
    /// Lowest frame rate, in frames per second.
    pub(super) fps: Option<u32>,
}

impl Wish {
    fn allows(&self, mode: &Mode) -> bool {
        self.format.is_none_or(|format| format == mode.format)
            && self.width.is_none_or(|width| width == mode.width)
            && self.height.is_none_or(|height| height == mode.height)
            && self.fps.is_none_or(|fps| fps <= mode.fps)
    }

    /// Chooses the best of the modes that match the request: one that is fast enough for `fps`
    /// frames per second, or else the fastest; then the nearest to 640 x 480; then the slowest of
    /// those that are fast enough; then the format that is cheapest to decode.
    ///
    /// # Errors
    ///
    /// A message that lists the modes of the camera, if none matches.
    pub(super) fn choose(&self, offered: &[Mode], fps: f64) -> Result<Mode, String> {
        let fps = self.fps.unwrap_or(fps.ceil() as u32);
        let rank = |mode: &Mode| {
            let pixels = (u64::from(mode.width) * u64::from(mode.height)).max(1);
            let (less, more) = (pixels.min(PREFERRED_PIXELS), pixels.max(PREFERRED_PIXELS));
            let lacking = fps.saturating_sub(mode.fps);
            (lacking, 1000 * more / less, mode.fps, mode.format, mode.width)
        };
        let allowed = offered.iter().filter(|mode| self.allows(mode));
        allowed.min_by_key(|mode| rank(mode)).copied().ok_or_else(|| {
            format!("does not offer {}; it offers {}", self.described(), described(offered))
        })
    }

    /// The request in the syntax of a URI.
    fn described(&self) -> String {
        let number = |name: &str, value: Option<u32>| value.map(|value| format!("{name}={value}"));
        let named = [
            self.format.map(|format| format!("format={format}")),
            number("width", self.width),
            number("height", self.height),
            number("fps", self.fps),
        ];
        let named: Vec<String> = named.into_iter().flatten().collect();
        if named.is_empty() { "any format".to_owned() } else { named.join("&") }
    }
}

/// Highest frame rate by width and height in pixels.
type Sizes = BTreeMap<(u32, u32), u32>;

/// Lists sizes with their highest frame rates, and joins formats with equal lists.
fn described(offered: &[Mode]) -> String {
    let mut fastest: BTreeMap<PixelFormat, Sizes> = BTreeMap::new();
    for mode in offered {
        let sizes = fastest.entry(mode.format).or_default();
        let fps = sizes.entry((mode.width, mode.height)).or_default();
        *fps = mode.fps.max(*fps);
    }
    let mut alike: Vec<(Vec<&str>, Sizes)> = Vec::new();
    for (format, sizes) in fastest {
        match alike.iter_mut().find(|(_, others)| *others == sizes) {
            Some((formats, _)) => formats.push(format.name()),
            None => alike.push((vec![format.name()], sizes)),
        }
    }
    let written = alike.iter().map(|(formats, sizes)| {
        let sizes = sizes.iter().map(|((width, height), fps)| format!("{width}x{height}@{fps}"));
        format!("{}: {}", formats.join(", "), sizes.collect::<Vec<_>>().join(" "))
    });
    let written = written.collect::<Vec<_>>().join("; ");
    if written.is_empty() {
        "nothing that can be read".to_owned()
    } else {
        format!("(width x height @ highest fps) {written}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PixelFormat::{Gray, Mjpeg, Nv12, Yuyv};

    fn mode(format: PixelFormat, width: u32, height: u32, fps: u32) -> Mode {
        Mode { format, width, height, fps }
    }

    fn offered() -> Vec<Mode> {
        vec![
            mode(Mjpeg, 1920, 1080, 30),
            mode(Mjpeg, 640, 480, 30),
            mode(Yuyv, 1920, 1080, 5),
            mode(Yuyv, 640, 480, 30),
            mode(Yuyv, 640, 480, 10),
            mode(Yuyv, 640, 480, 1),
            mode(Yuyv, 160, 120, 30),
            mode(Gray, 640, 480, 30),
        ]
    }

    #[test]
    fn the_best_mode_is_the_nearest_in_size_that_is_fast_enough() {
        let none = Wish::default();
        let cases = [
            ("no faster than needed", none, 5.0, Some(mode(Yuyv, 640, 480, 10))),
            ("a part of a frame more", none, 10.1, Some(mode(Yuyv, 640, 480, 30))),
            ("as fast as there is", none, 60.0, Some(mode(Yuyv, 640, 480, 30))),
            (
                "a format",
                Wish { format: Some(Mjpeg), ..none },
                5.0,
                Some(mode(Mjpeg, 640, 480, 30)),
            ),
            ("a width", Wish { width: Some(1920), ..none }, 5.0, Some(mode(Yuyv, 1920, 1080, 5))),
            (
                "a width and more frames",
                Wish { width: Some(1920), ..none },
                6.0,
                Some(mode(Mjpeg, 1920, 1080, 30)),
            ),
            ("a height", Wish { height: Some(120), ..none }, 5.0, Some(mode(Yuyv, 160, 120, 30))),
            ("frames", Wish { fps: Some(20), ..none }, 1.0, Some(mode(Yuyv, 640, 480, 30))),
            ("another format", Wish { format: Some(Nv12), ..none }, 5.0, None),
            ("too many frames", Wish { fps: Some(60), ..none }, 5.0, None),
            ("no such pair", Wish { format: Some(Gray), width: Some(160), ..none }, 5.0, None),
        ];
        let mut turned = offered();
        turned.reverse();
        for modes in [offered(), turned] {
            for (name, wish, fps, expected) in &cases {
                assert_eq!(wish.choose(&modes, *fps).ok(), *expected, "{name}");
            }
        }
    }

    #[test]
    fn a_mode_that_is_not_offered_is_refused_with_a_list_of_modes() {
        let wish = Wish { format: Some(Nv12), width: Some(800), ..Wish::default() };
        let offered = [
            mode(Yuyv, 640, 480, 15),
            mode(Yuyv, 640, 480, 30),
            mode(Yuyv, 320, 240, 60),
            mode(Gray, 320, 240, 60),
            mode(Gray, 640, 480, 30),
            mode(Mjpeg, 1280, 720, 30),
        ];
        assert_eq!(
            wish.choose(&offered, 5.0),
            Err("does not offer format=nv12&width=800; it offers (width x height @ highest fps) \
                 yuyv, gray: 320x240@60 640x480@30; mjpeg: 1280x720@30"
                .to_owned())
        );
        assert_eq!(
            Wish::default().choose(&[], 5.0),
            Err("does not offer any format; it offers nothing that can be read".to_owned())
        );
    }
}
