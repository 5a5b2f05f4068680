//! Source `camera:`, a camera of this machine:
//! `camera://N?format=yuyv&width=640&height=480&fps=15`.
//!
//! nokhwa lists the cameras and their modes, and `choice` takes the mode that suits the network
//! best. On Linux the frames are read below nokhwa (`v4l2`), which has no wait with a time-out.
//!
//! Closing the device: a reader owns the device and drops it before it reports its end, so the name
//! of an unplugged device is free when the camera returns. On Linux no wait is longer than the
//! time-out of the source. A reader that the keeper gives up therefore ends soon, and the keeper
//! waits for that (`Opening::close_with`). A driver that hangs in one of its own calls has no
//! time-out: the keeper then continues without that reader, and the camera is busy until the driver
//! returns.

mod choice;
#[cfg(all(feature = "camera", not(target_os = "linux")))]
#[path = "camera/elsewhere.rs"]
mod frames;
#[cfg(all(feature = "camera", target_os = "linux"))]
#[path = "camera/v4l2.rs"]
mod frames;
mod huffman;
#[cfg(feature = "camera")]
mod offers;
mod pixels;
#[cfg(feature = "camera")]
mod source;

use url::Url;

use choice::Wish;
use pixels::PixelFormat;
#[cfg(feature = "camera")]
pub(super) use source::CameraSource;

/// Largest width, height or frame rate that can be requested.
const MOST: u32 = 65_535;

/// Index of a camera, and the requested mode.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CameraSpec {
    /// N of `/dev/videoN` on Linux, elsewhere the index in the list of cameras.
    index: u32,
    wish: Wish,
}

impl CameraSpec {
    /// Parses `camera://N`; `take` returns the settings of the query.
    ///
    /// # Errors
    ///
    /// A message that says what is wrong.
    pub(super) fn parse(
        url: &Url,
        take: &mut dyn FnMut(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let index = url.host_str().and_then(|host| host.parse().ok());
        let valid = index.filter(|_| url.path().trim_matches('/').is_empty());
        let index = valid.ok_or_else(|| {
            format!("{url}: expected camera://N, the number of the camera, as in camera://0")
        })?;
        let format = take("format").map(|name| {
            let found = PixelFormat::ALL.into_iter().find(|format| format.name() == name);
            let known = PixelFormat::ALL.map(PixelFormat::name).join(", ");
            found.ok_or_else(|| format!("format={name}: expected one of {known}"))
        });
        let mut number = |name: &str| {
            let Some(text) = take(name) else { return Ok(None) };
            let value = text.parse().ok().filter(|value| (1..=MOST).contains(value));
            value.map(Some).ok_or_else(|| format!("{name}={text}: expected 1 to {MOST}"))
        };
        let (width, height, fps) = (number("width")?, number("height")?, number("fps")?);
        Ok(Self { index, wish: Wish { format: format.transpose()?, width, height, fps } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(uri: &str) -> Result<CameraSpec, String> {
        let url = Url::parse(uri).expect("a URI");
        let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let mut take =
            |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        CameraSpec::parse(&url, &mut take)
    }

    #[test]
    fn a_uri_names_a_camera_and_what_is_asked_of_it() {
        let plain = CameraSpec { index: 0, wish: Wish::default() };
        assert_eq!(parse("camera://0"), Ok(plain));
        let wish = Wish {
            format: Some(PixelFormat::Mjpeg),
            width: Some(1280),
            height: Some(720),
            fps: Some(15),
        };
        let uri = "camera://12?width=1280&height=720&fps=15&format=mjpeg";
        assert_eq!(parse(uri), Ok(CameraSpec { index: 12, wish }));
    }

    #[test]
    fn a_uri_without_a_valid_camera_is_refused() {
        let cases = [
            ("camera://front", "camera://N"),
            ("camera:0", "camera://N"),
            ("camera://-1", "camera://N"),
            ("camera:///dev/video0", "camera://N"),
            ("camera://0/1", "camera://N"),
            ("camera://0?width=0", "width=0: expected 1 to"),
            ("camera://0?height=tall", "height=tall"),
            ("camera://0?fps=12.5", "fps=12.5"),
            ("camera://0?format=h264", "expected one of yuyv, nv12, rgb, bgr, mjpeg, gray"),
        ];
        for (uri, expected) in cases {
            let said = parse(uri).expect_err(uri);
            assert!(said.contains(expected), "{uri}: {said}");
        }
    }
}
