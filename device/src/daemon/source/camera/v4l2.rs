//! The frames of a camera on Linux.
//!
//! Not through nokhwa, but through `v4l`, on which nokhwa stands. nokhwa's stream polls its device without a time-out, and
//! nothing from outside ends that: a camera that falls silent would keep its thread, and with it the device, until it is
//! unplugged. It could not be opened again either, because within a process nokhwa gives every opening of a camera the
//! same file as long as one is left. The stream of `v4l` can be told how long to wait, and it knows how long the lines and
//! the frames are, which nokhwa keeps to itself.

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

/// A camera that streams. Dropping it stops the stream and closes the device.
pub(super) struct Frames {
    stream: MmapStream<'static>,
    layout: Layout,
    rate: f64,
    index: u32,
    timeout: Duration,
}

impl Frames {
    /// Opens the camera in a mode, for waits of at most `timeout`.
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
        // Some drivers cannot be told a rate, and nokhwa takes that of a frame every 2/25 s for 25.
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

    /// Frames a second that the camera means to give.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// The next frame, or what is wrong with it; waits for it.
    ///
    /// # Errors
    ///
    /// [`SourceError::Silent`] if none comes in time, [`SourceError::Lost`] if the camera is gone or fails. After an
    /// error the stream is of no use any more.
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

    /// Leaves a frame out. A signal that reaches this thread ends the wait when the buffer has already been given to the
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

/// Brings a camera into a state that nokhwa can read: it opens none that is set to a format which nokhwa does not know, or
/// to a rate that is no whole number, as another program may have left it. What goes wrong here, nokhwa tells.
pub(super) fn settle(index: u32) {
    let Ok(device) = Device::new(index as usize) else { return };
    let known = |format: FourCC| PixelFormat::ALL.into_iter().any(|f| fourcc(f) == format);
    let readable = device.format().is_ok_and(|now| known(now.fourcc));
    if readable && device.params().is_ok_and(|now| now.interval.numerator == 1) {
        return;
    }
    let offered = device.enum_formats().unwrap_or_default();
    if let Some(format) = offered.iter().map(|offer| offer.fourcc).find(|format| known(*format)) {
        let set = device.set_format(&Format::new(640, 480, format)).map(|_| ());
        let set = set.and_then(|()| device.set_params(&Parameters::with_fps(30)).map(|_| ()));
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
        // As nokhwa calls it, which is why it finds none: V4L2's name is GREY.
        PixelFormat::Gray => b"GRAY",
    })
}
