//! Over-the-air adapters: looked for, fetched, tried, put to use, and taken back.
//!
//! idle -> fetched -> staged -> trial -> committed, or rolled back. Each step is one transaction of the store, so that
//! after a power cut the old adapter or the new one is whole and in use, never something between. Whatever comes from a
//! repository is believed only after [`trust`] and `decode_adapter` have looked at it.

mod difference;
mod download;
mod location;
mod offer;
mod record;
mod staging;
mod transport;
mod trust;
mod undoing;

use std::path::PathBuf;

use fail::fail_point;
use fmlora_learner::format::decode_adapter;
use fmlora_learner::Learner;
use jiff::Timestamp;
use thiserror::Error;

pub(crate) use download::DownloadError;
pub(crate) use location::Location;
pub(crate) use offer::{Device, NotForUs, Offered, Seen};
pub(crate) use record::{Phase, Record};
pub(crate) use trust::TrustError;

use difference::difference;
use record::{BEFORE, Before, FILE, InUse, RECORD, TRUSTED};
use staging::{Refusal, Staged, stage};
use trust::Trusted;

use crate::report::with_causes;
use crate::store::Record as Kept;
use crate::{EdgeError, Session, StoreError};

/// Why an update did not happen; what is in use stays.
#[derive(Debug, Error)]
pub(crate) enum UpdateError {
    /// No root is trusted yet.
    #[error("no repository is trusted yet: name its root.json with --root, or as update.root")]
    NoRoot,
    /// The repository is not believed.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The adapter did not come.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// The adapter is in quarantine from now on.
    #[error("{target} was refused and is not tried again: {why}")]
    Refused {
        target: String,
        why: String,
    },
    /// Classes would be lost.
    #[error("{target} changes the features and carries no drift map: {} would be lost; to lose them, say --lose-classes", .classes.join(", "))]
    Loses {
        target: String,
        classes: Vec<String>,
    },
    /// The repository or its root cannot be read from the configuration.
    #[error("{0}")]
    Settings(String),
    /// There is nothing to take back.
    #[error("no adapter is in use that could be taken back")]
    NothingInUse,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Anything else.
    #[error(transparent)]
    Edge(Box<EdgeError>),
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

/// Where adapters come from, and which are meant for this device.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) from: Location,
    /// The root.json that the operator trusts; needed once.
    pub(crate) root: Option<Vec<u8>>,
    pub(crate) channel: String,
}

/// What a look at a repository brought.
#[derive(Debug)]
pub(crate) struct Look {
    /// Everything there, and why it is not for this device.
    pub(crate) seen: Vec<Seen>,
    /// What is to be fetched.
    pub(crate) choice: Option<Offered>,
}

/// The part of the store that is about updates.
#[derive(Clone)]
pub(crate) struct Updates {
    record: Kept,
    trusted: Kept,
    file: Kept,
    before: Kept,
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
        let state = store.path().parent().map(PathBuf::from).unwrap_or_default();
        let [record, trusted, file, before] = [RECORD, TRUSTED, FILE, BEFORE].map(|key| store.record(key));
        Ok(Self { record: record?, trusted: trusted?, file: file?, before: before?, state })
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

    fn enter(&self, phase: Phase) -> Result<Record, StoreError> {
        let record = Record { phase, ..self.record()? };
        self.record.save(&record)?;
        Ok(record)
    }

    /// Looks at a repository, and chooses the first adapter that is for this device.
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
        let mut trusted = match (kept, &settings.root) {
            (Some(kept), Some(root)) if !kept.began_with(root) => Trusted::new(root.clone())?,
            (Some(kept), _) => kept,
            (None, Some(root)) => Trusted::new(root.clone())?,
            (None, None) => return Err(UpdateError::NoRoot),
        };
        let loaded = trusted.load(&settings.from, clock).await;
        // A newer root stays trusted, whatever else was wrong.
        self.trusted.save(&trusted)?;
        let record = self.record()?;
        let newest = record.in_use.last().map(|used| &used.offered);
        let suits = |offered: Offered| {
            // What replaces the newest adapter begins where that one began.
            match newest.filter(|used| replaces(&offered, used)) {
                Some(used) => {
                    let feature_space = used.offer.feature_space_before;
                    offered.suits(&Device { feature_space, ..device.clone() })?;
                }
                None => offered.suits(device)?,
            }
            if let Some(why) = record.quarantined(&offered.sha256) {
                return Err(NotForUs::Quarantined(why.to_owned()));
            }
            match record.release(offered.offer.name.as_str()) {
                Some(release) if release >= offered.offer.release => Err(NotForUs::InUse(release)),
                _ => Ok(offered),
            }
        };
        let seen = offer::targets(&loaded?).into_iter();
        let seen: Vec<Seen> =
            seen.map(|(name, offered)| (name, offered.and_then(suits))).collect();
        let choice = seen.iter().find_map(|(_, offered)| offered.as_ref().ok()).cloned();
        Ok(Look { seen, choice })
    }

    /// Fetches an adapter and keeps it. May take as long as the line does.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Download`], [`UpdateError::Store`].
    pub(crate) fn fetch(&self, from: &Location, offered: &Offered) -> Result<(), UpdateError> {
        let file = download::download(from, offered, &self.state)?;
        fail_point!("update-downloaded", |_| std::process::abort());
        self.file.save(&serde_bytes::Bytes::new(&file))?;
        fail_point!("update-kept", |_| std::process::abort());
        self.enter(Phase::Fetched(offered.clone()))?;
        fail_point!("update-fetched", |_| std::process::abort());
        Ok(())
    }

    /// Tries the adapter that was fetched, and puts it to use in one transaction. It is on trial then.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Refused`], and the adapter is in quarantine; [`UpdateError::Loses`] unless `lose`; others leave the
    /// adapter where it is, to be tried again.
    pub(crate) fn switch(&self, session: &mut Session, lose: bool) -> Result<Offered, UpdateError> {
        let record = self.record()?;
        let (Phase::Fetched(offered) | Phase::Staged(offered)) = &record.phase else {
            return Err(UpdateError::NothingInUse);
        };
        let file: serde_bytes::ByteBuf = self.file.load()?.unwrap_or_default();
        let mut record = record.clone();
        let ground = self.ground(session, &mut record, offered)?;
        let Staged { next, lost } = match stage(session, &ground, offered, &file) {
            Ok(staged) => staged,
            Err(Refusal::Failed(error)) => return Err(error.into()),
            Err(Refusal::Bad(why)) => {
                let mut record = self.record()?;
                record.refuse(offered, &why);
                record.phase = Phase::RolledBack { why: why.clone() };
                self.record.save(&record)?;
                return Err(UpdateError::Refused { target: offered.target.clone(), why });
            }
        };
        if !lost.is_empty() && !lose {
            self.enter(Phase::Idle)?;
            return Err(UpdateError::Loses { target: offered.target.clone(), classes: lost });
        }
        self.enter(Phase::Staged(offered.clone()))?;
        fail_point!("update-staged", |_| std::process::abort());
        record.phase = Phase::Trial { starts: 0 };
        let since = Timestamp::now().as_second();
        record.in_use.push(InUse { offered: offered.clone(), since });
        let before = Some(Before::new(&ground, &next, &file));
        let kept = [self.record.value(&record)?, self.before.value(&before)?];
        session.switch(&difference(session.learner(), &next), &kept)?;
        fail_point!("update-switched", |_| std::process::abort());
        Ok(offered.clone())
    }

    /// What the adapter builds on: what is known now, or, if it is a newer release of the newest in use, what was known
    /// before that one, which is no longer in use then.
    fn ground(
        &self,
        session: &Session,
        record: &mut Record,
        offered: &Offered,
    ) -> Result<Learner, UpdateError> {
        let now = session.learner();
        let replaced = record.in_use.last().is_some_and(|used| replaces(offered, &used.offered));
        let before: Option<Before> = self.before.load()?.flatten();
        let (true, Some(before)) = (replaced, before) else { return Ok(now.clone()) };
        record.in_use.pop();
        without(now, before, offered)
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

    /// Takes the newest adapter out of use, in one transaction, and never tries it again.
    ///
    /// # Errors
    ///
    /// [`UpdateError::NothingInUse`]; others leave it in use.
    pub(crate) fn roll_back(&self, session: &mut Session, why: &str) -> Result<Offered, UpdateError> {
        let mut record = self.record()?;
        let before: Option<Before> = self.before.load()?.flatten();
        let (Some(InUse { offered, .. }), Some(before)) = (record.in_use.pop(), before) else {
            return Err(UpdateError::NothingInUse);
        };
        let next = without(session.learner(), before, &offered)?;
        record.refuse(&offered, why);
        record.phase = Phase::RolledBack { why: why.to_owned() };
        let kept = [self.record.value(&record)?, self.before.value(&None::<Before>)?];
        fail_point!("update-rolling-back", |_| std::process::abort());
        session.switch(&difference(session.learner(), &next), &kept)?;
        fail_point!("update-rolled-back", |_| std::process::abort());
        Ok(offered)
    }

    /// Counts a start of the program. An adapter that is on trial at the second start is rolled back: the first could be
    /// a power cut. Gives what was rolled back.
    ///
    /// # Errors
    ///
    /// Those of [`Updates::roll_back`].
    pub(crate) fn started(&self, session: &mut Session) -> Result<Option<Offered>, UpdateError> {
        let Phase::Trial { starts } = self.record()?.phase else { return Ok(None) };
        if starts == 0 {
            self.enter(Phase::Trial { starts: 1 })?;
            return Ok(None);
        }
        self.roll_back(session, "the program was started twice while it was on trial").map(Some)
    }
}

/// Whether an adapter takes the place of another one instead of building on it.
fn replaces(offered: &Offered, used: &Offered) -> bool {
    let (new, old) = (&offered.offer, &used.offer);
    new.name == old.name && new.feature_space_before == old.feature_space_before
}

/// What is known without the newest adapter.
fn without(now: &Learner, before: Before, offered: &Offered) -> Result<Learner, UpdateError> {
    let damaged = |error: &dyn std::error::Error| UpdateError::Refused {
        target: offered.target.clone(),
        why: with_causes(error),
    };
    let (adapter, _) = decode_adapter(&before.file).map_err(|e| damaged(&e))?;
    undoing::back(now, before, &adapter).map_err(|e| damaged(&e))
}
