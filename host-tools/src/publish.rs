//! `publish`: the repository that devices update from (The Update Framework).
//!
//! tough's schema and signing make and check the metadata; this module decides what is signed by whom, and
//! writes it so that devices find a sound repository whenever they look.

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

/// Exit code of `status` if something expires soon or has to be signed anew.
const EXPIRES_SOON: u8 = 3;

/// Runs one of the commands.
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

/// The keys of some roles.
fn keys_of(ring: &KeyRing, root: &Root, roles: &[Role]) -> Result<Vec<SigningKey>> {
    let keys: Result<Vec<Vec<SigningKey>>> =
        roles.iter().map(|&role| ring.of_role(root, role)).collect();
    Ok(keys?.concat())
}

/// Signs as the newest root of a repository asks.
fn signers(repository: &Repository, keys: Vec<SigningKey>) -> Signer {
    Signer { root: repository.root().clone(), before: None, keys }
}

/// Says what does not stop a command.
fn warn(text: &str) {
    // There is nobody to tell if the terminal is gone.
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}
