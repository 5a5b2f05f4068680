//! What single values cannot say: ranges, files that must be there, keys that need each other.

use std::path::Path;

use fmlora_models::DeviceSpec;

use super::{DaemonConfig, Mistake};
use crate::daemon::source::SourceSpec;

/// Everything that is wrong with a configuration whose keys can be read.
pub(crate) fn check(config: &DaemonConfig) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut wrong = |key: &str, what: String| {
        mistakes.push(Mistake { place: key.to_owned(), what });
    };
    if let Err(why) = config.device.parse::<DeviceSpec>() {
        wrong("device", why);
    }
    let camera = &config.camera;
    match SourceSpec::parse(&camera.source, &camera.command) {
        Ok(SourceSpec::Directory { path, .. }) if !path.is_dir() => {
            wrong("camera.source", format!("{}: no such folder", path.display()));
        }
        Ok(_) => {}
        Err(why) => wrong("camera.source", why),
    }
    let ranges = [
        ("camera.fps", camera.fps, 0.1, 60.0),
        ("camera.timeout_seconds", camera.timeout_seconds, 0.5, 300.0),
        ("camera.retry_seconds", camera.retry_seconds, 0.5, 3600.0),
        ("predict.smoothing_frames", config.predict.smoothing_frames as f64, 1.0, 100.0),
    ];
    for (key, value, least, most) in ranges {
        if !(least..=most).contains(&value) {
            wrong(key, format!("is {value}, expected {least} to {most}"));
        }
    }
    if let Some(why) = config.base.as_deref().and_then(unreadable) {
        wrong("base", why);
    }
    mistakes
}

fn unreadable(path: &Path) -> Option<String> {
    std::fs::File::open(path).err().map(|error| format!("{}: {error}", path.display()))
}
