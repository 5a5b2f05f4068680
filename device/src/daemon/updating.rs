//! Updates while the daemon runs: looks for them now and then, puts them to use, watches over their trial.

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

/// Updates of a running daemon.
pub(crate) struct Updater {
    updates: Updates,
    /// Held by who looks and fetches: one at a time, for as long as the line takes.
    line: tokio::sync::Mutex<()>,
    /// Held by who changes what is in use, and never while anybody waits for the line.
    turn: tokio::sync::Mutex<()>,
    /// How often something was taken back: what was chosen before is not put to use after.
    taken_back: AtomicU64,
    /// An adapter stays from now on: what builds on it may be there already.
    stays: tokio::sync::Notify,
    seen: Mutex<SeenSoFar>,
    ends: Ends,
}

/// What is known since the start.
#[derive(Debug, Clone, Default)]
struct SeenSoFar {
    last_look: Option<LastLook>,
    last_success: Option<Timestamp>,
    trouble: Option<String>,
    trial: Option<Trial>,
    /// What the last look found to be withdrawn, though it was in use.
    withdrawn: Vec<Withdrawn>,
}

/// What an operator asks of an update.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) classes: Classes,
    /// Which of those that were refused or taken back may be tried again.
    pub(crate) again: Again,
}

/// Why something about updates was not done.
#[derive(Debug)]
pub(crate) enum NotUpdated {
    /// update.from is not set.
    NowhereFrom,
    /// Another one is under way.
    Busy,
    /// It was refused or failed; what was in use is in use.
    Update(UpdateError),
    /// The thread that learns did not do it.
    Thread(NotDone),
}

impl From<UpdateError> for NotUpdated {
    fn from(error: UpdateError) -> Self {
        Self::Update(error)
    }
}

impl NotUpdated {
    /// Whether it stands elsewhere in the status, such as with the last look or with what was refused.
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

    /// Whether it is about one adapter, so that another one may be put to use.
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
    /// Of a session; rolls back an adapter that is on trial for the second start. What fails there is no reason not to
    /// start: what is in use stays in use.
    ///
    /// # Errors
    ///
    /// [`EdgeError::Store`] if the session was not opened to be written.
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

    /// Looks now and then, and watches over trials, until the daemon ends. Neither waits for the other.
    pub(in crate::daemon) fn keep_looking(shared: &Arc<Shared>) -> JoinHandle<()> {
        let shared = shared.clone();
        tokio::spawn(async move {
            shared.updater.warn_without_root(&shared.config.get().update);
            shared.updater.tell(&shared);
            tokio::join!(watch::keep_watching(&shared), looking::keep_looking(&shared));
        })
    }

    /// Says that a repository is named, but nothing that it could be believed by.
    fn warn_without_root(&self, config: &UpdateConfig) {
        let trusted = config.root.is_some() || self.updates.trusts_a_root().unwrap_or(true);
        if config.from.is_some() && !trusted {
            tracing::error!(
                "update.from is set, but update.root is not: this box takes no update until update.root names the \
                 repository's root.json (metadata/1.root.json, from whoever publishes)"
            );
        }
    }

    /// Who counts ends of the program during a trial.
    pub(crate) fn ends(&self) -> &Ends {
        &self.ends
    }

    fn seen(&self) -> MutexGuard<'_, SeenSoFar> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How updates stand.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Store`]
    pub(crate) fn status(&self, config: &UpdateConfig) -> Result<UpdateDto, UpdateError> {
        let record = self.updates.record()?;
        let until = record.quarantine.iter().map(|one| self.updates.tried_again(&one.sha256));
        let until = until.collect::<Result<_, _>>()?;
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

    /// Says of an adapter what has become of it since the last look.
    fn mark(&self, target: &str, why: &NotForUs) {
        let mut seen = self.seen();
        let adapters = seen.last_look.iter_mut().flat_map(|look| &mut look.adapters);
        adapters
            .filter(|adapter| adapter.is(target))
            .for_each(|adapter| adapter.is_not_for_us(why));
    }

    /// Tells everybody how updates stand.
    fn tell(&self, shared: &Shared) {
        let Ok(status) = self.status(&shared.config.get().update) else { return };
        shared.metrics.updated(&status);
        // An event that nobody listens to is none.
        let _ = shared.events.send(Event::Update(Box::new(status)));
    }
}
