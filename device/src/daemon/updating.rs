//! Updates while the daemon runs: looks for them now and then, puts them to use, watches over their trial.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use tokio::task::JoinHandle;
use utoipa::ToSchema;

use super::Event;
use super::config::{DaemonConfig, UpdateConfig};
use super::shared::Shared;
use super::teaching::NotDone;
use crate::report::with_causes;
use crate::update::{
    Device, Look, Phase, Record, Seen, Settings, UpdateError, Updates,
};
use crate::{EdgeError, Session};

/// How often a trial is looked after.
const ROUND: Duration = Duration::from_secs(1);

/// The first look comes within this time after a start: a power cut ends for all boxes at once.
const FIRST: Duration = Duration::from_secs(60);

/// A poll comes up to this share of its period sooner or later.
const JITTER: f64 = 0.2;

/// Updates of a running daemon.
pub(crate) struct Updater {
    updates: Updates,
    /// One thing at a time.
    turn: tokio::sync::Mutex<()>,
    last: Mutex<Option<LastLook>>,
    /// When the adapter on trial came into use, and how many frames had been answered by then.
    trial: Mutex<Option<(Instant, u64)>>,
}

/// The last look at the repository.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LastLook {
    /// By the clock of the box.
    #[schema(value_type = String)]
    at: Timestamp,
    /// Why nothing of the repository was believed.
    error: Option<String>,
    adapters: Vec<SeenDto>,
}

/// An adapter in the repository.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SeenDto {
    target: String,
    /// Why it is not for this box; null if it is.
    not_for_us: Option<String>,
}

/// How updates stand.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct UpdateDto {
    /// Where adapters come from; null if nowhere.
    from: Option<String>,
    channel: String,
    /// Name of this box in rollouts.
    device: String,
    /// idle, fetched, staged, trial, committed or rolled_back.
    pub(crate) phase: &'static str,
    /// Why an adapter was rolled back.
    why: Option<String>,
    /// The oldest first.
    pub(crate) in_use: Vec<InUseDto>,
    quarantine: Vec<QuarantinedDto>,
    last_look: Option<LastLook>,
}

/// An adapter that is in use.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct InUseDto {
    pub(crate) name: String,
    pub(crate) release: u64,
    target: String,
    #[schema(value_type = String)]
    since: Option<Timestamp>,
}

/// An adapter that is not tried again.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct QuarantinedDto {
    target: String,
    why: String,
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

impl Updater {
    /// Of a session; rolls back an adapter that is on trial for the second start.
    ///
    /// # Errors
    ///
    /// [`EdgeError::Update`]
    pub(crate) fn start(session: &mut Session) -> Result<Self, EdgeError> {
        let updates = Updates::of(session)?;
        if let Some(offered) = updates.started(session)? {
            tracing::warn!("{} was rolled back: two starts while it was on trial", offered.target);
        }
        let trial = matches!(updates.record()?.phase, Phase::Trial { .. });
        Ok(Self {
            updates,
            turn: tokio::sync::Mutex::default(),
            last: Mutex::default(),
            trial: Mutex::new(trial.then(|| (Instant::now(), 0))),
        })
    }

    /// How updates stand.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Store`]
    pub(crate) fn status(&self, config: &UpdateConfig) -> Result<UpdateDto, UpdateError> {
        let Record { device, phase, in_use, quarantine } = self.updates.record()?;
        let why = match &phase {
            Phase::RolledBack { why } => Some(why.clone()),
            _ => None,
        };
        let used = in_use.into_iter().map(|used| InUseDto {
            name: used.offered.offer.name.to_string(),
            release: used.offered.offer.release,
            target: used.offered.target,
            since: Timestamp::from_second(used.since).ok(),
        });
        let refused =
            quarantine.into_iter().map(|refused| QuarantinedDto { target: refused.name, why: refused.why });
        Ok(UpdateDto {
            from: config.location().ok().flatten().map(|from| from.to_string()),
            channel: config.channel.clone(),
            device,
            phase: phase.name(),
            why,
            in_use: used.collect(),
            quarantine: refused.collect(),
            last_look: self.last.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        })
    }

    /// Looks at the repository, and changes nothing.
    pub(crate) async fn check(&self, shared: &Shared) -> Result<(), NotUpdated> {
        let _turn = self.turn.try_lock().map_err(|_| NotUpdated::Busy)?;
        self.look(shared, &shared.config.get()).await.map(|_| ())
    }

    /// Fetches the adapter that is for this box, if there is one, and puts it to use; tells whether there was one.
    pub(crate) async fn apply(&self, shared: &Shared, lose: bool) -> Result<bool, NotUpdated> {
        let _turn = self.turn.try_lock().map_err(|_| NotUpdated::Busy)?;
        let (settings, look) = self.look(shared, &shared.config.get()).await?;
        let Some(offered) = look.choice else { return Ok(false) };
        let (updates, from) = (self.updates.clone(), settings.from);
        let fetching = tokio::task::spawn_blocking(move || updates.fetch(&from, &offered));
        fetching.await.map_err(|_| NotUpdated::Thread(NotDone::Crashed))??;
        let updates = self.updates.clone();
        let switch = move |session: &mut Session| Ok(updates.switch(session, lose));
        let switched = shared.teacher.ask("update", switch).await.map_err(NotUpdated::Thread)?;
        let offered = switched?;
        let seconds = shared.config.get().update.trial_seconds;
        tracing::warn!("{} is in use, on trial for {seconds} s", offered.target);
        *self.trial.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), shared.metrics.answered().0));
        self.tell(shared);
        Ok(true)
    }

    /// Takes the newest adapter out of use.
    pub(crate) async fn roll_back(&self, shared: &Shared, why: &str) -> Result<(), NotUpdated> {
        let _turn = self.turn.try_lock().map_err(|_| NotUpdated::Busy)?;
        let (updates, reason) = (self.updates.clone(), why.to_owned());
        let back = move |session: &mut Session| Ok(updates.roll_back(session, &reason));
        let done = shared.teacher.ask("rollback", back).await.map_err(NotUpdated::Thread)?;
        let offered = done?;
        tracing::warn!("{} was rolled back: {why}", offered.target);
        *self.trial.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.tell(shared);
        Ok(())
    }

    async fn look(
        &self,
        shared: &Shared,
        config: &DaemonConfig,
    ) -> Result<(Settings, Look), NotUpdated> {
        let settings = config.update.settings().map_err(NotUpdated::Update)?;
        let settings = settings.ok_or(NotUpdated::NowhereFrom)?;
        let id = self.updates.record().map_err(UpdateError::from)?.device;
        let channel = settings.channel.clone();
        let of = move |session: &mut Session| {
            let (base_id, feature_space) = (session.base().id, session.store().feature_space_id());
            Ok(Device { id, base_id, feature_space, channel })
        };
        let device = shared.teacher.ask("look", of).await.map_err(NotUpdated::Thread)?;
        let at = Timestamp::now();
        let looked = self.updates.look(&settings, &device, at).await;
        let (error, adapters) = match &looked {
            Ok(look) => (None, look.seen.iter().map(SeenDto::of).collect()),
            Err(error) => (Some(with_causes(error)), Vec::new()),
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(LastLook { at, error, adapters });
        Ok((settings, looked?))
    }

    /// Tells everybody that updates stand otherwise.
    fn tell(&self, shared: &Shared) {
        let Ok(status) = self.status(&shared.config.get().update) else { return };
        shared.metrics.updated(&status);
        // An event that nobody listens to is none.
        let _ = shared.events.send(Event::Update(Box::new(status)));
    }

    /// Looks now and then, and watches over a trial, until the daemon ends.
    pub(super) fn keep_looking(shared: &Arc<Shared>) -> JoinHandle<()> {
        let shared = shared.clone();
        tokio::spawn(async move {
            let updater = &shared.updater;
            updater.tell(&shared);
            let mut next = Instant::now() + FIRST.mul_f64(random());
            loop {
                tokio::select! {
                    () = shared.ending.wait() => return,
                    () = tokio::time::sleep(ROUND) => {}
                }
                updater.watch_over(&shared).await;
                let config = shared.config.get().update.clone();
                let period = Duration::from_secs(config.poll_seconds);
                // A configuration that was read anew may want it sooner.
                next = next.min(Instant::now() + period.mul_f64(1.0 + JITTER));
                if config.from.is_none() || period.is_zero() || Instant::now() < next {
                    continue;
                }
                next = Instant::now() + period.mul_f64(1.0 + JITTER * (2.0 * random() - 1.0));
                let done = if config.automatic {
                    updater.apply(&shared, false).await.map(|_| ())
                } else {
                    updater.check(&shared).await
                };
                match done {
                    Ok(()) | Err(NotUpdated::NowhereFrom | NotUpdated::Busy) => {}
                    Err(NotUpdated::Update(error)) => tracing::warn!("update: {}", with_causes(&error)),
                    Err(NotUpdated::Thread(error)) => tracing::warn!("update: {error:?}"),
                }
            }
        })
    }

    /// Lets the adapter on trial stay, or takes it back.
    async fn watch_over(&self, shared: &Shared) {
        let trial = *self.trial.lock().unwrap_or_else(PoisonError::into_inner);
        let time = Duration::from_secs(shared.config.get().update.trial_seconds);
        let Some((since, answered)) = trial.filter(|(since, _)| since.elapsed() >= time) else {
            return;
        };
        // Where no frames come, none can be answered.
        let lives = shared.metrics.answered().0 > answered || !shared.source.get().open;
        if !lives {
            let why = format!("no frame was answered in {} s", since.elapsed().as_secs());
            // It is tried again in the next round.
            let _ = self.roll_back(shared, &why).await;
            return;
        }
        let Ok(_turn) = self.turn.try_lock() else { return };
        match self.updates.commit() {
            Ok(()) => {
                *self.trial.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.tell(shared);
            }
            Err(error) => tracing::error!("update: {}", with_causes(&error)),
        }
    }
}

impl SeenDto {
    fn of((target, offered): &Seen) -> Self {
        let not_for_us = offered.as_ref().err().map(ToString::to_string);
        Self { target: target.clone(), not_for_us }
    }
}

/// A number of 0 to 1 that differs from box to box.
fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX)
}
