//! Looks for updates now and then, and watches over their trial.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::{NotUpdated, Order, Trial, Updater};
use crate::daemon::config::UpdateConfig;
use crate::daemon::shared::Shared;
use crate::report::with_causes;
use crate::update::{Classes, Phase, UpdateError};

/// How often a trial is looked after.
const ROUND: Duration = Duration::from_secs(1);

/// The first look comes within this time after a start: a power cut ends for all boxes at once.
const FIRST: Duration = Duration::from_mins(1);

/// A poll comes up to this share of its period sooner or later.
const JITTER: f64 = 0.2;

impl Updater {
    /// Looks now and then, and watches over a trial, until the daemon ends.
    pub(in crate::daemon) fn keep_looking(shared: &Arc<Shared>) -> JoinHandle<()> {
        let shared = shared.clone();
        tokio::spawn(async move {
            shared.updater.tell(&shared);
            let mut next = Instant::now() + FIRST.mul_f64(random());
            loop {
                tokio::select! {
                    () = shared.ending.wait() => return,
                    () = tokio::time::sleep(ROUND) => {}
                }
                // A round in a task of its own: one that crashes is not the last.
                let round = tokio::spawn(one_round(shared.clone(), next));
                match round.await {
                    Ok(then) => next = then,
                    Err(error) if error.is_panic() => {
                        tracing::error!("looking for updates crashed: please report it");
                        next = Instant::now() + period(&shared.config.get().update);
                    }
                    Err(_) => return,
                }
            }
        })
    }

    /// Lets the adapter on trial stay, or takes it back. Tells whether one stays from now on.
    async fn watch_over(&self, shared: &Shared) -> bool {
        let phase = self.updates.record().map(|record| record.phase);
        if !matches!(phase, Ok(Phase::Trial { .. })) {
            return false;
        }
        // After a start, it begins anew.
        let trial = *self.seen().trial.get_or_insert_with(|| Trial::begin(shared));
        let time = Duration::from_secs(shared.config.get().update.trial_seconds);
        if trial.since.elapsed() < time {
            return false;
        }
        // Where no frames come, none can be answered.
        let lives = shared.metrics.answered().0 > trial.answered
            || !shared.source.get().open
            || time.is_zero();
        if !lives {
            let why = format!("no frame was answered in {} s", trial.since.elapsed().as_secs());
            match self.roll_back(shared, &why, Classes::MayBeLost).await {
                // Somebody has built on it, so it stays.
                Err(NotUpdated::Update(UpdateError::Overgrown { .. })) => {}
                Err(NotUpdated::Busy) | Ok(()) => return false,
                // It is tried again after as long a time.
                Err(error) => {
                    tracing::error!("an adapter that should go stays: {}", error.why());
                    self.seen().trial = None;
                    return false;
                }
            }
        }
        let Ok(_turn) = self.turn.try_lock() else { return false };
        let updates = self.updates.clone();
        let committed = tokio::task::spawn_blocking(move || updates.commit()).await;
        match committed {
            Ok(Ok(())) => {
                tracing::warn!("the adapter on trial stays");
                self.seen().trial = None;
                self.tell(shared);
                return true;
            }
            Ok(Err(error)) => tracing::error!("update: {}", with_causes(&error)),
            Err(_) => tracing::error!("update: committing crashed: please report it"),
        }
        false
    }
}

/// One look after a trial, and at the repository if it is time; tells when that is the next time.
async fn one_round(shared: Arc<Shared>, next: Instant) -> Instant {
    let updater = &shared.updater;
    let stays = updater.watch_over(&shared).await;
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
    let on_trial = updater.seen().trial.is_some();
    let done = if config.automatic && !on_trial {
        let order = Order { classes: Classes::Keep, again: false };
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
