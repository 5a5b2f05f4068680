//! Errors of commands.

use std::net::SocketAddr;
use std::path::PathBuf;

use fmlora_learner::format::{BaseError, StateError};
use fmlora_learner::{AdaptError, AdapterError, ClassNameError, HeadError, LearnError};
use fmlora_models::{BackboneError, OpenDeviceError};
use thiserror::Error;

use crate::StoreError;
use crate::daemon::config::ConfigError;

/// Error of a command. The state is unchanged.
#[derive(Debug, Error)]
pub enum EdgeError {
    /// A file or folder cannot be read or written.
    #[error("{}: cannot {what}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The attempted action.
        what: &'static str,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The base cannot be used.
    #[error("base {name}")]
    Base {
        /// File, or "(embedded)".
        name: String,
        /// Cause.
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
    /// The name of a class is invalid.
    #[error(transparent)]
    Name(#[from] ClassNameError),
    /// The learner refused the operation.
    #[error(transparent)]
    Learn(#[from] LearnError),
    /// No head can be fitted to the statistics.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// An exported state cannot be used.
    #[error("{}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: StateError,
    },
    /// An exported state belongs to another base.
    #[error("{}: taught with base {}, but this is base {}", path.display(), short(.found), short(.expected))]
    OtherBase {
        /// The file.
        path: PathBuf,
        /// Base of the file.
        found: String,
        /// Base in use.
        expected: String,
    },
    /// The classes of an exported state belong to another feature space.
    #[error(
        "{}: its classes are about a network that other tasks have changed; import it into an empty --state",
        path.display()
    )]
    OtherFeatures {
        /// The file.
        path: PathBuf,
    },
    /// An import would change the feature space of the updates in use.
    #[error(
        "{}: its classes are about another network, and updates are in use on this one; take them back first (rollback), or import it into an empty --state",
        path.display()
    )]
    UpdatesInUse {
        /// The file.
        path: PathBuf,
    },
    /// The adapter state does not fit the base's shared bases.
    #[error("what tasks have left does not fit the base")]
    Adapter(#[from] AdapterError),
    /// A task could not be learned.
    #[error("the task could not be learnt")]
    Adapt(#[from] AdaptError),
    /// None of the pictures could be read.
    #[error("{what}: none of the {} pictures could be read; the first: {first}", .count)]
    NoPictures {
        /// The class or request.
        what: String,
        /// Pictures tried.
        count: usize,
        /// Error of the first.
        first: String,
    },
    /// A folder has no pictures.
    #[error("{}: {expected}", path.display())]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
        /// The expected content.
        expected: &'static str,
    },
    /// The journal has fewer operations than an undo asks for.
    #[error("cannot undo {asked} operations, only {possible} are kept")]
    NothingToUndo {
        /// Operations asked for.
        asked: u32,
        /// Operations that can be undone.
        possible: usize,
    },
    /// The requested device does not exist.
    #[error(transparent)]
    NoDevice(OpenDeviceError),
    /// The tensor backend failed.
    #[error("computing features failed: {0}")]
    Device(String),
    /// The configuration has mistakes.
    #[error(transparent)]
    Config(ConfigError),
    /// The system refused an ordinary request, such as a new thread.
    #[error("cannot {what}")]
    System {
        /// The attempted action.
        what: &'static str,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The address of the page cannot be bound.
    #[error("http.listen = \"{address}\": cannot be served")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Error of the system.
        source: std::io::Error,
    },
    /// An update failed; the adapters in use stay in use.
    #[error("update: {0}")]
    Update(String),
    /// The accounts of the daemon cannot be read or written.
    #[error("accounts: {0}")]
    Access(String),
    /// A thread of the daemon has ended unexpectedly.
    #[error("the part that {part} has ended: see the log")]
    Part {
        /// Work of the thread.
        part: &'static str,
    },
    /// The daemon ended before the work was done.
    #[error("the daemon ends")]
    Ending,
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[source] std::io::Error),
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
