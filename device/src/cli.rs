//! The command line: every argument, its default and its help.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use fmlora_models::DeviceSpec;

use crate::update::Location;

/// Teaches a camera box new things from a few pictures, on the box.
#[derive(Debug, Parser)]
#[command(name = "fmlora-edge", version, propagate_version = true, after_help = EXAMPLE)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLE: &str = "Example:
  fmlora-edge teach --class cup cup1.jpg cup2.jpg cup3.jpg
  fmlora-edge teach --class plant plant1.jpg plant2.jpg plant3.jpg
  fmlora-edge classify what-is-this.jpg

Exit codes: 0 done, 1 failed (the state is unchanged), 2 wrong usage.";

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Base to use instead of the embedded one
    #[arg(long, value_name = "FILE", global = true, env = "FMLORA_BASE")]
    pub(crate) base: Option<PathBuf>,
    /// Directory of what was learnt [default: the platform's data directory]
    #[arg(long, value_name = "DIR", global = true, env = "FMLORA_STATE")]
    pub(crate) state: Option<PathBuf>,
    /// Where to compute: auto (a graphics adapter that passes the check, else the processor), cpu, gpu, gpu:N
    /// (see `fmlora-edge devices`), or a part of an adapter's name [default: auto]
    #[arg(long, global = true, env = "FMLORA_DEVICE")]
    pub(crate) device: Option<DeviceSpec>,
    /// Print JSON for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say more of what happens (-vv: everything, of libraries too)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what the box does: the daemon on a synthetic camera, with a temporary state
    #[command(
        after_help = "Examples:\n  fmlora-edge demo                      # open the page it names\n  fmlora-edge demo --headless --seed 7"
    )]
    Demo(DemoArgs),
    /// Watch a camera and say what it shows, until told to end (SIGTERM, Ctrl-C)
    #[command(after_help = "Example:\n  fmlora-edge run --config fmlora.toml")]
    Run(RunArgs),
    /// Try a configuration: keys, files, base, state, device, address, broker, repository, one frame of the camera
    #[command(
        after_help = "Examples:\n  fmlora-edge check --example > fmlora.toml\n  fmlora-edge check --config fmlora.toml\n\nExit codes: 0 all is well, 1 not, 2 wrong usage."
    )]
    Check(CheckArgs),
    /// Give the administrator of the page a new password, while the daemon does not run
    #[command(
        after_help = "Examples:\n  fmlora-edge password --viewer                   # for somebody who only looks\n  fmlora-edge password --hash < password.txt      # for login.password_hash of many boxes\n  fmlora-edge password --token viewer             # for login.tokens of many boxes"
    )]
    Password(PasswordArgs),
    /// Add shots of one class
    #[command(after_help = "Example:\n  fmlora-edge teach --class cup photos/cup/*.jpg")]
    Teach(TeachArgs),
    /// Learn a task: a folder with one folder of pictures per class
    ///
    /// The classes are known and kept as soon as the pictures were looked at. Where the task is worth it, the network is then
    /// trained on them; the result is used if it answers better, and `undo` takes back the training first and the classes
    /// next. Ctrl-C ends the training alone.
    #[command(
        after_help = "Example:\n  fmlora-edge learn photos/    # photos/cup/1.jpg, photos/plant/7.png, ..."
    )]
    Learn(LearnArgs),
    /// Say what pictures show
    #[command(after_help = "Example:\n  fmlora-edge --json classify a.jpg b.jpg photos/")]
    Classify(ClassifyArgs),
    /// Measure accuracy on a folder with one folder of pictures per class
    #[command(after_help = "Example:\n  fmlora-edge evaluate test-photos/")]
    Evaluate(EvaluateArgs),
    /// List what the box knows
    #[command(after_help = "Example:\n  fmlora-edge --json classes")]
    Classes,
    /// Take a class away, as if it had never been taught
    #[command(after_help = "Example:\n  fmlora-edge forget cup")]
    Forget(ForgetArgs),
    /// Give a class another name
    #[command(after_help = "Example:\n  fmlora-edge rename cup mug")]
    Rename(RenameArgs),
    /// Take the last operations back
    #[command(after_help = "Example:\n  fmlora-edge undo --count 2")]
    Undo(UndoArgs),
    /// Look for an adapter in a repository, and put it to use
    #[command(
        after_help = "Examples:\n  fmlora-edge update --from https://updates.example/fleet --root root.json\n  fmlora-edge update --from /media/stick/fleet --check\n\nWhile the daemon runs, it updates itself: [update] in its configuration."
    )]
    Update(UpdateArgs),
    /// Take the newest adapter out of use; what was taught since stays
    #[command(after_help = "Example:\n  fmlora-edge rollback")]
    Rollback(RollbackArgs),
    /// Say what base, state and head are in use
    #[command(after_help = "Example:\n  fmlora-edge status")]
    Status,
    /// List the graphics adapters of this machine
    #[command(after_help = "Example:\n  fmlora-edge --json devices")]
    Devices,
    /// Write all classes into one file
    #[command(after_help = "Example:\n  fmlora-edge export backup.fmls")]
    Export(ExportArgs),
    /// Add the classes of an exported file
    #[command(after_help = "Example:\n  fmlora-edge import backup.fmls")]
    Import(ImportArgs),
}

impl Command {
    /// Returns true for commands that run until a signal ends them.
    pub(crate) fn is_daemon(&self) -> bool {
        match self {
            Self::Run(_) => true,
            Self::Demo(args) => !args.headless,
            _ => false,
        }
    }

    /// Returns true for commands that change the state.
    pub(crate) fn changes_state(&self) -> bool {
        match self {
            Self::Teach(_)
            | Self::Learn(_)
            | Self::Forget(_)
            | Self::Rename(_)
            | Self::Undo(_)
            | Self::Update(_)
            | Self::Rollback(_)
            | Self::Import(_) => true,
            Self::Password(args) => !args.hash && args.token.is_none(),
            Self::Demo(_)
            | Self::Run(_)
            | Self::Check(_)
            | Self::Classify(_)
            | Self::Evaluate(_)
            | Self::Classes
            | Self::Status
            | Self::Devices
            | Self::Export(_) => false,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Without a page: teach five things, forget one, undo, print a table
    #[arg(long)]
    pub(crate) headless: bool,
    /// Address and port of the page; port 0 is any that is free
    #[arg(long, default_value = "127.0.0.1:8321", conflicts_with = "headless")]
    pub(crate) listen: std::net::SocketAddr,
    /// Seed of the synthetic camera
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
    /// Shots taught of each thing (with --headless)
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) shots: u32,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Configuration (TOML); variables FMLORA_... of the environment win over it
    #[arg(long, value_name = "FILE", env = "FMLORA_CONFIG")]
    pub(crate) config: PathBuf,
    /// End by itself after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Configuration to try
    #[arg(long, value_name = "FILE", env = "FMLORA_CONFIG", required_unless_present = "example")]
    pub(crate) config: Option<PathBuf>,
    /// Print a configuration with every key, its meaning and its default
    #[arg(long)]
    pub(crate) example: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PasswordArgs {
    /// For the account that may only look
    #[arg(long)]
    pub(crate) viewer: bool,
    /// Print the hash of the password on the standard input (at a terminal: of a new one), and change nothing
    #[arg(long, conflicts_with_all = ["viewer", "token"])]
    pub(crate) hash: bool,
    /// Print a new token of a role and its SHA-256, and change nothing
    #[arg(long, value_name = "ROLE", conflicts_with = "viewer")]
    pub(crate) token: Option<TokenRole>,
}

/// What a token may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum TokenRole {
    /// Everything
    Admin,
    /// Look
    Viewer,
    /// See the camera's picture, and nothing else
    Pictures,
}

impl TokenRole {
    /// Returns the name of the role in configurations.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Viewer => "viewer",
            Self::Pictures => "pictures",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct TeachArgs {
    /// Name of the class, new or known
    #[arg(long, value_name = "NAME")]
    pub(crate) class: String,
    /// Pictures (JPEG, PNG, WebP, BMP, TIFF, GIF), or folders of them with all folders below
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LearnArgs {
    /// Folder with one folder per class; each folder below that of a class, such as one for each day, is an occasion of it
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Longest time that the network may be trained; when it is over, the classes stay known without
    #[arg(long, value_name = "SECONDS", value_parser = budget)]
    pub(crate) budget: Option<f64>,
}

#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// Folder with one folder per class
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ClassifyArgs {
    /// Pictures, or folders of them
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
    /// How many classes to name for each picture
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(crate) top: usize,
}

#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// Name of the class
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    /// Name now
    pub(crate) old: String,
    /// Name to give
    pub(crate) new: String,
}

#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    /// How many operations
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// The repository: an address below which metadata/ and targets/ are, or a directory
    #[arg(long, value_name = "URL-or-DIR")]
    pub(crate) from: Location,
    /// The root.json that is trusted; needed once, and again to begin anew with one of other root keys
    #[arg(long, value_name = "FILE")]
    pub(crate) root: Option<PathBuf>,
    /// What the certificate of an https server is checked with: a PEM file of its authority's certificate, or of its own, or
    /// "system" for the store of this system [default: the authorities of the web]
    #[arg(long, value_name = "FILE")]
    pub(crate) authority: Option<PathBuf>,
    /// Which adapters are meant
    #[arg(long, default_value = "stable")]
    pub(crate) channel: String,
    /// Only look, and change nothing
    #[arg(long)]
    pub(crate) check: bool,
    /// Use an adapter even if classes are lost by it
    #[arg(long)]
    pub(crate) lose_classes: bool,
    /// Also try what was refused or taken back before: all of it, or one adapter alone
    #[arg(long, value_name = "TARGET", num_args = 0..=1, default_missing_value = "")]
    pub(crate) again: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// Take it back even if classes are lost by that
    #[arg(long)]
    pub(crate) lose_classes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// File to write
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// File to read
    pub(crate) file: PathBuf,
    /// Let the file's classes replace those of the same name
    #[arg(long)]
    pub(crate) replace: bool,
}

/// Parses a number of seconds of which `inf` is one.
fn budget(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().unwrap_or(f64::NAN);
    if seconds >= 0.0 { Ok(seconds) } else { Err("expected seconds, such as 40".to_owned()) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let expected = || "expected seconds, such as 2.5".to_owned();
    let seconds = text.parse().map_err(|_| expected())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| expected())
}

/// Parses the command line. An empty environment variable counts as not set.
///
/// # Errors
///
/// clap's error for wrong usage, `--help` or `--version`. It formats its own output.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = without_empty_variables(Cli::command());
    let matches = command.try_get_matches_from_mut(arguments)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        let is_empty = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
        if arg.get_env().is_some_and(is_empty) { arg.env(None::<&'static str>) } else { arg }
    });
    command.mut_subcommands(without_empty_variables)
}
