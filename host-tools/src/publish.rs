//! `publish`: the repository that devices update from (The Update Framework).
//!
//! tough's schema and signing make and check the metadata. This module decides which role signs
//! which file, and in which order files are written: a device finds a sound repository at any
//! moment.

mod add;
mod arguments;
mod freshness;
mod init;
mod key;
mod key_ring;
mod lock;
mod new_keys;
mod offers;
mod plan;
mod promote;
mod refresh;
mod remove;
mod repository;
mod role;
mod roots;
mod rotate;
mod signing;
mod status;
mod together;
mod withdraw;
mod writing;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use tough::schema::Root;

pub(crate) use arguments::PublishArgs;

use arguments::PublishCommand;
use key::SigningKey;
use key_ring::KeyRing;
use repository::Repository;
use role::Role;
use signing::Signer;

/// Exit code of `status` if something expires soon or has to be signed again.
const EXPIRES_SOON: u8 = 3;

/// Runs a subcommand.
pub(crate) fn run(args: &PublishArgs, as_json: bool) -> Result<ExitCode> {
    match &args.command {
        PublishCommand::Init(args) => init::run(args, as_json)?,
        PublishCommand::Add(args) => add::run(args, as_json)?,
        PublishCommand::Promote(args) => promote::run(args, as_json)?,
        PublishCommand::Withdraw(args) => withdraw::run(args, as_json)?,
        PublishCommand::Remove(args) => remove::run(args, as_json)?,
        PublishCommand::Refresh(args) => refresh::run(args, as_json)?,
        PublishCommand::Rotate(args) => rotate::run(args, as_json)?,
        PublishCommand::Status(args) => {
            if status::run(args, as_json)? {
                return Ok(ExitCode::from(EXPIRES_SOON));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the keys of these roles.
fn keys_of(ring: &KeyRing, root: &Root, roles: &[Role]) -> Result<Vec<SigningKey>> {
    let keys: Result<Vec<Vec<SigningKey>>> =
        roles.iter().map(|&role| ring.of_role(root, role)).collect();
    Ok(keys?.concat())
}

/// Returns a signer that signs by the newest root of a repository.
fn signers(repository: &Repository, keys: Vec<SigningKey>) -> Signer {
    Signer { root: repository.root().clone(), before: None, keys }
}

/// Prints a warning on standard error.
fn warn(text: &str) {
    // Ignored: without a terminal, the warning cannot be shown.
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}
