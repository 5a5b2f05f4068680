//! `check`: tries everything that `run` needs, and reports all mistakes at once.

mod state;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;

use serde_json::json;
use tokio::runtime::Runtime;

use super::daemon::{environment, merged, read_text, variables};
use super::update;
use crate::EdgeError;
use crate::cli::{CheckArgs, Global};
use crate::daemon;
use crate::daemon::config::{self, ConfigError, DaemonConfig, Mistake};
use crate::daemon::source::{Tried, try_frame};
use crate::report::{self, with_causes};

/// Findings of the check so far.
#[derive(Debug, Default)]
struct Found {
    mistakes: Vec<Mistake>,
    /// Warnings, which do not keep the daemon from running.
    notes: Vec<Mistake>,
    /// Keys with a wrong value of their own. Parts that need them are not tried.
    wrong: Vec<String>,
    /// True if a running daemon owns the state.
    daemon_runs: bool,
    frame: Option<Tried>,
}

pub(super) fn check(global: &Global, args: &CheckArgs) -> Result<(), EdgeError> {
    let Some(path) = args.config.as_deref().filter(|_| !args.example) else {
        return report::line(config::example().trim_end());
    };
    let read = config::read(&read_text(path)?, &environment).checked(variables());
    let config::Read { config, mistakes, wrong } = read;
    let mut found = Found { mistakes, wrong, ..Found::default() };
    if let Some(config) = &config {
        // It fails only for a wrong value of `device`, which is among the mistakes already.
        if let Ok(global) = merged(global, config) {
            state::try_state(&mut found, &global, config);
        }
        let runtime = runtime()?;
        found.try_page(config, &runtime);
        found.try_broker(config, &runtime);
        found.try_repository(config);
        found.try_camera(config)?;
    }
    found.tell(global, path)
}

impl Found {
    fn mistake(&mut self, place: &str, what: impl Into<String>) {
        self.mistakes.push(Mistake { place: place.to_owned(), what: what.into() });
    }

    fn note(&mut self, place: &str, what: impl Into<String>) {
        self.notes.push(Mistake { place: place.to_owned(), what: what.into() });
    }

    /// Returns true if none of these keys, and no key of these tables, has a wrong value of its
    /// own.
    fn sound(&self, keys: &[&str]) -> bool {
        let names = |wrong: &str, key: &str| {
            wrong.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        !self.wrong.iter().any(|wrong| keys.iter().any(|key| names(wrong, key)))
    }

    /// Tries the address and the certificate of the page.
    fn try_page(&mut self, config: &DaemonConfig, runtime: &Runtime) {
        let http = &config.http;
        if !http.enabled {
            return;
        }
        if self.sound(&["http.listen"])
            && let Err(error) = TcpListener::bind(http.listen)
        {
            let address = http.listen;
            let in_use = error.kind() == ErrorKind::AddrInUse;
            if in_use && self.daemon_runs {
                self.note("http.listen", format!("{address} is in use, as the daemon runs"));
            } else if in_use {
                self.mistake("http.listen", format!("{address} is in use by another program"));
            } else {
                self.mistake("http.listen", format!("{address} cannot be served: {error}"));
            }
        }
        if let (Some(certificate), Some(key)) = (&http.certificate, &http.key)
            && self.sound(&["http.certificate", "http.key"])
            && let Err(error) = runtime.block_on(daemon::read_certificate(certificate, key))
        {
            self.mistake("http.certificate", with_causes(&error));
        }
    }

    /// Tries the broker and its login.
    #[cfg_attr(
        not(feature = "mqtt"),
        allow(unused_variables, clippy::unused_self, reason = "there is no broker")
    )]
    fn try_broker(&mut self, config: &DaemonConfig, runtime: &Runtime) {
        #[cfg(feature = "mqtt")]
        if self.sound(&["mqtt"])
            && let Err(mistake) = runtime.block_on(daemon::try_broker(&config.mqtt))
        {
            self.mistakes.push(mistake);
        }
    }

    fn try_repository(&mut self, config: &DaemonConfig) {
        if self.sound(&["update"])
            && let Err(error) = update::try_repository(&config.update)
        {
            self.mistake("update.from", with_causes(&error));
        }
    }

    fn try_camera(&mut self, config: &DaemonConfig) -> Result<(), EdgeError> {
        if !self.sound(&["camera"]) {
            return Ok(());
        }
        let source = &config.camera.source;
        match try_frame(&daemon::keeping(config)?) {
            Ok(tried) => self.frame = Some(tried),
            // Only one program at a time can read a camera.
            Err(error) if self.daemon_runs && source.starts_with("camera:") => {
                let what = format!("not tried, as the running daemon has the camera: {error}");
                self.note("camera.source", what);
            }
            Err(error) => self.mistake("camera.source", with_causes(&error)),
        }
        Ok(())
    }

    fn tell(self, global: &Global, path: &Path) -> Result<(), EdgeError> {
        let Self { mistakes, notes, frame, .. } = self;
        if global.json {
            let list = |all: &[Mistake]| -> Vec<_> {
                all.iter().map(|m| json!({ "place": m.place, "what": m.what })).collect()
            };
            report::json(&json!({
                "ok": mistakes.is_empty(), "mistakes": list(&mistakes), "notes": list(&notes),
                "frame": frame,
            }))?;
        } else {
            for note in &notes {
                report::line(note)?;
            }
            if let Some(frame) = &frame {
                let (width, height) = (frame.width, frame.height);
                let seconds = frame.seconds;
                report::line(format!("a frame of {width} x {height} after {seconds:.1} s"))?;
            }
        }
        if mistakes.is_empty() {
            return if global.json { Ok(()) } else { report::line("all is well") };
        }
        Err(EdgeError::Config(ConfigError { source_name: path.display().to_string(), mistakes }))
    }
}

fn runtime() -> Result<Runtime, EdgeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| EdgeError::System { what: "start a runtime", source })
}
