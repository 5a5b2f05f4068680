//! `run`: reads the configuration and runs the daemon.

use std::path::Path;
use std::time::Instant;

use serde_json::json;

use crate::cli::{Global, RunArgs};
use crate::daemon::config::{self, ConfigError, DaemonConfig, Mistake, Read};
use crate::daemon::{self, Event, Run, Seen, Told};
use crate::report;
use crate::store::Access;
use crate::{EdgeError, Session};

pub(super) fn run(global: &Global, args: &RunArgs) -> Result<(), EdgeError> {
    let reread = || checked(&args.config);
    let config = reread()?;
    let session = Session::open(&merged(global, &config)?, Access::Write)?;
    let until = args.seconds.and_then(|time| Instant::now().checked_add(time));
    watch(global, config, session, until, &reread)
}

/// Runs the daemon, and prints its messages and events.
pub(super) fn watch(
    global: &Global,
    config: DaemonConfig,
    session: Session,
    until: Option<Instant>,
    reread: &dyn Fn() -> Result<DaemonConfig, EdgeError>,
) -> Result<(), EdgeError> {
    let mut shown = None;
    // The initial phase `idle` is not printed.
    let mut updates = Some("idle");
    let mut tell = |told: Told<'_>| match told {
        Told::Page(url) if global.json => report::json(&json!({ "page": url })),
        Told::Page(url) => report::line(format!("page: {url}")),
        Told::Password(password) if global.json => {
            report::json(&json!({ "login": { "user": "admin", "password": password } }))
        }
        Told::Password(password) => report::line(format!(
            "login: admin, password {password} (told this once; a new one: fmlora-edge password)"
        )),
        Told::Event(event) if global.json => match event {
            Event::Prediction(seen) => report::json(seen),
            Event::Source(health) => report::json(&json!({ "source": health })),
            other => report::json(other),
        },
        Told::Event(event) => match event {
            Event::Prediction(seen) => print_change(&mut shown, seen),
            Event::Source(health) => match &health.trouble {
                Some(why) => report::line(format!("no frames: {why}")),
                None => report::line("frames come"),
            },
            Event::Classes { operation, classes } => {
                shown = None;
                report::line(format!("{operation}: {} classes", classes.len()))
            }
            Event::Update(status) if updates != Some(status.phase) => {
                updates = Some(status.phase);
                report::line(format!("updates: {}", status.phase))
            }
            Event::Trained(trained) => report::line(trained.report.text()),
            Event::Shot { .. }
            | Event::Storage { .. }
            | Event::Training { .. }
            | Event::Update(_)
            | Event::Missed { .. } => Ok(()),
        },
    };
    let run = Run { config, session, until, reread, tell: &mut tell };
    let told = daemon::run(run)?;
    if global.json {
        return report::json(&json!({ "ended": told }));
    }
    report::line(format!(
        "{} frames in {:.0} s, {} answered in {:.0} ms each, {} left out, {} damaged",
        told.frames, told.seconds, told.answered, told.milliseconds, told.left_out, told.damaged
    ))
}

/// The class printed last; `None` for unknown.
#[derive(Debug, PartialEq)]
struct Shown {
    class: Option<String>,
}

/// Prints an answer if it differs from the previous one.
fn print_change(shown: &mut Option<Shown>, seen: &Seen) -> Result<(), EdgeError> {
    let answer = &seen.answer;
    let now = Shown { class: answer.class.clone().filter(|_| !answer.unknown) };
    if shown.as_ref() == Some(&now) {
        return Ok(());
    }
    let line = match (&answer.class, &now.class) {
        (None, _) => "nothing was taught yet".to_owned(),
        (Some(_), None) => "unknown".to_owned(),
        (Some(_), Some(class)) => format!("{class} ({:.0} %)", 100.0 * answer.confidence),
    };
    *shown = Some(now);
    report::line(line)
}

/// Reads a configuration and checks it. Any mistake is an error.
fn checked(path: &Path) -> Result<DaemonConfig, EdgeError> {
    let name = path.display().to_string();
    match config::read(&read_text(path)?, &environment).checked(variables()) {
        Read { config: Some(config), mistakes, .. } if mistakes.is_empty() => Ok(config),
        Read { mistakes, .. } => {
            Err(EdgeError::Config(ConfigError { source_name: name, mistakes }))
        }
    }
}

/// Reads a configuration file.
pub(super) fn read_text(path: &Path) -> Result<String, EdgeError> {
    let what = "read the configuration";
    let fail = |source| EdgeError::File { path: path.to_owned(), what, source };
    std::fs::read_to_string(path).map_err(fail)
}

/// Returns the value of an environment variable.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns the names of all environment variables.
pub(super) fn variables() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())
}

/// Merges the options: the command line overrides the configuration.
pub(super) fn merged(global: &Global, config: &DaemonConfig) -> Result<Global, EdgeError> {
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
