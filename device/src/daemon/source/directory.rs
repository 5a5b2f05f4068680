//! The pictures of a folder, at a steady pace: those that are there by name, new ones as soon as they are complete.
//!
//! Cameras upload into such a folder, by FTP for example. A network share tells nothing of what other machines write to it,
//! so the folder is looked through again and again.

mod pictures;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fmlora_models::decode_picture;
use image::RgbImage;

use super::pace::Pace;
use super::{Given, Source, SourceError};
use pictures::Pictures;

/// How often a picture is shown again that stays in view.
const AGAIN: Duration = Duration::from_secs(1);

/// Which folder, and how it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DirectorySpec {
    /// The folder.
    pub(crate) path: PathBuf,
    /// Frames a second.
    pub(super) fps: f64,
    /// Whether it begins again at its end. Without it the newest picture stays in view.
    pub(super) repeat: bool,
    /// Whether folders below it belong to it.
    pub(super) subfolders: bool,
}

/// Shows one picture after the other.
pub(super) struct DirectorySource {
    pictures: Pictures,
    /// New ones that are to be shown next.
    new: VecDeque<PathBuf>,
    /// Those of this round that are to be shown yet.
    round: VecDeque<PathBuf>,
    repeat: bool,
    pace: Pace,
    /// The bytes of the picture in view, and when it was shown.
    in_view: Option<(Vec<u8>, Instant)>,
    again: Duration,
}

impl DirectorySource {
    /// Looks through the folder. A picture that stays in view is shown again well within `timeout`.
    ///
    /// # Errors
    ///
    /// [`SourceError::Open`] if the folder cannot be read.
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

    /// Takes in what has come since the folder was looked through last.
    fn look(&mut self) -> Result<(), SourceError> {
        if self.pictures.is_due() {
            let found = self.pictures.look().map_err(SourceError::Lost)?;
            self.new.retain(|path| !found.contains(path));
            self.round.retain(|path| !found.contains(path));
            self.new.extend(found);
        }
        Ok(())
    }

    /// The next picture that can be read, without waiting.
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
                // Perhaps it is not complete yet.
                Err(_) if !self.pictures.is_settled(&path) => self.pictures.look_again(&path),
                // Programs that upload pictures may remove them as well.
                Err(_) if !path.exists() => self.pictures.set_bad(&path),
                Err(why) => {
                    self.pictures.set_bad(&path);
                    return Some(Given::Damaged(format!("{}: {why}", path.display())));
                }
            }
        }
        None
    }

    /// The picture in view once more, when it is time.
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

/// The bytes of a picture, and the picture.
fn read(path: &Path) -> Result<(Vec<u8>, RgbImage), String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let frame = decode_picture(&bytes).map_err(|error| error.to_string())?;
    Ok((bytes, frame))
}
