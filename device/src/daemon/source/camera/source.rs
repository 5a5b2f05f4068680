//! A camera as a source of frames.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use super::CameraSpec;
use super::frames::{Frames, settle};
use super::offers::offered;
use crate::daemon::source::opening::Opening;
use crate::daemon::source::{Given, Source, SourceError};

/// Number of consecutive broken frames after which the camera is reopened. A few are usual after a
/// start.
const MAX_BROKEN: usize = 30;

/// Longest wait of the keeper for the device to be closed: longer than one frame of a slow camera.
const LAST_FRAME: Duration = Duration::from_millis(1500);

/// An open camera.
pub(crate) struct CameraSource {
    frames: Frames,
    /// Number of consecutive broken frames.
    broken: usize,
    /// Declared after `frames` and so dropped after it, when the device is closed. The keeper waits
    /// for this.
    _open: SyncSender<()>,
}

impl CameraSource {
    /// Opens a camera for `fps` frames per second; no wait is longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`SourceError::Open`] if the camera does not exist, does not offer the requested mode, or
    /// refuses it.
    pub(crate) fn open(
        spec: &CameraSpec,
        fps: f64,
        timeout: Duration,
        opening: &Arc<Opening>,
    ) -> Result<Self, SourceError> {
        let index = spec.index;
        settle(index);
        let mode = spec
            .wish
            .choose(&offered(index)?, fps)
            .map_err(|why| SourceError::Open(format!("camera {index} {why}")))?;
        let frames = Frames::open(index, mode, timeout)?;
        let rate = frames.rate();
        tracing::info!("camera {index}: {mode}, which is {rate:.1} fps");
        if let Some(least) = spec.wish.fps.filter(|least| rate < f64::from(*least)) {
            let what = format!("gives {rate:.1} fps as {mode}, fewer than fps={least}");
            return Err(SourceError::Open(format!("camera {index} {what}")));
        }
        let (open, closed) = sync_channel(0);
        // The device can be open only once: the keeper waits until the reader, which was told to
        // end, has closed it.
        opening.close_with(Box::new(move || {
            // Nothing is ever sent: the wait ends when the device is closed, or after its time
            // limit.
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
