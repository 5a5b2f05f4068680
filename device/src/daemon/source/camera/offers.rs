//! Lists the cameras and their modes, by nokhwa.

use nokhwa::Camera;
use nokhwa::utils::{
    ApiBackend, CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType,
    frame_formats,
};

use super::choice::Mode;
use super::pixels::PixelFormat;
use crate::daemon::source::SourceError;

impl From<FrameFormat> for PixelFormat {
    fn from(format: FrameFormat) -> Self {
        match format {
            FrameFormat::YUYV => Self::Yuyv,
            FrameFormat::NV12 => Self::Nv12,
            FrameFormat::RAWRGB => Self::Rgb,
            FrameFormat::RAWBGR => Self::Bgr,
            FrameFormat::MJPEG => Self::Mjpeg,
            FrameFormat::GRAY => Self::Gray,
        }
    }
}

/// nokhwa's name of a format.
#[cfg(not(target_os = "linux"))]
pub(super) fn frame_format(format: PixelFormat) -> FrameFormat {
    match format {
        PixelFormat::Yuyv => FrameFormat::YUYV,
        PixelFormat::Nv12 => FrameFormat::NV12,
        PixelFormat::Rgb => FrameFormat::RAWRGB,
        PixelFormat::Bgr => FrameFormat::RAWBGR,
        PixelFormat::Mjpeg => FrameFormat::MJPEG,
        PixelFormat::Gray => FrameFormat::GRAY,
    }
}

impl From<CameraFormat> for Mode {
    fn from(format: CameraFormat) -> Self {
        let (width, height) = (format.width(), format.height());
        Self { format: format.format().into(), width, height, fps: format.frame_rate() }
    }
}

/// Returns all modes of a camera that can be decoded here. The camera is closed again.
///
/// # Errors
///
/// [`SourceError::Open`] if the camera does not exist, with a list of those that do, or if it does
/// not respond.
pub(super) fn offered(index: u32) -> Result<Vec<Mode>, SourceError> {
    let fail = |error: nokhwa::NokhwaError| SourceError::Open(why(index, &error.to_string()));
    let any = RequestedFormat::with_formats(RequestedFormatType::None, frame_formats());
    let mut camera = Camera::new(CameraIndex::Index(index), any).map_err(fail)?;
    let formats = camera.compatible_camera_formats().map_err(fail)?;
    Ok(formats.into_iter().map(Mode::from).collect())
}

/// Message for a camera that cannot be opened.
fn why(index: u32, error: &str) -> String {
    let mut cameras: Vec<(u32, String)> = nokhwa::query(ApiBackend::Auto)
        .unwrap_or_default()
        .iter()
        .filter_map(|info| Some((info.index().as_index().ok()?, info.human_name())))
        .collect();
    cameras.sort();
    if cameras.iter().any(|(found, _)| *found == index) {
        let hint = if error.contains("os error 13") {
            "; on Linux, its user has to be in the group video"
        } else {
            ""
        };
        return format!("camera {index}: {error}{hint}");
    }
    let cameras: Vec<String> =
        cameras.into_iter().map(|(index, name)| format!("{index} ({name})")).collect();
    if cameras.is_empty() {
        format!("there is no camera {index}, nor any other")
    } else {
        format!("there is no camera {index}; there are {}", cameras.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_that_is_not_there_is_said_so() {
        let said = why(4_000_000_000, "anything");
        assert!(said.starts_with("there is no camera 4000000000"), "{said}");
    }
}
