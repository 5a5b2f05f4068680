//! A camera of this machine: `camera://N?format=yuyv&width=640&height=480&fps=15`.
//!
//! nokhwa says which cameras there are and what they offer; of that, the mode that suits the network best is taken
//! (`choice`). On Linux the frames come from below nokhwa, which can wait for them no other way than for ever (`v4l2`).
//!
//! Who lets go of the device, and when: a reader owns the device and drops it before it says why it ended, so after an
//! unplugging the name of the device is free when the camera returns. On Linux no wait is longer than the time-out of the
//! source, so a reader that the keeper gives up ends soon after, and until it has, the keeper waits (`Opening::close_with`). What no
//! time-out reaches is a driver that hangs in a call of its own; then the keeper goes on without that reader, and the
//! camera is busy until the driver comes back.

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

/// Largest width, height or rate that can be asked for.
const MOST: u32 = 65_535;

/// Which camera, and what is asked of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CameraSpec {
    /// N of `/dev/videoN` on Linux, elsewhere its place among the cameras.
    index: u32,
    wish: Wish,
}

impl CameraSpec {
    /// Reads `camera://N`; `take` gives the settings behind the question mark.
    ///
    /// # Errors
    ///
    /// A text that says what is wrong.
    pub(super) fn parse(
        url: &Url,
        take: &mut dyn FnMut(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let index = url.host_str().and_then(|host| host.parse().ok());
        let index = index.filter(|_| url.path().trim_matches('/').is_empty());
        let index = index.ok_or_else(|| {
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
    fn what_is_no_camera_is_refused() {
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
