//! The commands: one file for each, or for a group of them.

mod check;
mod classify;
mod daemon;
mod demo;
mod devices;
mod edit;
mod evaluate;
mod interrupt;
mod learn;
mod password;
mod status;
mod teach;
mod transfer;
mod update;

use crate::EdgeError;
use crate::cli::{Cli, Command};

/// Runs the command that the command line names.
pub(crate) fn run(cli: &Cli) -> Result<(), EdgeError> {
    match dispatch(cli) {
        // Commands that change the state print afterwards: only the report is lost.
        Err(EdgeError::Output(error)) if cli.command.changes_state() => {
            eprintln!("warning: done, but the report cannot be written: {error}");
            Ok(())
        }
        other => other,
    }
}

fn dispatch(cli: &Cli) -> Result<(), EdgeError> {
    let global = &cli.global;
    match &cli.command {
        Command::Demo(args) => demo::run(global, args),
        Command::Run(args) => daemon::run(global, args),
        Command::Check(args) => check::check(global, args),
        Command::Password(args) => password::password(global, args),
        Command::Teach(args) => teach::teach(global, args),
        Command::Learn(args) => learn::learn(global, args),
        Command::Classify(args) => classify::run(global, args),
        Command::Evaluate(args) => evaluate::run(global, args),
        Command::Classes => status::classes(global),
        Command::Forget(args) => edit::forget(global, args),
        Command::Rename(args) => edit::rename(global, args),
        Command::Undo(args) => edit::undo(global, args),
        Command::Status => status::run(global),
        Command::Devices => devices::run(global),
        Command::Update(args) => update::update(global, args),
        Command::Rollback(args) => update::roll_back(global, args),
        Command::Export(args) => transfer::export(global, args),
        Command::Import(args) => transfer::import(global, args),
    }
}
