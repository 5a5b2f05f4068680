//! The command line of `publish`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use thiserror::Error;

use super::role::Role;

/// Keeps a repository of The Update Framework: plain files for any static web server or a USB stick.
#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    #[command(subcommand)]
    pub(super) command: PublishCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum PublishCommand {
    /// Make keys and an empty repository
    #[command(
        after_help = "Example:\n  host-tools publish init --repo site --keys keys --passphrase-file pass --root-key /media/a/root.pem --root-key /media/b/root.pem --root-key /media/c/root.pem"
    )]
    Init(InitArgs),
    /// Publish an adapter
    #[command(
        after_help = "Example:\n  host-tools publish add birds-1.fmla --repo site --keys keys --passphrase-file pass --channel stable --percent 5"
    )]
    Add(AddArgs),
    /// Change the share of devices that shall have an adapter; devices that have it keep it
    #[command(
        after_help = "Example:\n  host-tools publish promote birds-1.fmla --repo site --keys keys --passphrase-file pass --percent 100"
    )]
    Promote(PromoteArgs),
    /// Order devices to take an adapter out of use, and let no other device take it
    #[command(
        after_help = "Example:\n  host-tools publish withdraw birds-2.fmla --reason \"takes sparrows for bats\" --repo site --keys keys --passphrase-file pass\n\nBack to the base, on all devices of a channel:\n  host-tools publish withdraw --all --channel stable --repo site --keys keys --passphrase-file pass"
    )]
    Withdraw(WithdrawArgs),
    /// Take an adapter off the list; devices that have it keep it, unless it was withdrawn before
    #[command(
        after_help = "Example:\n  host-tools publish remove birds-1.fmla --repo site --keys keys --passphrase-file pass"
    )]
    Remove(RemoveArgs),
    /// Sign snapshot and timestamp anew before they expire; with --targets and --root the rest as well
    #[command(
        after_help = "Example, for a daily job:\n  host-tools publish refresh --repo site --keys keys --passphrase-file pass\n\nBefore the list of targets and the root expire, after 90 and 365 days:\n  host-tools publish refresh --repo site --keys keys --passphrase-file pass --targets --root --root-key /media/a/root.pem --root-key /media/b/root.pem"
    )]
    Refresh(RefreshArgs),
    /// Replace the key of a role, or of several
    #[command(
        after_help = "Example:\n  host-tools publish rotate timestamp --repo site --keys keys --passphrase-file pass --root-key /media/a/root.pem --root-key /media/b/root.pem\n\nWhere the machine that refreshes was stolen:\n  host-tools publish rotate snapshot timestamp --lost --repo site --keys new-keys --passphrase-file pass --root-key /media/a/root.pem --root-key /media/b/root.pem"
    )]
    Rotate(RotateArgs),
    /// Say what is published, and what expires when
    #[command(
        after_help = "Example:\n  host-tools publish status --repo site\n\nExit codes: 0 all is well, 1 the repository is unsound, 2 wrong usage, 3 something expires soon or has to be signed anew: the last line says by which command."
    )]
    Status(StatusArgs),
}

/// The repository.
#[derive(Debug, Args)]
pub(super) struct RepoArgs {
    /// Folder of the repository: metadata/ and targets/ are made in it
    #[arg(long, value_name = "DIR")]
    pub(super) repo: PathBuf,
    /// Only say what would be written
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Days until what is signed now expires [default: root 365, targets 90, snapshot 14, timestamp 7]
    #[arg(long, value_name = "ROLE=DAYS")]
    pub(super) expires: Vec<RoleDays>,
}

/// The keys.
#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    /// Folder of the keys that are not named one by one: ROLE-ID.pem
    #[arg(long, value_name = "DIR", env = "FMLORA_KEYS")]
    pub(super) keys: Option<PathBuf>,
    /// A key of the root role; several of them. init makes those that are not there yet, in folders that are
    #[arg(long, value_name = "FILE")]
    pub(super) root_key: Vec<PathBuf>,
    /// The key of another role, as targets=FILE
    #[arg(long, value_name = "ROLE=FILE")]
    pub(super) key: Vec<RoleFile>,
    /// File whose first line is a passphrase; several of them are tried for each key in turn, and the first one encrypts new
    /// keys [default: what `FMLORA_KEY_PASSPHRASE` holds, which otherwise is tried last]
    #[arg(long, value_name = "FILE")]
    pub(super) passphrase_file: Vec<PathBuf>,
    /// Write new keys without a passphrase: only where the folder itself is encrypted
    #[arg(long)]
    pub(super) unencrypted: bool,
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    pub(super) repo: RepoArgs,
    #[command(flatten)]
    pub(super) keys: KeyArgs,
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// Adapter; its file name becomes the name of the target
    #[arg(value_name = "FILE.fmla")]
    pub(super) file: PathBuf,
    /// The devices of this channel are meant
    #[arg(long, default_value = "stable")]
    pub(super) channel: String,
    /// Share of these devices that shall have it by now
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(super) percent: u8,
    #[command(flatten)]
    pub(super) repo: RepoArgs,
    #[command(flatten)]
    pub(super) keys: KeyArgs,
}

#[derive(Debug, Args)]
pub(super) struct PromoteArgs {
    /// Name of the target, as `status` shows it
    pub(super) name: String,
    /// Share of the devices of its channel
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(super) percent: u8,
    #[command(flatten)]
    pub(super) repo: RepoArgs,
    #[command(flatten)]
    pub(super) keys: KeyArgs,
}

#[derive(Debug, Args)]
pub(super) struct WithdrawArgs {
    /// Names of targets, as `status` shows them, or of adapters, for all their releases
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(super) names: Vec<String>,
    /// All adapters of a channel: its devices go back to their base
    #[arg(long, requires = "channel")]
    pub(super) all: bool,
    /// The channel, with --all
    #[arg(long, requires = "all")]
    pub(super) channel: Option<String>,
    /// What operators of devices are told: one line
    #[arg(long, default_value = "")]
    pub(super) reason: String,
    #[command(flatten)]
    pub(super) repo: RepoArgs,
    #[command(flatten)]
    pub(super) keys: KeyArgs,
}

#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// Names of targets, as `status` shows them
    #[arg(required = true)]
    pub(super) names: Vec<String>,
    #[command(flatten)]
    pub(super) repo: RepoArgs,
    #[command(flatten)]
    pub(super) keys: KeyArgs,
}

#[derive(Debug, Args)]
pub(super) struct RefreshArgs {
    /// Sign the list of targets anew as well, and print it
    #[arg(long)]
    pub(super) targets: bool,
    /// Sign the root anew as well, with the keys that it has
    #[arg(long)]
    pub(super) root: bool,
    #[command(flatten)]
    pub(super) repo: RepoArgs,
    #[command(flatten)]
    pub(super) keys: KeyArgs,
}

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// Role whose key is replaced: root, or one or several of the others
    #[arg(value_enum, value_name = "ROLE", required = true)]
    pub(super) roles: Vec<Role>,
    /// For root: a key to replace, by its id or the beginning of it; several of them [default: all]
    #[arg(long, value_name = "ID")]
    pub(super) replace: Vec<String>,
    /// Where a new key is, or is to be written, in a folder that is there; one a key that is replaced [default: in --keys]
    #[arg(long, value_name = "FILE")]
    pub(super) new_key: Vec<PathBuf>,
    /// For all but root: the old key is lost or in wrong hands, do not sign with it. Until the command is done, devices find
    /// no update
    #[arg(long)]
    pub(super) lost: bool,
    #[command(flatten)]
    pub(super) repo: RepoArgs,
    #[command(flatten)]
    pub(super) keys: KeyArgs,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Folder of the repository
    #[arg(long, value_name = "DIR")]
    pub(super) repo: PathBuf,
    /// Exit code 3 if something expires within so many days [default: root 30, targets 14, snapshot and timestamp 2]
    #[arg(long, value_name = "DAYS")]
    pub(super) within: Option<u32>,
}

/// Lifetime of a role's metadata, as `ROLE=DAYS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoleDays {
    pub(super) role: Role,
    pub(super) days: u32,
}

/// Key file of a role, as `ROLE=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RoleFile {
    pub(super) role: Role,
    pub(super) file: PathBuf,
}

/// An error of parsing `ROLE=DAYS` or `ROLE=FILE`.
#[derive(Debug, Error)]
pub(super) enum RoleTextError {
    #[error("{0:?}: expected ROLE={1}, ROLE being root, targets, snapshot or timestamp")]
    Form(String, &'static str),
    #[error("{0:?}: expected 1 to {MAX_DAYS} days")]
    Days(String),
}

/// Longest lifetime of metadata in days: ten years.
const MAX_DAYS: u32 = 3650;

impl FromStr for RoleDays {
    type Err = RoleTextError;

    fn from_str(text: &str) -> Result<Self, RoleTextError> {
        let wrong = || RoleTextError::Form(text.to_owned(), "DAYS");
        let (role, days) = text.split_once('=').ok_or_else(wrong)?;
        let role = Role::named(role).ok_or_else(wrong)?;
        let days = days.parse().ok().filter(|days| (1..=MAX_DAYS).contains(days));
        Ok(Self { role, days: days.ok_or_else(|| RoleTextError::Days(text.to_owned()))? })
    }
}

impl FromStr for RoleFile {
    type Err = RoleTextError;

    fn from_str(text: &str) -> Result<Self, RoleTextError> {
        let wrong = || RoleTextError::Form(text.to_owned(), "FILE");
        let (role, file) = text.split_once('=').ok_or_else(wrong)?;
        let role = Role::named(role).ok_or_else(wrong)?;
        Ok(Self { role, file: Some(file).filter(|f| !f.is_empty()).ok_or_else(wrong)?.into() })
    }
}
