//! A camera as a source of frames.

use std::cell::Cell;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use image::RgbImage;

use super::CameraSpec;
use super::frames::{Frames, settle};
use super::offers::offered;
use crate::daemon::source::{Closer, Source, SourceError};

/// Broken frames in a row after which the camera is opened anew. A few are usual after a start.
const MAX_BROKEN: usize = 30;

/// How long the keeper waits for the device to be closed: longer than a frame of a slow camera takes.
const LAST_FRAME: Duration = Duration::from_millis(1500);

/// A camera that is open.
pub(crate) struct CameraSource {
    frames: Frames,
    closed: Cell<Option<Receiver<()>>>,
    /// Stands behind `frames` so that it is dropped after it, when the device is closed; `closed` hears that.
    _open: SyncSender<()>,
}

impl CameraSource {
    /// Opens a camera for `fps` frames a second and waits of at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`SourceError::Open`]: there is no such camera, it does not offer what is asked for, or it refuses.
    pub(crate) fn open(
        spec: &CameraSpec,
        fps: f64,
        timeout: Duration,
    ) -> Result<Self, SourceError> {
        let index = spec.index;
        settle(index);
        let mode = spec.wish.choose(&offered(index)?, fps);
        let mode = mode.map_err(|why| SourceError::Open(format!("camera {index} {why}")))?;
        let frames = Frames::open(index, mode, timeout)?;
        let rate = frames.rate();
        tracing::info!("camera {index}: {mode}, which is {rate:.1} fps");
        if let Some(least) = spec.wish.fps.filter(|least| rate < f64::from(*least)) {
            let what = format!("gives {rate:.1} fps as {mode}, fewer than fps={least}");
            return Err(SourceError::Open(format!("camera {index} {what}")));
        }
        let (open, closed) = sync_channel(0);
        Ok(Self { frames, closed: Cell::new(Some(closed)), _open: open })
    }
}

impl Source for CameraSource {
    fn next_frame(&mut self) -> Result<RgbImage, SourceError> {
        let mut last = None;
        for _ in 0..MAX_BROKEN {
            match self.frames.next()? {
                Ok(frame) => return Ok(frame),
                Err(why) => last = Some(why),
            }
        }
        let why = last.map_or_else(String::new, |why| format!(", the last one: {why}"));
        Err(SourceError::Lost(format!("{MAX_BROKEN} frames in a row are broken{why}")))
    }

    /// Waits until the reader, which was told to end, has closed the device: it can be open once.
    fn closer(&self) -> Option<Closer> {
        let closed = self.closed.take()?;
        Some(Box::new(move || {
            // Nobody ever sends: it fails when the device is closed, or when the time is over.
            let _ = closed.recv_timeout(LAST_FRAME);
        }))
    }
}
