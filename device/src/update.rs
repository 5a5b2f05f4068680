//! Over-the-air adapters: looked for, fetched, tried, put to use, and taken back.
//!
//! idle -> fetched -> staged -> trial -> committed, or rolled back. Each step is one transaction of the store, so that
//! after a power cut the old adapters or the new ones are whole and in use, never something between. Whatever comes from
//! a repository is believed only after [`trust`] and `decode_adapter` have looked at it.

mod difference;
mod download;
mod error;
mod going_back;
mod layers;
mod location;
mod offer;
mod place;
mod record;
mod settings;
mod staging;
mod switching;
mod transport;
mod trust;

use std::path::PathBuf;

use fail::fail_point;
use fmlora_learner::Learner;
use jiff::Timestamp;
use serde_bytes::Bytes;

pub(crate) use download::DownloadError;
pub(crate) use error::UpdateError;
pub(crate) use location::Location;
pub(crate) use offer::{Device, NotForUs, Offered, Seen};
pub(crate) use record::{Phase, Record};
pub(crate) use settings::{Settings, read_root};
pub(crate) use trust::{TrustError, Trusted};

use layers::{Layer, LayerError, Replaced};
use place::place;

use crate::report::with_causes;
use crate::store::Record as Kept;
use crate::{Session, StoreError};

/// What a look at a repository brought.
#[derive(Debug)]
pub(crate) struct Look {
    /// Everything there, and why it is not for this device.
    pub(crate) seen: Vec<Seen>,
    /// What is to be fetched.
    pub(crate) choice: Option<Offered>,
}

/// Whether classes that an adapter cannot take over may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Classes {
    Keep,
    /// The operator said so, or the box does not work otherwise.
    MayBeLost,
}

/// The part of the store that is about updates.
///
/// | key of `meta` | value |
/// |---|---|
/// | `update` | postcard [`Record`] |
/// | `update-trusted` | postcard `Trusted`: root, versions and time of the repository |
/// | `update-file` | the adapter that was fetched, until it is in use |
/// | `update-layers` | postcard `[Layer]`: adapters in use that can be taken out, the newest last |
/// | `update-replaced` | postcard `Option<Replaced>`: what the last switch took the place of |
#[derive(Clone)]
pub(crate) struct Updates {
    record: Kept,
    trusted: Kept,
    file: Kept,
    layers: Kept,
    replaced: Kept,
    /// Where a file that has not come whole waits for its rest.
    state: PathBuf,
}

impl Updates {
    /// Of a session's store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] if it was not opened to be written.
    pub(crate) fn of(session: &Session) -> Result<Self, StoreError> {
        let store = session.store();
        Ok(Self {
            record: store.record("update")?,
            trusted: store.record("update-trusted")?,
            file: store.record("update-file")?,
            layers: store.record("update-layers")?,
            replaced: store.record("update-replaced")?,
            state: store.path().parent().map(PathBuf::from).unwrap_or_default(),
        })
    }

    /// What is remembered; made at the first call.
    pub(crate) fn record(&self) -> Result<Record, StoreError> {
        if let Some(record) = self.record.load()? {
            return Ok(record);
        }
        let record = Record::new();
        self.record.save(&record)?;
        Ok(record)
    }

    fn enter(&self, phase: Phase) -> Result<(), StoreError> {
        let mut record = self.record()?;
        record.phase = phase;
        self.record.save(&record)
    }

    /// Looks at a repository, and chooses the adapter that is for this device.
    ///
    /// # Errors
    ///
    /// [`UpdateError::NoRoot`], [`UpdateError::Trust`], [`UpdateError::Store`].
    pub(crate) async fn look(
        &self,
        settings: &Settings,
        device: &Device,
        clock: Timestamp,
    ) -> Result<Look, UpdateError> {
        let kept: Option<Trusted> = self.trusted.load()?;
        let mut trusted = match (kept.clone(), &settings.root) {
            (Some(kept), Some(root)) if !kept.began_with(root) => kept.renewed(root.clone())?,
            (Some(kept), _) => kept,
            (None, Some(root)) => Trusted::new(root.clone())?,
            (None, None) => return Err(UpdateError::NoRoot),
        };
        let loaded = trusted.load(&settings.from, clock).await;
        // A newer root stays trusted, whatever else was wrong.
        if kept.as_ref() != Some(&trusted) {
            self.trusted.save(&trusted)?;
        }
        let record = self.record()?;
        let suits = |offered: Offered| {
            place(&record, device, &offered)?;
            match record.quarantined(&offered.sha256) {
                Some(why) if !settings.again => Err(NotForUs::Quarantined(why.to_owned())),
                _ => Ok(offered),
            }
        };
        let targets = offer::targets(&loaded?).into_iter();
        let mut seen: Vec<Seen> =
            targets.map(|(name, offered)| (name, offered.and_then(suits))).collect();
        let choice = offer::choose(&mut seen);
        Ok(Look { seen, choice })
    }

    /// Fetches an adapter and keeps it. May take as long as the line does.
    ///
    /// # Errors
    ///
    /// [`UpdateError::OnTrial`], [`UpdateError::Download`], [`UpdateError::Store`].
    pub(crate) fn fetch(&self, from: &Location, offered: &Offered) -> Result<(), UpdateError> {
        match self.record()?.phase {
            Phase::Trial { .. } => return Err(UpdateError::OnTrial),
            // It came before, and was not put to use for some reason.
            Phase::Fetched(before) | Phase::Staged(before) if before == *offered => return Ok(()),
            _ => {}
        }
        let file = download::download(from, offered, &self.state)?;
        fail_point!("update-downloaded", |_| std::process::abort());
        self.file.save(&Bytes::new(&file))?;
        fail_point!("update-kept", |_| std::process::abort());
        self.enter(Phase::Fetched(offered.clone()))?;
        fail_point!("update-fetched", |_| std::process::abort());
        Ok(())
    }

    /// Writes what is known next, and all about updates, in one transaction.
    fn write(
        &self,
        session: &mut Session,
        next: &Learner,
        record: &Record,
        layers: &[Layer],
        replaced: Option<&Replaced>,
    ) -> Result<(), UpdateError> {
        let values = [
            self.record.value(record)?,
            self.layers.value(&layers)?,
            self.replaced.value(&replaced)?,
            self.file.value(&Bytes::new(&[]))?,
        ];
        session.switch(&difference::difference(session.learner(), next), &values)?;
        Ok(())
    }

    /// The adapter on trial has proved itself.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Store`].
    pub(crate) fn commit(&self) -> Result<(), UpdateError> {
        if matches!(self.record()?.phase, Phase::Trial { .. }) {
            self.enter(Phase::Committed)?;
            fail_point!("update-committed", |_| std::process::abort());
        }
        Ok(())
    }
}

/// The time by the clock of the box, or what a test says.
pub(crate) fn clock() -> Timestamp {
    fail_point!("update-clock", |time| {
        time.and_then(|time| time.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
    });
    Timestamp::now()
}

fn kept_wrong(offered: &Offered, error: &LayerError) -> UpdateError {
    UpdateError::Kept { target: offered.target.clone(), why: with_causes(error) }
}
