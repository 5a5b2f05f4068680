//! A camera as a source of frames.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use super::CameraSpec;
use super::frames::{Frames, settle};
use super::offers::offered;
use crate::daemon::source::opening::Opening;
use crate::daemon::source::{Given, Source, SourceError};

/// Broken frames in a row after which the camera is opened anew. A few are usual after a start.
const MAX_BROKEN: usize = 30;

/// How long the keeper waits for the device to be closed: longer than a frame of a slow camera takes.
const LAST_FRAME: Duration = Duration::from_millis(1500);

/// A camera that is open.
pub(crate) struct CameraSource {
    frames: Frames,
    /// Broken frames in a row.
    broken: usize,
    /// Stands behind `frames` so that it is dropped after it, when the device is closed; the keeper hears that.
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
        opening: &Arc<Opening>,
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
        // The device can be open once: the keeper waits until the reader, which was told to end, has closed it.
        opening.close_with(Box::new(move || {
            // Nothing is ever sent: it fails when the device is closed, or when the time is over.
            let _ = closed.recv_timeout(LAST_FRAME);
        }));
        Ok(Self { frames, broken: 0, _open: open })
    }
}

impl Source for CameraSource {
    fn next(&mut self) -> Result<Given, SourceError> {
        match self.frames.next()? {
            Ok(frame) => {
                self.broken = 0;
                Ok(Given::Frame(frame))
            }
            Err(why) if self.broken + 1 < MAX_BROKEN => {
                self.broken += 1;
                Ok(Given::Damaged(format!("a broken frame: {why}")))
            }
            Err(why) => {
                let what = format!("{MAX_BROKEN} frames in a row are broken, the last one: {why}");
                Err(SourceError::Lost(what))
            }
        }
    }
}
