//! Looks at the repository, and puts what is for this box to use.

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
    Again, Classes, Device, Location, Look, NotForUs, Offered, Phase, Piece, Remember, Settings,
    Then, UpdateError, clock,
};

/// How often it is looked whether it is time.
const ROUND: Duration = Duration::from_secs(1);

/// The first look comes within this time after a start: a power cut ends for all boxes at once.
const FIRST: Duration = Duration::from_mins(1);

/// A poll comes up to this share of its period sooner or later.
const JITTER: f64 = 0.2;

/// Looks now and then until the daemon ends.
pub(super) async fn keep_looking(shared: &Arc<Shared>) {
    let mut next = Instant::now() + FIRST.mul_f64(random());
    loop {
        let stays = tokio::select! {
            () = shared.ending.wait() => return,
            () = tokio::time::sleep(ROUND) => false,
            () = shared.updater.stays.notified() => true,
        };
        // A round in a task of its own: one that crashes is not the last.
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

/// Looks if it is time; tells when that is the next time.
async fn one_round(shared: Arc<Shared>, next: Instant, stays: bool) -> Instant {
    let updater = &shared.updater;
    let config = shared.config.get().update.clone();
    // A configuration that was read anew may want it sooner.
    let longest = Instant::now() + Duration::from_secs(config.poll_seconds).mul_f64(1.0 + JITTER);
    let next = next.min(longest);
    if config.from.is_none() || config.poll_seconds == 0 {
        return next;
    }
    // What builds on the adapter that stays may be there already.
    if Instant::now() < next && !(stays && config.automatic) {
        return next;
    }
    // With a source that is closed, nothing could be tried out.
    let done = if config.automatic && !updater.on_trial() && shared.source.get().open {
        let order = Order { classes: Classes::Keep, again: Again::None };
        updater.apply(&shared, order).await.map(|_| ())
    } else {
        updater.check(&shared).await
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

/// Time until the next look.
fn period(config: &UpdateConfig) -> Duration {
    Duration::from_secs(config.poll_seconds).mul_f64(1.0 + JITTER * (2.0 * random() - 1.0))
}

/// A number of 0 to 1 that differs from box to box.
fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX)
}

impl Updater {
    fn on_trial(&self) -> bool {
        matches!(self.updates.record().map(|record| record.phase), Ok(Phase::Trial { .. }))
    }

    /// Looks at the repository, and puts nothing to use.
    pub(crate) async fn check(&self, shared: &Shared) -> Result<(), NotUpdated> {
        let _line = self.line.try_lock().map_err(|_| NotUpdated::Busy)?;
        let looked = self.look(shared, Again::None).await.map(|_| ());
        self.tell(shared);
        looked
    }

    /// Fetches the adapters that are for this box until one is in use; tells whether there was one.
    pub(crate) async fn apply(&self, shared: &Shared, order: Order) -> Result<bool, NotUpdated> {
        let _line = self.line.try_lock().map_err(|_| NotUpdated::Busy)?;
        let (applied, troubles) = match self.look_and_switch(shared, order).await {
            Ok((applied, troubles)) => (Ok(applied), troubles),
            Err(error) => (Err(()), vec![error]),
        };
        self.seen().trouble =
            troubles.iter().find(|error| !error.is_known_otherwise()).map(NotUpdated::why);
        self.tell(shared);
        if let Ok(Some(offered)) = &applied {
            let seconds = shared.config.get().update.trial_seconds;
            tracing::info!("{} is in use, on trial for {seconds} s", offered.target);
            for trouble in troubles {
                tracing::warn!("update: {}", trouble.why());
            }
            return Ok(true);
        }
        troubles.into_iter().next().map_or(Ok(false), Err)
    }

    /// What was put to use, and why those before it were not.
    async fn look_and_switch(
        &self,
        shared: &Shared,
        order: Order,
    ) -> Result<(Option<Offered>, Vec<NotUpdated>), NotUpdated> {
        self.updates.may_fetch()?;
        let before = self.taken_back.load(Ordering::Acquire);
        let (settings, device, look) = self.look(shared, order.again).await?;
        let (mut troubles, mut piece) = (Vec::new(), Piece::Keep);
        for offered in look.choices {
            let target = offered.target.clone();
            let switched = self.fetch(&settings.from, offered, piece).await;
            let switched = match switched {
                Ok(()) => self.switch(shared, &target, &device, order.classes, before).await,
                Err(error) => Err(error),
            };
            match switched {
                Ok(offered) => return Ok((Some(offered), troubles)),
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
        Ok((None, troubles))
    }

    async fn fetch(
        &self,
        from: &Location,
        offered: Offered,
        piece: Piece,
    ) -> Result<(), NotUpdated> {
        let (updates, from) = (self.updates.clone(), from.clone());
        let fetching = tokio::task::spawn_blocking(move || updates.fetch(&from, &offered, piece));
        Ok(fetching.await.map_err(|_| NotUpdated::Thread(NotDone::Crashed))??)
    }

    /// Puts the adapter that was fetched to use, unless something was taken back since it was chosen.
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
        let (updates, device) = (self.updates.clone(), device.clone());
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
            // The thread that answers goes on with what was there before.
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
        let (error, adapters) = match &looked {
            Ok((_, _, look)) => (None, look.seen.iter().map(SeenDto::of).collect()),
            Err(NotUpdated::Update(error)) => (Some(with_causes(error)), Vec::new()),
            // Nobody has looked.
            Err(_) => return looked,
        };
        let mut seen = self.seen();
        seen.last_success = if error.is_none() { Some(at) } else { seen.last_success };
        seen.last_look = Some(LastLook { at, error, adapters });
        drop(seen);
        looked
    }

    async fn look_at(
        &self,
        shared: &Shared,
        again: Again,
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
        let look = self.updates.look(&settings, &device, clock(), Remember::Seen).await?;
        Ok((settings, device, look))
    }
}
