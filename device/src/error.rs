//! Why a command failed.

use std::net::SocketAddr;
use std::path::PathBuf;

use fmlora_learner::format::{BaseError, StateError};
use fmlora_learner::{AdaptError, AdapterError, ClassNameError, HeadError, LearnError};
use fmlora_models::{BackboneError, OpenDeviceError};
use thiserror::Error;

use crate::StoreError;
use crate::daemon::config::ConfigError;

/// Why a command failed; the state is what it was before.
#[derive(Debug, Error)]
pub enum EdgeError {
    /// A file or folder cannot be read or written.
    #[error("{}: cannot {what}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The base cannot be used.
    #[error("base {name}")]
    Base {
        /// File, or "(embedded)".
        name: String,
        /// What is wrong with it.
        source: BaseError,
    },
    /// The program holds no base and none was named.
    #[error("this program holds no base: name one with --base FILE")]
    NoBase,
    /// The base's network cannot be built.
    #[error("the network of the base cannot be built")]
    Backbone(#[source] BackboneError),
    /// The state cannot be opened, read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A name that no class may have.
    #[error(transparent)]
    Name(#[from] ClassNameError),
    /// The learner refused.
    #[error(transparent)]
    Learn(#[from] LearnError),
    /// The statistics give no head.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// An exported state cannot be used.
    #[error("{}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: StateError,
    },
    /// An exported state of another base.
    #[error("{}: taught with base {}, but this is base {}", path.display(), short(.found), short(.expected))]
    OtherBase {
        /// The file.
        path: PathBuf,
        /// Base of the file.
        found: String,
        /// Base in use.
        expected: String,
    },
    /// Classes about other features than this device makes.
    #[error(
        "{}: its classes are about a network that other tasks have changed; import it into an empty --state",
        path.display()
    )]
    OtherFeatures {
        /// The file.
        path: PathBuf,
    },
    /// An import would change the features that updates in use were made for.
    #[error(
        "{}: its classes are about another network, and updates are in use on this one; take them back first (rollback), or import it into an empty --state",
        path.display()
    )]
    UpdatesInUse {
        /// The file.
        path: PathBuf,
    },
    /// What was learnt does not fit the base's shared bases.
    #[error("what tasks have left does not fit the base")]
    Adapter(#[from] AdapterError),
    /// A task could not be learnt.
    #[error("the task could not be learnt")]
    Adapt(#[from] AdaptError),
    /// Not one of the pictures could be read.
    #[error("{what}: none of the {} pictures could be read; the first: {first}", .count)]
    NoPictures {
        /// The class or request.
        what: String,
        /// Pictures tried.
        count: usize,
        /// What is wrong with the first.
        first: String,
    },
    /// A folder without pictures where some were expected.
    #[error("{}: {expected}", path.display())]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// More operations to undo than there are.
    #[error("cannot undo {asked} operations, only {possible} are kept")]
    NothingToUndo {
        /// Operations asked for.
        asked: u32,
        /// Operations that can be undone.
        possible: usize,
    },
    /// The device asked for is not there.
    #[error(transparent)]
    NoDevice(OpenDeviceError),
    /// The tensor backend failed.
    #[error("computing features failed: {0}")]
    Device(String),
    /// A configuration with mistakes.
    #[error(transparent)]
    Config(ConfigError),
    /// The system refused something that every program may do.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The address of the page is not to be had.
    #[error("http.listen = \"{address}\": cannot be served")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// An update did not happen; what was in use is in use.
    #[error("update: {0}")]
    Update(String),
    /// Who may use the daemon cannot be read or written.
    #[error("accounts: {0}")]
    Access(String),
    /// A thread of the daemon is over though nobody asked it to end.
    #[error("the part that {part} has ended: see the log")]
    Part {
        /// What it does.
        part: &'static str,
    },
    /// The daemon ends before this was done.
    #[error("the daemon ends")]
    Ending,
    /// Output that cannot be written.
    #[error("cannot write the output")]
    Output(#[source] std::io::Error),
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
