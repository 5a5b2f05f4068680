//! Update client for over-the-air adapters: finds, downloads, checks, applies and rolls back.
//!
//! Phases: idle -> fetched -> staged -> trial -> committed, or rolled back. Each step is one
//! transaction of the store. After a power cut, either the old adapters or the new ones are
//! complete and in use, never a mixture. Data of a repository is used only after [`trust`] and
//! `decode_adapter` have verified it.

mod difference;
mod download;
mod ends;
mod error;
mod going_back;
mod layers;
mod location;
mod offer;
mod origin;
mod place;
mod record;
mod runs;
mod settings;
mod stack;
mod staging;
mod switching;
mod transport;
mod trust;
mod withdrawing;

use std::path::PathBuf;

use fail::fail_point;
use fmlora_learner::{FeatureSpaceId, Learner};
use jiff::Timestamp;
use serde_bytes::Bytes;

pub(crate) use download::{DownloadError, Piece};
pub(crate) use ends::Ends;
pub(crate) use error::UpdateError;
pub(crate) use location::Location;
pub(crate) use offer::{Device, List, NotForUs, Offered, Seen, Withdrawn};
pub(crate) use origin::{Client, Origin};
pub(crate) use record::{InUse, Phase, Quarantined, Record};
pub(crate) use settings::{Again, Settings, read_root};
pub(crate) use switching::Then;
pub(crate) use trust::{TrustError, Trusted};
pub(crate) use withdrawing::TakenOut;

use layers::LayerError;
use place::place;
use runs::Runs;
use stack::{Stack, StackParts};

use crate::report::with_causes;
use crate::store::{Record as Kept, Value};
use crate::{Session, Store, StoreError};

/// Time at which an adapter in quarantine is retried; `None` if it is not retried automatically.
pub(crate) type TriedAgain = Option<Timestamp>;

/// Version of the stored values of updates.
const VERSION: u16 = 1;

/// Result of a look at a repository.
#[derive(Debug)]
pub(crate) struct Look {
    /// All targets, each with its offer or the reason why it is not for this device.
    pub(crate) seen: Vec<Seen>,
    /// Adapters to try, in this order.
    pub(crate) choices: Vec<Offered>,
    /// Adapters in use here that their publisher has withdrawn.
    pub(crate) withdrawn: Vec<Withdrawn>,
    /// The repository's list of targets.
    pub(crate) list: List,
}

/// Choice to store the metadata seen by a look, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remember {
    /// Stores roots, versions and times. Older metadata is refused from then on.
    Seen,
    Nothing,
}

/// Choice to keep or lose classes that an adapter cannot take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Classes {
    Keep,
    /// The operator allows it, or the device does not work otherwise.
    MayBeLost,
}

/// The values of updates in the store.
///
/// | key of `meta` | value |
/// |---|---|
/// | `update` | [`Record`] |
/// | `update-trusted` | `Trusted`: root, versions and time of the repository |
/// | `update-file` | the downloaded adapter, until it is in use or refused |
/// | `update-stack` | `Stack`: adapters in use, with the data to take them out again |
/// | `update-parts` | `StackParts`: parts that adapters brought to the classes in the stack |
/// | `update-runs` | `Runs`: runs of the program, and the back-off after crashes |
///
/// All values except the file are encoded by postcard, behind [`VERSION`].
#[derive(Clone)]
pub(crate) struct Updates {
    record: Kept,
    trusted: Kept,
    file: Kept,
    stack: Kept,
    parts: Kept,
    runs: Kept,
    /// The store's description of the state, which is only read here.
    about: Kept,
    /// Feature space of the base.
    base_features: FeatureSpaceId,
    /// State directory, which holds a partial download.
    state: PathBuf,
}

impl Updates {
    /// Opens the values of updates in a session's store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] if it was not opened for writing.
    pub(crate) fn of(session: &Session) -> Result<Self, StoreError> {
        let store = session.store();
        Ok(Self {
            record: store.record("update")?.versioned(VERSION),
            trusted: store.record("update-trusted")?.versioned(VERSION),
            file: store.record("update-file")?,
            stack: store.record("update-stack")?.versioned(VERSION),
            parts: store.record("update-parts")?.versioned(VERSION),
            runs: store.record("update-runs")?.versioned(VERSION),
            about: store.record("about")?,
            base_features: session.base().id.feature_space(),
            state: store.path().parent().map(PathBuf::from).unwrap_or_default(),
        })
    }

    /// Reads the record. Creates it at the first call.
    pub(crate) fn record(&self) -> Result<Record, StoreError> {
        match self.record.load()? {
            Some(record) => Ok(record),
            None => self.change(&[], |record| record.clone()),
        }
    }

    /// Reads the adapters in use, with the data to take them out again.
    fn stack(&self) -> Result<Stack, StoreError> {
        let stack: Stack = self.stack.load()?.unwrap_or_default();
        let parts: StackParts = self.parts.load()?.unwrap_or_default();
        Ok(stack.with_parts(&parts))
    }

    /// Returns true if a root is trusted already, so that none has to be named.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`], [`StoreError::Damaged`] or [`StoreError::Version`].
    pub(crate) fn trusts_a_root(&self) -> Result<bool, StoreError> {
        Ok(self.trusted.load::<Trusted>()?.is_some())
    }

    /// Changes the record, and writes other values with it, in one transaction.
    fn change<R>(
        &self,
        also: &[Value],
        change: impl FnOnce(&mut Record) -> R,
    ) -> Result<R, StoreError> {
        self.record.change(Record::new, also, change)
    }

    /// Returns the empty value that replaces a file that is no longer needed.
    fn no_file(&self) -> Result<Value, StoreError> {
        self.file.value(&Bytes::new(&[]))
    }

    /// Loads a repository, and chooses the adapters for this device.
    ///
    /// # Errors
    ///
    /// [`UpdateError::NoRoot`], [`UpdateError::Trust`], [`UpdateError::Store`].
    pub(crate) async fn look(
        &self,
        settings: &Settings,
        device: &Device,
        clock: Timestamp,
        remember: Remember,
    ) -> Result<Look, UpdateError> {
        let kept: Option<Trusted> = self.trusted.load()?;
        let mut trusted = match (kept.clone(), &settings.root) {
            (Some(kept), Some(root)) if !kept.began_with(root) => kept.renewed(root.clone())?,
            (Some(kept), _) => kept,
            (None, Some(root)) => Trusted::new(root.clone())?,
            (None, None) => return Err(UpdateError::NoRoot),
        };
        let loaded = trusted.load(&settings.from, clock).await;
        // A newer root stays trusted, even if loading failed after it.
        if remember == Remember::Seen && kept.as_ref() != Some(&trusted) {
            self.trusted.save(&trusted)?;
        }
        Ok(self.judged(List::of(&loaded?), device, &settings.again, clock)?)
    }

    /// Judges a repository's list by the current state of this device.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    pub(crate) fn judged(
        &self,
        list: List,
        device: &Device,
        again: &Again,
        clock: Timestamp,
    ) -> Result<Look, StoreError> {
        let record = self.record()?;
        let runs = self.runs_so_far()?;
        let suits = |offered: Offered| {
            place(&record, device, &offered)?;
            if again.lets(&offered.target) {
                return Ok(offered);
            }
            if let Some(why) = record.quarantined(&offered.sha256) {
                match runs.until(&offered.sha256) {
                    None => return Err(NotForUs::Quarantined(why.to_owned())),
                    Some(until) if clock < until => {
                        let why = format!("{why}; it is tried again from {until} on");
                        return Err(NotForUs::Quarantined(why));
                    }
                    Some(_) => {}
                }
            }
            match record.larger_taken_back(&offered) {
                Some(release) => Err(NotForUs::NewerTakenBack(release)),
                None => Ok(offered),
            }
        };
        let targets = list.targets.clone().into_iter();
        let mut seen: Vec<Seen> =
            targets.map(|(name, offered)| (name, offered.and_then(suits))).collect();
        let choices = offer::choose(&mut seen, again);
        let is_used =
            |order: &&Withdrawn| !record.withdrawn(std::slice::from_ref(order)).is_empty();
        let withdrawn = list.withdrawn.iter().filter(is_used).cloned().collect();
        Ok(Look { seen, choices, withdrawn, list })
    }

    /// Returns the time at which an adapter in quarantine is retried; `None` if it is not retried
    /// automatically.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    pub(crate) fn tried_again(&self, sha256: &[u8; 32]) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.runs_so_far()?.until(sha256))
    }

    /// Returns the current feature space of the classes.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    pub(crate) fn features(&self) -> Result<FeatureSpaceId, StoreError> {
        Ok(self.about.feature_space_id()?.unwrap_or(self.base_features))
    }

    /// Reads the values of updates in a state opened for reading: the record, and for each adapter
    /// in quarantine the time at which it is retried; `None` if there is no record.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    pub(crate) fn peek(store: &Store) -> Result<Option<(Record, Vec<TriedAgain>)>, StoreError> {
        let Some(record) = store.value::<Record>("update", VERSION)? else { return Ok(None) };
        let runs: Runs = store.value("update-runs", VERSION)?.unwrap_or_default();
        let until = record.quarantine.iter().map(|refused| runs.until(&refused.sha256)).collect();
        Ok(Some((record, until)))
    }

    /// Returns the record if an adapter may be downloaded now.
    ///
    /// # Errors
    ///
    /// [`UpdateError::OnTrial`], [`UpdateError::Store`].
    pub(crate) fn may_fetch(&self) -> Result<Record, UpdateError> {
        match self.record()? {
            Record { phase: Phase::Trial { .. }, .. } => Err(UpdateError::OnTrial),
            record => Ok(record),
        }
    }

    /// Downloads an adapter and stores it. Takes as long as the connection needs.
    ///
    /// # Errors
    ///
    /// [`UpdateError::OnTrial`], [`UpdateError::Download`], [`UpdateError::Store`].
    pub(crate) fn fetch(
        &self,
        from: &Origin,
        offered: &Offered,
        piece: Piece,
    ) -> Result<(), UpdateError> {
        match self.may_fetch()?.phase {
            // It was downloaded before, and not applied for some reason.
            Phase::Fetched(before) | Phase::Staged(before) if before == *offered => return Ok(()),
            _ => {}
        }
        let file = download::download(from, offered, &self.state, piece)?;
        fail_point!("update-downloaded", |_| std::process::abort());
        let fetched = Phase::Fetched(offered.clone());
        let file = self.file.value(&Bytes::new(&file))?;
        self.change(&[file], |record| record.phase = fetched)?;
        fail_point!("update-fetched", |_| std::process::abort());
        Ok(())
    }

    /// Writes the next learner and all values of updates, in one transaction.
    fn write(
        &self,
        session: &mut Session,
        next: &Learner,
        mut record: Record,
        stack: &Stack,
        also: Vec<Value>,
    ) -> Result<(), UpdateError> {
        record.in_use = stack.in_use();
        record.can_roll_back = stack.newest().is_some();
        let mut values = also;
        values.extend([
            self.record.value(&record)?,
            self.stack.value(stack)?,
            self.parts.value(&stack.parts())?,
            self.no_file()?,
        ]);
        session.switch(&difference::difference(session.learner(), next), &values)?;
        Ok(())
    }

    /// Ends a trial with success: the adapter stays in use.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Store`].
    pub(crate) fn commit(&self) -> Result<(), UpdateError> {
        let commit = |record: &mut Record| {
            if let Phase::Trial { .. } = record.phase {
                record.phase = Phase::Committed;
            }
        };
        self.change(&[], commit)?;
        self.forget_crashes()?;
        fail_point!("update-committed", |_| std::process::abort());
        Ok(())
    }
}

/// Returns the time of the device's clock, or the time that a test's fail point sets.
pub(crate) fn clock() -> Timestamp {
    fail_point!("update-clock", |time| {
        time.and_then(|time| time.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
    });
    Timestamp::now()
}

fn kept_wrong(offered: &Offered, error: &LayerError) -> UpdateError {
    UpdateError::Kept { target: offered.target.clone(), why: with_causes(error) }
}
