//! `run` and `check`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::{CheckArgs, Global, RunArgs};
use crate::daemon::config::{self, ConfigError, DaemonConfig, Mistake};
use crate::daemon::source::try_frame;
use crate::daemon::{self, Told};
use crate::report;
use crate::store::Access;
use crate::{EdgeError, Session};

pub(super) fn run(global: &Global, args: &RunArgs) -> Result<(), EdgeError> {
    let config = read(&args.config)?;
    let mistakes = config::check(&config);
    if !mistakes.is_empty() {
        let source_name = args.config.display().to_string();
        return Err(EdgeError::Config(ConfigError { source_name, mistakes }));
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let fail = |source| EdgeError::System { what: "wait for signals", source };
        signal_hook::flag::register(signal, stop.clone()).map_err(fail)?;
    }
    let mut session = Session::open(&merged(global, &config)?, Access::Read)?;
    let until = args.seconds.and_then(|time| Instant::now().checked_add(time));
    let over =
        || stop.load(Ordering::Relaxed) || until.is_some_and(|until| Instant::now() >= until);
    let mut shown = None;
    let mut tell = |told: Told<'_>| match told {
        Told::Source(health) if global.json => report::json(&json!({ "source": health })),
        Told::Source(health) => match &health.trouble {
            Some(why) => report::line(format!("no frames: {why}")),
            None => report::line("frames come"),
        },
        Told::Seen(seen) if global.json => report::json(seen),
        Told::Seen(seen) => {
            let answer = &seen.answer;
            let now = answer.class.clone().filter(|_| !answer.unknown);
            if shown.as_ref() == Some(&now) {
                return Ok(());
            }
            let line = match (&answer.class, &now) {
                (None, _) => "nothing was taught yet".to_owned(),
                (Some(_), None) => "unknown".to_owned(),
                (Some(_), Some(class)) => {
                    format!("{class} ({:.0} %)", 100.0 * answer.confidence)
                }
            };
            shown = Some(now);
            report::line(line)
        }
    };
    let told = daemon::run(&config, &mut session, &over, &mut tell)?;
    if global.json {
        return report::json(&json!({ "ended": told }));
    }
    report::line(format!(
        "{} frames in {:.0} s, {} answered in {:.0} ms each, {} left out",
        told.frames, told.seconds, told.answered, told.milliseconds, told.left_out
    ))
}

pub(super) fn check(global: &Global, args: &CheckArgs) -> Result<(), EdgeError> {
    let Some(path) = args.config.as_deref().filter(|_| !args.example) else {
        return report::line(config::example().trim_end());
    };
    let mut mistakes = Vec::new();
    let mut frame = None;
    match read(path) {
        Err(EdgeError::Config(error)) => mistakes = error.mistakes,
        Err(error) => return Err(error),
        Ok(config) => {
            mistakes.extend(config::check(&config));
            let named = |keys: &[&str]| mistakes.iter().any(|m| keys.contains(&m.place.as_str()));
            // What is wrong by itself is not tried as well.
            let (try_session, try_camera) = (!named(&["base", "device"]), mistakes.is_empty());
            let mut wrong = |place: &str, error: &dyn std::error::Error| {
                let what = report::with_causes(error);
                mistakes.push(Mistake { place: place.to_owned(), what });
            };
            if try_session {
                let opened = merged(global, &config)
                    .and_then(|global| Session::open(&global, Access::Read))
                    .and_then(|mut session| session.engine().map(|_| ()));
                if let Err(error) = opened {
                    wrong("base, state, device", &error);
                }
            }
            if try_camera {
                match try_frame(&daemon::keeping(&config)?) {
                    Ok(tried) => frame = Some(tried),
                    Err(error) => wrong("camera.source", &error),
                }
            }
        }
    }
    if global.json {
        let mistakes: Vec<_> =
            mistakes.iter().map(|m| json!({ "place": m.place, "what": m.what })).collect();
        report::json(&json!({ "ok": mistakes.is_empty(), "mistakes": mistakes, "frame": frame }))?;
    } else if let Some(frame) = &frame {
        let (width, height, seconds) = (frame.width, frame.height, frame.seconds);
        report::line(format!("a frame of {width} x {height} after {seconds:.1} s"))?;
    }
    if mistakes.is_empty() {
        return if global.json { Ok(()) } else { report::line("all is well") };
    }
    Err(EdgeError::Config(ConfigError { source_name: path.display().to_string(), mistakes }))
}

/// Reads a configuration file and the environment.
fn read(path: &Path) -> Result<DaemonConfig, EdgeError> {
    let what = "read the configuration";
    let fail = |source| EdgeError::File { path: path.to_owned(), what, source };
    let text = std::fs::read_to_string(path).map_err(fail)?;
    let name = path.display().to_string();
    config::load(&name, &text, &|name| std::env::var(name).ok()).map_err(EdgeError::Config)
}

/// What the command line says, and where it says nothing, what the configuration does.
fn merged(global: &Global, config: &DaemonConfig) -> Result<Global, EdgeError> {
    let device = match &global.device {
        Some(device) => device.clone(),
        None => config.device.parse().map_err(|what| {
            let mistake = Mistake { place: "device".to_owned(), what };
            EdgeError::Config(ConfigError::one("configuration", mistake))
        })?,
    };
    Ok(Global {
        base: global.base.clone().or_else(|| config.base.clone()),
        state: global.state.clone().or_else(|| config.state.clone()),
        device: Some(device),
        json: global.json,
        verbose: global.verbose,
    })
}
