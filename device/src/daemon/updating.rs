//! Updates while the daemon runs: looks for them now and then, puts them to use, watches over their trial.

mod status;
mod watch;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Event;
use super::config::UpdateConfig;
use super::shared::Shared;
use super::teaching::NotDone;
use crate::report::with_causes;
use crate::update::{
    Classes, Device, Look, NotForUs, Offered, Phase, Settings, UpdateError, Updates, clock,
};
use crate::{EdgeError, Session};
pub(crate) use status::UpdateDto;
use status::{LastLook, SeenDto};

/// Updates of a running daemon.
pub(crate) struct Updater {
    updates: Updates,
    /// One thing at a time.
    turn: tokio::sync::Mutex<()>,
    seen: Mutex<SeenSoFar>,
}

/// What is known since the start.
#[derive(Debug, Clone, Default)]
struct SeenSoFar {
    last_look: Option<LastLook>,
    last_success: Option<Timestamp>,
    trouble: Option<String>,
    trial: Option<Trial>,
}

/// When the adapter on trial came into use, and how many frames had been answered by then.
#[derive(Debug, Clone, Copy)]
struct Trial {
    since: Instant,
    answered: u64,
}

/// What an operator asks of an update.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) classes: Classes,
    /// Whether one that was refused or taken back may be tried again.
    pub(crate) again: bool,
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

impl Trial {
    fn begin(shared: &Shared) -> Self {
        Self { since: Instant::now(), answered: shared.metrics.answered().0 }
    }
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
                    | UpdateError::Refused { .. }
                    | UpdateError::OnTrial
            ),
            Self::Thread(_) => false,
        }
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
                    "{} was rolled back: two starts while it was on trial",
                    offered.target
                );
            }
            Err(error) => tracing::error!("update: {}", with_causes(&error)),
        }
        Ok(Self { updates, turn: tokio::sync::Mutex::default(), seen: Mutex::default() })
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
        let status = UpdateDto::of(self.updates.record()?);
        let SeenSoFar { last_look, last_success, trouble, trial } = self.seen().clone();
        let time = Duration::from_secs(config.trial_seconds);
        let left = trial.map(|trial| time.saturating_sub(trial.since.elapsed()).as_secs());
        Ok(UpdateDto {
            from: config.location().ok().flatten().map(|from| from.to_string()),
            channel: config.channel.clone(),
            automatic: config.automatic,
            poll_seconds: config.poll_seconds,
            trial_seconds_left: left.filter(|_| status.phase == "trial"),
            trouble,
            last_look,
            last_success,
            ..status
        })
    }

    /// Looks at the repository, and changes nothing.
    pub(crate) async fn check(&self, shared: &Shared) -> Result<(), NotUpdated> {
        let _turn = self.turn.try_lock().map_err(|_| NotUpdated::Busy)?;
        let looked = self.look(shared, false).await.map(|_| ());
        self.tell(shared);
        looked
    }

    /// Fetches the adapter that is for this box, if there is one, and puts it to use; tells whether there was one.
    pub(crate) async fn apply(&self, shared: &Shared, order: Order) -> Result<bool, NotUpdated> {
        let _turn = self.turn.try_lock().map_err(|_| NotUpdated::Busy)?;
        let applied = self.look_and_switch(shared, order).await;
        self.seen().trouble = match &applied {
            Err(error) if !error.is_known_otherwise() => Some(error.why()),
            _ => None,
        };
        self.tell(shared);
        let offered = applied?;
        if let Some(offered) = &offered {
            let seconds = shared.config.get().update.trial_seconds;
            tracing::warn!("{} is in use, on trial for {seconds} s", offered.target);
        }
        Ok(offered.is_some())
    }

    async fn look_and_switch(
        &self,
        shared: &Shared,
        order: Order,
    ) -> Result<Option<Offered>, NotUpdated> {
        if matches!(self.updates.record().map_err(UpdateError::from)?.phase, Phase::Trial { .. }) {
            return Err(UpdateError::OnTrial.into());
        }
        let (settings, device, look) = self.look(shared, order.again).await?;
        let Some(offered) = look.choice else { return Ok(None) };
        let (updates, from) = (self.updates.clone(), settings.from);
        let target = offered.target.clone();
        let fetching = tokio::task::spawn_blocking(move || updates.fetch(&from, &offered));
        fetching.await.map_err(|_| NotUpdated::Thread(NotDone::Crashed))??;
        let updates = self.updates.clone();
        let switch =
            move |session: &mut Session| Ok(updates.switch(session, &device, order.classes));
        let switched = shared.teacher.ask("update", switch).await.map_err(NotUpdated::Thread)?;
        match &switched {
            Ok(offered) => self.mark(&target, &NotForUs::InUse(offered.offer.release)),
            Err(UpdateError::Refused { why, .. }) => {
                self.mark(&target, &NotForUs::Quarantined(why.clone()));
            }
            Err(_) => {}
        }
        let offered = switched?;
        self.seen().trial = Some(Trial::begin(shared));
        Ok(Some(offered))
    }

    /// Says of an adapter what has become of it since the last look.
    fn mark(&self, target: &str, why: &NotForUs) {
        let mut seen = self.seen();
        let adapters = seen.last_look.iter_mut().flat_map(|look| &mut look.adapters);
        adapters
            .filter(|adapter| adapter.is(target))
            .for_each(|adapter| adapter.is_not_for_us(why));
    }

    /// Takes the newest adapter out of use.
    pub(crate) async fn roll_back(
        &self,
        shared: &Shared,
        why: &str,
        classes: Classes,
    ) -> Result<(), NotUpdated> {
        let _turn = self.turn.try_lock().map_err(|_| NotUpdated::Busy)?;
        let (updates, reason) = (self.updates.clone(), why.to_owned());
        let back = move |session: &mut Session| Ok(updates.roll_back(session, &reason, classes));
        let done = shared.teacher.ask("rollback", back).await.map_err(NotUpdated::Thread)?;
        let offered = done?;
        tracing::warn!("{} was rolled back: {why}", offered.target);
        self.mark(&offered.target, &NotForUs::Quarantined(why.to_owned()));
        self.seen().trial = None;
        self.tell(shared);
        Ok(())
    }

    async fn look(
        &self,
        shared: &Shared,
        again: bool,
    ) -> Result<(Settings, Device, Look), NotUpdated> {
        let config = shared.config.get().update.clone();
        let settings = config.settings()?.ok_or(NotUpdated::NowhereFrom)?;
        let settings = Settings { again, ..settings };
        let id = self.updates.record().map_err(UpdateError::from)?.device;
        let channel = settings.channel.clone();
        let of = move |session: &mut Session| {
            let (base_id, feature_space) = (session.base().id, session.store().feature_space_id());
            Ok(Device { id, base_id, feature_space, channel })
        };
        let device = shared.teacher.ask("look", of).await.map_err(NotUpdated::Thread)?;
        let at = clock();
        let looked = self.updates.look(&settings, &device, at).await;
        let (error, adapters) = match &looked {
            Ok(look) => (None, look.seen.iter().map(SeenDto::of).collect()),
            Err(error) => (Some(with_causes(error)), Vec::new()),
        };
        {
            let mut seen = self.seen();
            seen.last_success = if error.is_none() { Some(at) } else { seen.last_success };
            seen.last_look = Some(LastLook { at, error, adapters });
        }
        Ok((settings, device, looked?))
    }

    /// Tells everybody how updates stand.
    fn tell(&self, shared: &Shared) {
        let Ok(status) = self.status(&shared.config.get().update) else { return };
        shared.metrics.updated(&status);
        // An event that nobody listens to is none.
        let _ = shared.events.send(Event::Update(Box::new(status)));
    }
}
