//! Frames of a camera on systems other than Linux, by nokhwa.
//!
//! nokhwa's wait for a frame has no time-out and cannot be ended. The keeper gives up a silent
//! camera, as it does any source, but the thread and the device remain until a frame arrives or the
//! camera is gone.

use std::time::Duration;

use image::RgbImage;
use nokhwa::Camera;
use nokhwa::utils::{CameraFormat, CameraIndex, RequestedFormat, RequestedFormatType, Resolution};

use super::choice::Mode;
use super::offers::frame_format;
use super::pixels::{Layout, PixelError, to_rgb};
use crate::daemon::source::SourceError;

/// A streaming camera.
pub(super) struct Frames {
    camera: Camera,
    layout: Layout,
}

impl Frames {
    /// Opens the camera in a mode.
    pub(super) fn open(index: u32, mode: Mode, _: Duration) -> Result<Self, SourceError> {
        let fail = |error: nokhwa::NokhwaError| SourceError::Open(error.to_string());
        let Mode { format, width, height, fps } = mode;
        let known = frame_format(format);
        let exact = CameraFormat::new(Resolution::new(width, height), known, fps);
        let formats = [known];
        let asked = RequestedFormat::with_formats(RequestedFormatType::Exact(exact), &formats);
        let mut camera = Camera::new(CameraIndex::Index(index), asked).map_err(fail)?;
        camera.open_stream().map_err(fail)?;
        Ok(Self { camera, layout: Layout { format, width, height, stride: 0 } })
    }

    /// Frame rate that the camera reports, in frames per second.
    pub(super) fn rate(&self) -> f64 {
        f64::from(self.camera.frame_rate())
    }

    /// Waits for the next frame and decodes it; the inner error is that of a broken frame.
    ///
    /// # Errors
    ///
    /// [`SourceError::Lost`] if the camera is gone or fails.
    pub(super) fn next(&mut self) -> Result<Result<RgbImage, PixelError>, SourceError> {
        let frame = self.camera.frame().map_err(|error| SourceError::Lost(error.to_string()))?;
        Ok(to_rgb(&self.layout, frame.buffer()))
    }
}

/// Does nothing: no such preparation is known to be needed here.
pub(super) fn settle(_: u32) {}
