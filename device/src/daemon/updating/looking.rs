//! Polls the repository and applies the adapters for this box.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::status::{LastLook, SeenDto};
use super::trial::Trial;
use super::{NotUpdated, Order, Updater};
use crate::Session;
use crate::daemon::config::UpdateConfig;
use crate::daemon::shared::Shared;
use crate::daemon::teaching::NotDone;
use crate::report::with_causes;
use crate::update::{
    Again, Classes, Device, Look, NotForUs, Offered, Origin, Phase, Piece, Remember, Settings,
    TakenOut, Then, UpdateError, clock,
};

/// Interval at which the poll time is checked.
const ROUND: Duration = Duration::from_secs(1);

/// The first poll comes at a random time within this period after a start: a power cut ends for all
/// boxes at once.
const FIRST: Duration = Duration::from_mins(1);

/// Jitter: a poll comes up to this share of its period sooner or later.
const JITTER: f64 = 0.2;

/// Polls until the daemon ends.
pub(super) async fn keep_looking(shared: &Arc<Shared>) {
    let mut next = Instant::now() + FIRST.mul_f64(random());
    loop {
        let stays = tokio::select! {
            () = shared.ending.wait() => return,
            () = tokio::time::sleep(ROUND) => false,
            () = shared.updater.stays.notified() => true,
        };
        // Each round has a task of its own, so that a panic does not end the loop.
        let round = tokio::spawn(one_round(shared.clone(), next, stays));
        match round.await {
            Ok(then) => next = then,
            Err(error) if error.is_panic() => {
                tracing::error!("looking for updates crashed: please report it");
                next = Instant::now() + period(&shared.config.get().update);
            }
            Err(_) => return,
        }
    }
}

/// Polls if it is due; returns the time of the next poll.
async fn one_round(shared: Arc<Shared>, next: Instant, stays: bool) -> Instant {
    let updater = &shared.updater;
    let config = shared.config.get().update.clone();
    // A reloaded configuration may have a shorter period.
    let longest = Instant::now() + Duration::from_secs(config.poll_seconds).mul_f64(1.0 + JITTER);
    let next = next.min(longest);
    if config.from.is_none() || config.poll_seconds == 0 {
        return next;
    }
    // Adapters that build on the committed one may be available already.
    if Instant::now() < next && !(stays && config.automatic) {
        return next;
    }
    let order = Order { classes: Classes::Keep, again: Again::None };
    let done = if !config.automatic {
        updater.check(&shared).await
    } else if updater.on_trial() || !shared.source.get().open {
        // An adapter cannot be tried while the source is closed.
        updater.obey(&shared, &order).await
    } else {
        updater.apply(&shared, order).await.map(|_| ())
    };
    match done {
        Ok(())
        | Err(
            NotUpdated::NowhereFrom | NotUpdated::Busy | NotUpdated::Update(UpdateError::OnTrial),
        ) => {}
        Err(error) => tracing::warn!("update: {}", error.why()),
    }
    Instant::now() + period(&config)
}

/// Time until the next poll.
fn period(config: &UpdateConfig) -> Duration {
    Duration::from_secs(config.poll_seconds).mul_f64(1.0 + JITTER * (2.0 * random() - 1.0))
}

/// Random number of 0 to 1, different on each box.
fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX)
}

/// Result of an order to update.
#[derive(Debug, Default)]
struct Changes {
    /// True if a withdrawn adapter was taken out of use.
    withdrew: bool,
    applied: Option<Offered>,
    /// Errors of adapters that were not applied, or not taken out.
    troubles: Vec<NotUpdated>,
}

impl Updater {
    fn on_trial(&self) -> bool {
        matches!(self.updates.record().map(|record| record.phase), Ok(Phase::Trial { .. }))
    }

    /// Checks the repository and applies nothing.
    pub(crate) async fn check(&self, shared: &Shared) -> Result<(), NotUpdated> {
        let _line = self.line.try_lock().map_err(|_| NotUpdated::Busy)?;
        let looked = self.look(shared, Again::None).await.map(|_| ());
        self.tell(shared);
        looked
    }

    /// Checks the repository and takes withdrawn adapters out of use; applies nothing.
    async fn obey(&self, shared: &Shared, order: &Order) -> Result<(), NotUpdated> {
        let _line = self.line.try_lock().map_err(|_| NotUpdated::Busy)?;
        let obeyed = match self.look(shared, Again::None).await {
            Ok((_, _, look)) => self.withdraw(shared, &look, order.classes).await,
            Err(error) => Err(error),
        };
        let trouble = obeyed.as_ref().err().filter(|error| !error.is_known_otherwise());
        if let Some(error) = trouble {
            self.seen().trouble = Some(error.why());
        }
        self.tell(shared);
        obeyed.map(|_| ())
    }

    /// Takes adapters out of use that a check has found to be withdrawn; returns true if there was
    /// one.
    async fn withdraw(
        &self,
        shared: &Shared,
        look: &Look,
        classes: Classes,
    ) -> Result<bool, NotUpdated> {
        if look.withdrawn.is_empty() {
            return Ok(false);
        }
        let _turn = self.turn.lock().await;
        let updates = self.updates.clone();
        let orders = look.withdrawn.clone();
        let take_out = move |session: &mut Session| Ok(updates.withdraw(session, &orders, classes));
        let asked = shared.teacher.ask("rollback", take_out).await;
        let TakenOut { targets, why } = asked.map_err(NotUpdated::Thread)??;
        if targets.is_empty() {
            return Ok(false);
        }
        self.taken_back.fetch_add(1, Ordering::AcqRel);
        for offered in &targets {
            tracing::warn!("{} is out of use: {why}", offered.target);
        }
        let mut seen = self.seen();
        seen.withdrawn.retain(|order| targets.iter().all(|out| out.target != order.target));
        Ok(true)
    }

    /// Takes withdrawn adapters out of use, then downloads the adapters for this box until one is
    /// in use; returns true if anything changed.
    pub(crate) async fn apply(&self, shared: &Shared, order: Order) -> Result<bool, NotUpdated> {
        let _line = self.line.try_lock().map_err(|_| NotUpdated::Busy)?;
        let Changes { withdrew, applied, troubles } = self
            .look_and_switch(shared, order)
            .await
            .unwrap_or_else(|error| Changes { troubles: vec![error], ..Changes::default() });
        self.seen().trouble =
            troubles.iter().find(|error| !error.is_known_otherwise()).map(NotUpdated::why);
        self.tell(shared);
        if let Some(offered) = &applied {
            let seconds = shared.config.get().update.trial_seconds;
            tracing::info!("{} is in use, on trial for {seconds} s", offered.target);
            for trouble in troubles {
                tracing::warn!("update: {}", trouble.why());
            }
            return Ok(true);
        }
        troubles.into_iter().next().map_or(Ok(withdrew), Err)
    }

    /// Checks the repository, takes adapters out of use and applies one.
    async fn look_and_switch(&self, shared: &Shared, order: Order) -> Result<Changes, NotUpdated> {
        self.updates.may_fetch()?;
        let mut before = self.taken_back.load(Ordering::Acquire);
        let (settings, mut device, mut look) = self.look(shared, order.again.clone()).await?;
        let mut troubles = Vec::new();
        let mut piece = Piece::Keep;
        let withdrew = match self.withdraw(shared, &look, order.classes).await {
            Ok(withdrew) => withdrew,
            Err(error) => {
                troubles.push(error);
                false
            }
        };
        if withdrew {
            before = self.taken_back.load(Ordering::Acquire);
            device = self.device(shared, settings.channel.clone()).await?;
            let judged = self.updates.judged(look.list, &device, &order.again, clock());
            look = judged.map_err(UpdateError::from)?;
            self.remember(&look);
        }
        for offered in look.choices {
            let target = offered.target.clone();
            let fetched = self.fetch(&settings.from, offered, piece).await;
            let switched = match fetched {
                Ok(()) => self.switch(shared, &target, &device, order.classes, before).await,
                Err(error) => Err(error),
            };
            match switched {
                Ok(offered) => {
                    return Ok(Changes { withdrew, applied: Some(offered), troubles });
                }
                Err(error) => {
                    let goes_on = error.is_about_one();
                    if let NotUpdated::Update(UpdateError::Download(_)) = error {
                        piece = Piece::Drop;
                    }
                    troubles.push(error);
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        Ok(Changes { withdrew, applied: None, troubles })
    }

    async fn fetch(&self, from: &Origin, offered: Offered, piece: Piece) -> Result<(), NotUpdated> {
        let updates = self.updates.clone();
        let from = from.clone();
        let fetching = tokio::task::spawn_blocking(move || updates.fetch(&from, &offered, piece));
        Ok(fetching.await.map_err(|_| NotUpdated::Thread(NotDone::Crashed))??)
    }

    /// Applies the downloaded adapter, unless an update was rolled back since it was chosen.
    async fn switch(
        &self,
        shared: &Shared,
        target: &str,
        device: &Device,
        classes: Classes,
        taken_back: u64,
    ) -> Result<Offered, NotUpdated> {
        let _turn = self.turn.lock().await;
        if self.taken_back.load(Ordering::Acquire) != taken_back {
            let why = "an update was taken back meanwhile".to_owned();
            return Err(UpdateError::NotNow { target: target.to_owned(), why }.into());
        }
        let updates = self.updates.clone();
        let device = device.clone();
        let switch = move |session: &mut Session| {
            let switched = updates.switch(session, &device, classes, Then::Trial);
            Ok(switched.map(|offered| (offered, session.revision())))
        };
        let switched = shared.teacher.ask("update", switch).await.map_err(NotUpdated::Thread)?;
        match &switched {
            Ok((offered, _)) => self.mark(target, &NotForUs::InUse(offered.offer.release)),
            Err(UpdateError::Refused { why, .. }) => {
                self.mark(target, &NotForUs::Quarantined(why.clone()));
            }
            Err(_) => {}
        }
        let (offered, revision) = switched?;
        if shared.answers.given() < revision {
            // The answering thread continues with the previous state.
            let why = "what is known with it cannot be used";
            self.take_back(shared, why, Classes::MayBeLost).await?;
            return Err(UpdateError::Refused { target: offered.target, why: why.to_owned() }.into());
        }
        self.ends.begin();
        let frames = shared.answers.progress().frames;
        self.seen().trial = Some(Trial::new(revision, frames, Instant::now()));
        Ok(offered)
    }

    async fn look(
        &self,
        shared: &Shared,
        again: Again,
    ) -> Result<(Settings, Device, Look), NotUpdated> {
        let at = clock();
        let looked = self.look_at(shared, again).await;
        match &looked {
            Ok((_, _, look)) => {
                let adapters = Vec::new();
                let last = LastLook { at, error: None, adapters };
                let before = {
                    let mut seen = self.seen();
                    seen.last_success = Some(at);
                    seen.last_look.replace(last)
                };
                self.remember(look);
                self.log_refusals(before.as_ref());
            }
            Err(NotUpdated::Update(error)) => {
                let error = Some(with_causes(error));
                let adapters = Vec::new();
                self.seen().last_look = Some(LastLook { at, error, adapters });
            }
            // No check took place.
            Err(_) => {}
        }
        looked
    }

    /// Stores the result of a check.
    fn remember(&self, look: &Look) {
        let mut seen = self.seen();
        seen.withdrawn.clone_from(&look.withdrawn);
        if let Some(last) = &mut seen.last_look {
            last.adapters = look.seen.iter().map(SeenDto::of).collect();
        }
    }

    /// Logs the refused adapters that were not refused at the previous check.
    fn log_refusals(&self, before: Option<&LastLook>) {
        let known = before.map_or(&[][..], |look| &look.adapters);
        let seen = self.seen();
        let found = seen.last_look.iter().flat_map(|look| &look.adapters);
        for new in found.filter(|adapter| adapter.refused && !known.contains(adapter)) {
            tracing::warn!("update: {new}");
        }
    }

    /// Returns the properties of this box that offers are matched with.
    async fn device(&self, shared: &Shared, channel: String) -> Result<Device, NotUpdated> {
        let id = self.updates.record().map_err(UpdateError::from)?.device;
        let of = move |session: &mut Session| {
            let base_id = session.base().id;
            let feature_space = session.store().feature_space_id();
            Ok(Device { id, base_id, feature_space, channel })
        };
        shared.teacher.ask("look", of).await.map_err(NotUpdated::Thread)
    }

    async fn look_at(
        &self,
        shared: &Shared,
        again: Again,
    ) -> Result<(Settings, Device, Look), NotUpdated> {
        let config = shared.config.get().update.clone();
        let settings = config.settings()?.ok_or(NotUpdated::NowhereFrom)?;
        let settings = Settings { again, ..settings };
        let device = self.device(shared, settings.channel.clone()).await?;
        let look = self.updates.look(&settings, &device, clock(), Remember::Seen).await?;
        Ok((settings, device, look))
    }
}
