//! `fmlora-edge`, the program on the box: teaches new things from a few pictures, classifies,
//! forgets.
//!
//! A command opens a [`Session`]: the base (embedded or a file), the store in the state directory,
//! and the learner with its predictor. Pictures go one way: `pictures` decodes them on threads of
//! their own, [`Engine`] computes their features on the thread that owns the tensors, the learner
//! makes an operation of the features, and the store writes the operation before memory changes.

mod base_file;
mod camera;
mod cli;
mod commands;
mod daemon;
mod engine;
mod error;
mod folders;
mod log;
mod pictures;
mod report;
mod session;
mod store;
mod task;
mod tls_roots;
mod update;

use std::ffi::OsString;
use std::process::ExitCode;

pub use camera::synthetic::{SyntheticCamera, Thing};
pub use daemon::config::{ConfigError, Mistake};
pub use engine::Engine;
pub use error::EdgeError;
pub use session::Session;
pub use store::{JOURNAL_LIMIT, Store, StoreError};

/// Runs the program with these arguments (the first is its name), and returns its exit code: 0
/// done, 1 failed, 2 wrong usage.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            // Without a terminal there is no other output for the error.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let kind = if cli.command.is_daemon() { log::Kind::Daemon } else { log::Kind::Command };
    log::start(kind, cli.global.verbose);
    // Provider for all TLS connections. Only the first call of this function installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Fail points that tests set by the environment; without effect in builds without them.
    let _failures = fail::FailScenario::setup();
    match commands::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::print_error(&error, cli.global.json);
            ExitCode::FAILURE
        }
    }
}
