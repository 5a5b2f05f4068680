//! Errors of updates.

use thiserror::Error;

use super::{DownloadError, TrustError};
use crate::report::with_causes;
use crate::{EdgeError, StoreError};

/// An error of an update. The adapters in use stay.
#[derive(Debug, Error)]
pub(crate) enum UpdateError {
    /// No root is trusted yet.
    #[error("no repository is trusted yet: name its root.json with --root, or as update.root")]
    NoRoot,
    /// The repository's metadata is not trusted.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The download failed.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// The adapter is in quarantine from now on.
    #[error("{target} was refused and is not tried again: {why}")]
    Refused { target: String, why: String },
    /// It was not applied, for a reason that may be temporary.
    #[error("{target} was not put to use this time: {why}")]
    NotNow { target: String, why: String },
    /// Classes would be lost.
    #[error(
        "{target} changes the features and carries no drift map: {} would be lost; to lose them, say --lose-classes",
        .classes.join(", ")
    )]
    Loses { target: String, classes: Vec<String> },
    /// A task that was learned on this device builds on it.
    #[error(
        "a task that was learnt here has changed the network since {target}: undo that task first"
    )]
    Overgrown { target: String },
    /// It can no longer be taken out.
    #[error("{0} came too long ago to be taken out; an empty state is without it")]
    ForGood(String),
    /// Another adapter is on trial.
    #[error(
        "an adapter is on trial: the daemon lets it stay or takes it back before the next one comes; rollback takes it back by hand"
    )]
    OnTrial,
    /// The repository or its root cannot be read from the configuration.
    #[error("{0}")]
    Settings(String),
    /// There is nothing to roll back.
    #[error("no adapter is in use that could be taken back")]
    NothingInUse,
    /// There is nothing to apply.
    #[error("no adapter was fetched")]
    NothingFetched,
    /// The stored data of an adapter in use cannot be read.
    #[error("what is kept of {target} cannot be used: {why}")]
    Kept { target: String, why: String },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another error.
    #[error(transparent)]
    Edge(Box<EdgeError>),
}

impl UpdateError {
    /// Returns true if the error is about one adapter, so that another one can be applied.
    pub(crate) fn is_about_one(&self) -> bool {
        matches!(
            self,
            Self::Download(_) | Self::Refused { .. } | Self::NotNow { .. } | Self::Loses { .. }
        )
    }
}

impl From<EdgeError> for UpdateError {
    fn from(error: EdgeError) -> Self {
        Self::Edge(Box::new(error))
    }
}

impl From<UpdateError> for EdgeError {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Edge(error) => *error,
            UpdateError::Store(error) => error.into(),
            error => Self::Update(with_causes(&error)),
        }
    }
}
