//! `run`, `check` and `password`.

use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::update;
use crate::cli::{CheckArgs, Global, PasswordArgs, RunArgs};
use crate::daemon::access::{AccessError, Gate, Role};
use crate::daemon::config::{self, ConfigError, DaemonConfig, Mistake};
use crate::daemon::source::try_frame;
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

/// Runs the daemon, and prints what it tells.
pub(super) fn watch(
    global: &Global,
    config: DaemonConfig,
    session: Session,
    until: Option<Instant>,
    reread: &dyn Fn() -> Result<DaemonConfig, EdgeError>,
) -> Result<(), EdgeError> {
    let mut shown = None;
    // Nobody has to be told that nothing was updated.
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

/// The class that was printed last; none is unknown.
#[derive(Debug, PartialEq)]
struct Shown {
    class: Option<String>,
}

/// Prints an answer that is another one than the one before.
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

/// Gives an account a new password.
pub(super) fn password(global: &Global, args: &PasswordArgs) -> Result<(), EdgeError> {
    let session = Session::open(global, Access::Write)?;
    let fail = |error: AccessError| EdgeError::Access(report::with_causes(&error));
    let (gate, made) = Gate::open(session.store().record("accounts")?).map_err(fail)?;
    let role = if args.viewer { Role::Viewer } else { Role::Admin };
    let password = match made.filter(|_| role == Role::Admin) {
        Some(password) => password,
        None => gate.renew_password(role).map_err(fail)?,
    };
    let user = if args.viewer { "viewer" } else { "admin" };
    if global.json {
        return report::json(&json!({ "user": user, "password": password }));
    }
    report::line(format!("login: {user}, password {password} (told this once)"))
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
            let try_session = !named(&["base", "device"]);
            let try_camera = !mistakes.iter().any(|mistake| mistake.place.starts_with("camera."));
            let try_repository = mistakes.is_empty();
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
            if try_repository && let Err(error) = update::try_repository(&config.update) {
                wrong("update.from", &error);
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

/// Reads a configuration that a daemon can run with.
fn checked(path: &Path) -> Result<DaemonConfig, EdgeError> {
    let config = read(path)?;
    let mistakes = config::check(&config);
    if mistakes.is_empty() {
        return Ok(config);
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
