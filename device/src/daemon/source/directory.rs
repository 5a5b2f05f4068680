//! The pictures of a folder, by name, at a steady pace.

use std::path::{Path, PathBuf};

use fmlora_models::{decode_picture, has_picture_name};
use image::RgbImage;

use super::pace::Pace;
use super::{Source, SourceError};

/// Reads one picture after the other.
pub(super) struct DirectorySource {
    pictures: Vec<PathBuf>,
    next: usize,
    repeat: bool,
    pace: Pace,
}

impl DirectorySource {
    pub(super) fn open(folder: &Path, fps: f64, repeat: bool) -> Result<Self, SourceError> {
        let fail =
            |error: std::io::Error| SourceError::Open(format!("{}: {error}", folder.display()));
        let mut pictures = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if has_picture_name(&path) && path.is_file() {
                pictures.push(path);
            }
        }
        pictures.sort();
        if pictures.is_empty() {
            return Err(SourceError::Open(format!("{}: holds no pictures", folder.display())));
        }
        Ok(Self { pictures, next: 0, repeat, pace: Pace::new(fps) })
    }
}

impl Source for DirectorySource {
    fn next_frame(&mut self) -> Result<RgbImage, SourceError> {
        self.pace.wait();
        for _ in 0..self.pictures.len() {
            if self.next == self.pictures.len() {
                if !self.repeat {
                    return Err(SourceError::End);
                }
                self.next = 0;
            }
            let path = &self.pictures[self.next];
            self.next += 1;
            match load(path) {
                Ok(frame) => return Ok(frame),
                // One bad picture must not hide those behind it.
                Err(why) => tracing::warn!("skipped {}: {why}", path.display()),
            }
        }
        Err(SourceError::Lost("none of its pictures can be read".to_owned()))
    }
}

fn load(path: &Path) -> Result<RgbImage, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    decode_picture(&bytes).map_err(|error| error.to_string())
}
