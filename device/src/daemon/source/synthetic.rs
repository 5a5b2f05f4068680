//! The synthetic camera as a source: each thing is shown for some seconds, one after the other.

use std::time::Duration;

use super::pace::Pace;
use super::{Given, Source, SourceError};
use crate::camera::synthetic::{SyntheticCamera, Thing};

/// Time for which one thing is shown.
const SHOWN: Duration = Duration::from_secs(6);

/// Renders frames at a steady rate.
pub(super) struct SyntheticSource {
    camera: SyntheticCamera,
    pace: Pace,
    frames_of_thing: u64,
    n_frames: u64,
}

impl SyntheticSource {
    pub(super) fn new(seed: u64, fps: f64) -> Self {
        let frames_of_thing = (SHOWN.as_secs_f64() * fps).ceil().max(1.0) as u64;
        Self {
            camera: SyntheticCamera::new(seed),
            pace: Pace::new(fps),
            frames_of_thing,
            n_frames: 0,
        }
    }
}

impl Source for SyntheticSource {
    fn next(&mut self) -> Result<Given, SourceError> {
        self.pace.wait();
        let thing = (self.n_frames / self.frames_of_thing) as usize % Thing::ALL.len();
        self.n_frames += 1;
        Ok(Given::Frame(self.camera.frame(Thing::ALL[thing])))
    }
}
