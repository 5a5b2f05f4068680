//! `host-tools`, the program on the workstation: imports networks, exports bases, measures heads
//! and continual learning, trains and publishes adapters.

mod bench;
mod cli;
mod commands;
mod dataset;
mod features;
mod files;
mod hex;
mod network;
mod progress;
mod publish;
mod trust;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

/// Runs the program with these arguments (the first is its name) and returns its exit code: 0 done,
/// 1 failed, 2 wrong usage, 3 something published expires soon.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            // Ignored: without a terminal, the error cannot be shown.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    // Tests configure failures by an environment variable; builds without fail points do not read
    // it.
    let _failures = fail::has_failpoints().then(fail::FailScenario::setup);
    match commands::run(&cli) {
        Ok(code) => code,
        Err(error) => {
            let text = format!("{error:#}");
            if cli.json {
                eprintln!("{}", serde_json::json!({ "error": text }));
            } else {
                eprintln!("error: {text}");
            }
            ExitCode::FAILURE
        }
    }
}
