//! Updates of the running daemon: polls the repository, applies adapters and watches their trials.

mod looking;
mod status;
mod trial;
mod watch;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::Event;
use super::config::UpdateConfig;
use super::shared::Shared;
use super::teaching::NotDone;
use crate::report::with_causes;
use crate::update::{Again, Classes, Ends, NotForUs, UpdateError, Updates, Withdrawn};
use crate::{EdgeError, Session};
use status::LastLook;
pub(crate) use status::{InUseDto, QuarantinedDto, UpdateDto};
use trial::Trial;

/// Updater of the running daemon.
pub(crate) struct Updater {
    updates: Updates,
    /// Lock of checks and downloads: one at a time, for as long as the network takes.
    line: tokio::sync::Mutex<()>,
    /// Lock of changes to the adapters in use. Never held while the network is awaited.
    turn: tokio::sync::Mutex<()>,
    /// Number of rollbacks. An adapter that was chosen before a rollback is not applied after it.
    taken_back: AtomicU64,
    /// Signals that an adapter was committed: adapters that build on it may be available already.
    stays: tokio::sync::Notify,
    seen: Mutex<SeenSoFar>,
    ends: Ends,
}

/// Observations since the start of the daemon.
#[derive(Debug, Clone, Default)]
struct SeenSoFar {
    last_look: Option<LastLook>,
    last_success: Option<Timestamp>,
    trouble: Option<String>,
    trial: Option<Trial>,
    /// Withdrawn adapters that were in use at the last check.
    withdrawn: Vec<Withdrawn>,
}

/// An operator's choices for an update.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) classes: Classes,
    /// Refused or rolled back adapters that may be tried again.
    pub(crate) again: Again,
}

/// Error of an update operation.
#[derive(Debug)]
pub(crate) enum NotUpdated {
    /// `update.from` is not set.
    NowhereFrom,
    /// Another update is in progress.
    Busy,
    /// The update was refused or failed; the adapters in use are unchanged.
    Update(UpdateError),
    /// The learning thread did not do the work.
    Thread(NotDone),
}

impl From<UpdateError> for NotUpdated {
    fn from(error: UpdateError) -> Self {
        Self::Update(error)
    }
}

impl NotUpdated {
    /// Returns true if the error is shown elsewhere in the status, such as with the last check or
    /// in the quarantine.
    fn is_known_otherwise(&self) -> bool {
        match self {
            Self::NowhereFrom | Self::Busy | Self::Thread(NotDone::Ended) => true,
            Self::Update(error) => matches!(
                error,
                UpdateError::Trust(_)
                    | UpdateError::NoRoot
                    | UpdateError::Settings(_)
                    | UpdateError::Refused { .. }
                    | UpdateError::OnTrial
            ),
            Self::Thread(_) => false,
        }
    }

    /// Returns true if the error concerns one adapter only, so that another one may be applied.
    fn is_about_one(&self) -> bool {
        matches!(self, Self::Update(error) if error.is_about_one())
    }

    fn why(&self) -> String {
        match self {
            Self::NowhereFrom => "update.from is not set".to_owned(),
            Self::Busy => "another update is under way".to_owned(),
            Self::Update(error) => with_causes(error),
            Self::Thread(NotDone::Failed(error)) => with_causes(error),
            Self::Thread(NotDone::Busy) => "too many operations wait".to_owned(),
            Self::Thread(NotDone::Ended) => "the daemon ends".to_owned(),
            Self::Thread(NotDone::Crashed) => "it crashed, nothing was changed".to_owned(),
        }
    }
}

impl Updater {
    /// Creates the updater of a session. Rolls back an adapter on trial after its second crash. An
    /// error of this rollback does not stop the start: the adapters stay in use.
    ///
    /// # Errors
    ///
    /// [`EdgeError::Store`] if the session is read-only.
    pub(crate) fn start(session: &mut Session) -> Result<Self, EdgeError> {
        let updates = Updates::of(session)?;
        match updates.started(session) {
            Ok(None) => {}
            Ok(Some(offered)) => {
                tracing::warn!(
                    "{} was rolled back: the program crashed twice while it was on trial",
                    offered.target
                );
            }
            Err(error) => tracing::error!("update: {}", with_causes(&error)),
        }
        Ok(Self {
            ends: Ends::new(updates.clone()),
            updates,
            line: tokio::sync::Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            taken_back: AtomicU64::new(0),
            stays: tokio::sync::Notify::new(),
            seen: Mutex::default(),
        })
    }

    /// Polls the repository and watches trials until the daemon ends, in parallel.
    pub(in crate::daemon) fn keep_looking(shared: &Arc<Shared>) -> JoinHandle<()> {
        let shared = shared.clone();
        tokio::spawn(async move {
            shared.updater.warn_without_root(&shared.config.get().update);
            shared.updater.tell(&shared);
            tokio::join!(watch::keep_watching(&shared), looking::keep_looking(&shared));
        })
    }

    /// Logs an error if a repository is configured, but no root to trust it by.
    fn warn_without_root(&self, config: &UpdateConfig) {
        let trusted = config.root.is_some() || self.updates.trusts_a_root().unwrap_or(true);
        if config.from.is_some() && !trusted {
            tracing::error!(
                "update.from is set, but update.root is not: this box takes no update until update.root names the \
                 repository's root.json (metadata/1.root.json, from whoever publishes)"
            );
        }
    }

    /// Returns the counter of program ends during a trial.
    pub(crate) fn ends(&self) -> &Ends {
        &self.ends
    }

    fn seen(&self) -> MutexGuard<'_, SeenSoFar> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the status of updates.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Store`] if the state cannot be read.
    pub(crate) fn status(&self, config: &UpdateConfig) -> Result<UpdateDto, UpdateError> {
        let record = self.updates.record()?;
        let quarantine = record.quarantine.iter();
        let until = quarantine
            .map(|one| self.updates.tried_again(&one.sha256))
            .collect::<Result<_, _>>()?;
        let mut status = UpdateDto::of(record, until, self.updates.features()?);
        let SeenSoFar { last_look, last_success, trouble, trial, withdrawn } = self.seen().clone();
        for used in &mut status.in_use {
            let order = withdrawn.iter().find(|order| used.is(&order.target));
            used.withdrawn = order.map(|order| order.reason.clone());
        }
        let last_refusal = last_look.as_ref().and_then(LastLook::refusal).or(status.last_refusal);
        let time = Duration::from_secs(config.trial_seconds);
        let trial = trial.filter(|_| status.phase == "trial");
        Ok(UpdateDto {
            from: config.location().ok().flatten().map(|from| from.to_string()),
            channel: config.channel.clone(),
            automatic: config.automatic,
            poll_seconds: config.poll_seconds,
            trial_seconds_left: trial.map(|trial| trial.left(time)),
            trial_waits: trial.is_some_and(|trial| trial.waits()),
            trouble,
            last_refusal,
            last_look,
            last_success,
            ..status
        })
    }

    /// Marks an adapter of the last check as not for this box, for this reason.
    fn mark(&self, target: &str, why: &NotForUs) {
        let mut seen = self.seen();
        let adapters = seen.last_look.iter_mut().flat_map(|look| &mut look.adapters);
        adapters
            .filter(|adapter| adapter.is(target))
            .for_each(|adapter| adapter.is_not_for_us(why));
    }

    /// Publishes the status of updates as metrics and as an event.
    fn tell(&self, shared: &Shared) {
        let Ok(status) = self.status(&shared.config.get().update) else { return };
        shared.metrics.updated(&status);
        // An event without listeners is dropped.
        let _ = shared.events.send(Event::Update(Box::new(status)));
    }
}
