//! `[update]`: repository of adapters.

use std::path::PathBuf;

use confique::Config;
use serde::Serialize;

use super::secret;
use crate::report::with_causes;
use crate::tls_roots::Authorities;
use crate::update::{Again, Client, Location, Origin, Settings, UpdateError, read_root};

/// `[update]`
#[allow(clippy::doc_markdown, reason = "these texts go into a TOML file too")]
#[derive(Debug, Clone, PartialEq, Serialize, Config)]
pub(crate) struct UpdateConfig {
    /// Repository: https://... or http://... below which metadata/ and targets/ are, or a directory, such as that of a USB
    /// stick. Without it, nothing is updated.
    #[config(env = "FMLORA_UPDATE_FROM")]
    #[serde(serialize_with = "secret::optional_uri")]
    pub(crate) from: Option<String>,
    /// The root.json of the repository that is trusted: a path. One of other root keys than before begins anew with it.
    #[config(env = "FMLORA_UPDATE_ROOT")]
    pub(crate) root: Option<PathBuf>,
    /// What the certificate of an https server is checked with: the path of a PEM file of its authority's certificate, or of
    /// the server's own; "system" for the store of this system; without it, the authorities of the web.
    #[config(env = "FMLORA_UPDATE_AUTHORITY")]
    pub(crate) authority: Option<PathBuf>,
    /// Which of its adapters are meant for this box.
    #[config(env = "FMLORA_UPDATE_CHANNEL", default = "stable")]
    pub(crate) channel: String,
    /// Seconds between two looks, a fifth more or less by chance; 0: only when somebody asks.
    #[config(env = "FMLORA_UPDATE_POLL_SECONDS", default = 3600)]
    pub(crate) poll_seconds: u64,
    /// Whether what is found is put to use at once. Without it, the page says what there is, and somebody has to press a
    /// button.
    #[config(env = "FMLORA_UPDATE_AUTOMATIC", default = true)]
    pub(crate) automatic: bool,
    /// Seconds that an adapter must live before it stays, while the camera is open; 0: it stays at once.
    #[config(env = "FMLORA_UPDATE_TRIAL_SECONDS", default = 60)]
    pub(crate) trial_seconds: u64,
}

impl UpdateConfig {
    /// Location of the repository.
    ///
    /// # Errors
    ///
    /// A message that says what is wrong with it.
    pub(crate) fn location(&self) -> Result<Option<Location>, String> {
        self.from.as_deref().map(str::parse).transpose()
    }

    /// Settings of the update client; `None` without a repository.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Settings`], also for a root or a certificate authority that cannot be read.
    pub(crate) fn settings(&self) -> Result<Option<Settings>, UpdateError> {
        let Some(location) = self.location().map_err(UpdateError::Settings)? else {
            return Ok(None);
        };
        let client = Client {
            channel: self.channel.clone(),
            authorities: Authorities::from_value(self.authority.as_deref()),
            key: "update.authority",
        };
        let from = Origin::new(location, &client).map_err(UpdateError::Settings)?;
        let root = self
            .root
            .as_deref()
            .map(read_root)
            .transpose()
            .map_err(|error| UpdateError::Settings(with_causes(&error)))?;
        Ok(Some(Settings { from, root, channel: self.channel.clone(), again: Again::None }))
    }
}
