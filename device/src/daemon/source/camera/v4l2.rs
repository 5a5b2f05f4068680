//! Frames of a camera on Linux, by V4L2.
//!
//! The frames are not read by nokhwa, but by `v4l`, on which nokhwa is built. nokhwa's stream polls
//! its device without a time-out, and cannot be ended from outside: a silent camera would keep its
//! thread, and with it the device, until it is unplugged. It could not be reopened either, because
//! within a process nokhwa uses the same file for every opening of a camera as long as one is left.
//! The stream of `v4l` has a time-out, and exposes the lengths of lines and frames, which nokhwa
//! hides.

use std::io;
use std::time::Duration;

use image::RgbImage;
use v4l::buffer::{Flags, Type};
use v4l::io::traits::CaptureStream;
use v4l::prelude::MmapStream;
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Device, Format, FourCC};

use super::choice::Mode;
use super::pixels::{Layout, PixelError, PixelFormat, to_rgb};
use crate::daemon::source::SourceError;

/// `ENODEV`: the device is gone.
const NO_DEVICE: i32 = 19;

/// A streaming camera. Dropping it stops the stream and closes the device.
pub(super) struct Frames {
    stream: MmapStream<'static>,
    layout: Layout,
    rate: f64,
    index: u32,
    timeout: Duration,
}

impl Frames {
    /// Opens the camera in a mode; no wait is longer than `timeout`.
    pub(super) fn open(index: u32, mode: Mode, timeout: Duration) -> Result<Self, SourceError> {
        let fail = |what: &str| {
            let what = format!("camera {index}: {what}");
            move |error: io::Error| {
                let busy = error.kind() == io::ErrorKind::ResourceBusy;
                let hint = if busy { "; another program uses it" } else { "" };
                SourceError::Open(format!("{what}: {error}{hint}"))
            }
        };
        let device = Device::new(index as usize).map_err(fail("open"))?;
        let Mode { format, width, height, fps } = mode;
        let asked = Format::new(width, height, fourcc(format));
        let set = device.set_format(&asked).map_err(fail("set the format"))?;
        if (set.width, set.height, set.fourcc) != (width, height, asked.fourcc) {
            return Err(SourceError::Open(format!(
                "camera {index} offers {format} {width}x{height}, but gives {} {}x{}",
                set.fourcc, set.width, set.height
            )));
        }
        // Some drivers accept no frame rate, and nokhwa reads an interval of 2/25 s as 25 fps.
        let rate = match device.set_params(&Parameters::with_fps(fps)).map(|set| set.interval) {
            Ok(set) if set.numerator > 0 => f64::from(set.denominator) / f64::from(set.numerator),
            _ => f64::from(fps),
        };
        let mut stream =
            MmapStream::new(&device, Type::VideoCapture).map_err(fail("begin to stream"))?;
        stream.set_timeout(timeout);
        let layout = Layout { format, width, height, stride: set.stride as usize };
        Ok(Self { stream, layout, rate, index, timeout })
    }

    /// Frame rate that the camera reports, in frames per second.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// Waits for the next frame and decodes it; the inner error is that of a broken frame.
    ///
    /// # Errors
    ///
    /// [`SourceError::Silent`] if no frame arrives in time, [`SourceError::Lost`] if the camera is
    /// gone or fails. The stream cannot be used after an error.
    pub(super) fn next(&mut self) -> Result<Result<RgbImage, PixelError>, SourceError> {
        loop {
            let (bytes, about) = match self.stream.next() {
                Ok(frame) => frame,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.skip()?;
                    continue;
                }
                Err(error) => return Err(lost(self.index, self.timeout, &error)),
            };
            if about.flags.contains(Flags::ERROR) {
                return Ok(Err(PixelError::Marked));
            }
            let used = bytes.len().min(about.bytesused as usize);
            return Ok(to_rgb(&self.layout, &bytes[..used]));
        }
    }

    /// Skips a frame. A signal to this thread ends the wait after the buffer was given to the
    /// driver, and `next` would give it a second time, which the driver refuses.
    fn skip(&mut self) -> Result<(), SourceError> {
        loop {
            match self.stream.dequeue() {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(self.index, self.timeout, &error)),
            }
        }
    }
}

fn lost(index: u32, timeout: Duration, error: &io::Error) -> SourceError {
    match error.raw_os_error() {
        _ if error.kind() == io::ErrorKind::TimedOut => {
            SourceError::Silent { time: timeout, note: None }
        }
        Some(NO_DEVICE) => SourceError::Lost(format!("camera {index} was unplugged")),
        _ => SourceError::Lost(format!("camera {index}: {error}")),
    }
}

/// Sets a camera to a mode that nokhwa can read. nokhwa does not open a camera with a format that
/// it does not know, or with a frame rate that is no whole number; another program may have left it
/// so. Errors are ignored here: nokhwa reports them.
pub(super) fn settle(index: u32) {
    let Ok(device) = Device::new(index as usize) else { return };
    let known = |format: FourCC| PixelFormat::ALL.into_iter().any(|f| fourcc(f) == format);
    let readable = device.format().is_ok_and(|now| known(now.fourcc));
    if readable && device.params().is_ok_and(|now| now.interval.numerator == 1) {
        return;
    }
    let offered = device.enum_formats().unwrap_or_default();
    if let Some(format) = offered.iter().map(|offer| offer.fourcc).find(|format| known(*format)) {
        let set = device
            .set_format(&Format::new(640, 480, format))
            .and_then(|_| device.set_params(&Parameters::with_fps(30)).map(|_| ()));
        tracing::debug!("camera {index}: brought to {format}: {set:?}");
    }
}

fn fourcc(format: PixelFormat) -> FourCC {
    FourCC::new(match format {
        PixelFormat::Yuyv => b"YUYV",
        PixelFormat::Nv12 => b"NV12",
        PixelFormat::Rgb => b"RGB3",
        PixelFormat::Bgr => b"BGR3",
        PixelFormat::Mjpeg => b"MJPG",
        // nokhwa's name, and the reason why it finds no such camera: V4L2's name is GREY.
        PixelFormat::Gray => b"GRAY",
    })
}
