//! Source `dir:`: pictures of a directory at a steady rate, in the order of their names; new files
//! are shown as soon as they are complete.
//!
//! Cameras upload into such a directory, by FTP for example. A network share reports no changes by
//! other machines, so the directory is scanned again and again.

mod pictures;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fmlora_models::decode_picture;
use image::RgbImage;

use super::pace::Pace;
use super::{Given, Source, SourceError};
use pictures::Pictures;

/// Interval at which a picture that stays in view is shown again.
const AGAIN: Duration = Duration::from_secs(1);

/// Settings of a directory source.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DirectorySpec {
    /// Path of the directory.
    pub(crate) path: PathBuf,
    /// Frames per second.
    pub(super) fps: f64,
    /// True to start again after the last picture. Otherwise the newest picture stays in view.
    pub(super) repeat: bool,
    /// True to include subdirectories.
    pub(super) subfolders: bool,
}

/// Shows one picture of a directory after the other.
pub(super) struct DirectorySource {
    pictures: Pictures,
    /// New pictures, which are shown next.
    new: VecDeque<PathBuf>,
    /// Remaining pictures of this round.
    round: VecDeque<PathBuf>,
    repeat: bool,
    pace: Pace,
    /// Bytes of the picture in view, and the time at which it was last shown.
    in_view: Option<(Vec<u8>, Instant)>,
    again: Duration,
}

impl DirectorySource {
    /// Scans the directory. A picture that stays in view is shown again well within `timeout`.
    ///
    /// # Errors
    ///
    /// [`SourceError::Open`] if the directory cannot be read.
    pub(super) fn open(spec: &DirectorySpec, timeout: Duration) -> Result<Self, SourceError> {
        let mut pictures = Pictures::of(&spec.path, spec.subfolders);
        let found = pictures.look().map_err(SourceError::Open)?;
        Ok(Self {
            pictures,
            new: VecDeque::new(),
            round: found.into(),
            repeat: spec.repeat,
            pace: Pace::new(spec.fps),
            in_view: None,
            again: AGAIN.min(timeout / 3),
        })
    }

    /// Adds the pictures that are new since the last scan, if a scan is due.
    fn look(&mut self) -> Result<(), SourceError> {
        if self.pictures.is_due() {
            let found = self.pictures.look().map_err(SourceError::Lost)?;
            self.new.retain(|path| !found.contains(path));
            self.round.retain(|path| !found.contains(path));
            self.new.extend(found);
        }
        Ok(())
    }

    /// Takes the next readable picture, without waiting.
    fn take(&mut self) -> Option<Given> {
        while let Some(path) = self.new.pop_front().or_else(|| self.round.pop_front()) {
            if self.pictures.is_bad(&path) {
                continue;
            }
            match read(&path) {
                Ok((bytes, frame)) => {
                    self.in_view = Some((bytes, Instant::now()));
                    return Some(Given::Frame(frame));
                }
                // The upload may not be complete yet.
                Err(_) if !self.pictures.is_settled(&path) => self.pictures.look_again(&path),
                // Upload programs may also remove pictures.
                Err(_) if !path.exists() => self.pictures.set_bad(&path),
                Err(why) => {
                    self.pictures.set_bad(&path);
                    return Some(Given::Damaged(format!("{}: {why}", path.display())));
                }
            }
        }
        None
    }

    /// Shows the picture in view again, if its interval has passed.
    fn show_again(&mut self) -> Option<Given> {
        let (bytes, shown) = self.in_view.as_mut()?;
        if shown.elapsed() < self.again {
            return None;
        }
        *shown = Instant::now();
        decode_picture(bytes).ok().map(Given::Frame)
    }
}

impl Source for DirectorySource {
    fn next(&mut self) -> Result<Given, SourceError> {
        self.pace.wait();
        loop {
            self.look()?;
            if let Some(given) = self.take() {
                return Ok(given);
            }
            if self.repeat {
                self.round = self.pictures.all();
                if let Some(given) = self.take() {
                    return Ok(given);
                }
            }
            let kept = self.in_view.is_some() && !self.repeat;
            if kept && let Some(given) = self.show_again() {
                return Ok(given);
            }
            std::thread::sleep(self.again / 4);
            if !kept {
                return Ok(Given::Waiting(self.pictures.why_none()));
            }
        }
    }
}

/// Reads and decodes a file; returns its bytes and the picture.
fn read(path: &Path) -> Result<(Vec<u8>, RgbImage), String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let frame = decode_picture(&bytes).map_err(|error| error.to_string())?;
    Ok((bytes, frame))
}
