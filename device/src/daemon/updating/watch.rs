//! Watches trials and rolls adapters back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::trial::{Trial, Verdict};
use super::{NotUpdated, Updater};
use crate::Session;
use crate::daemon::shared::Shared;
use crate::report::with_causes;
use crate::update::{Classes, NotForUs, Offered, Phase, UpdateError};

/// Interval at which a trial is checked.
const ROUND: Duration = Duration::from_secs(1);

/// Watches trials until the daemon ends.
pub(super) async fn keep_watching(shared: &Arc<Shared>) {
    loop {
        tokio::select! {
            () = shared.ending.wait() => return,
            () = tokio::time::sleep(ROUND) => {}
        }
        let here = shared.clone();
        // Each round has a task of its own, so that a panic does not end the loop.
        let round = tokio::spawn(async move { here.updater.watch_over(&here).await });
        match round.await {
            Ok(()) => {}
            Err(error) if error.is_panic() => {
                tracing::error!("watching over an update crashed: please report it");
            }
            Err(_) => return,
        }
    }
}

impl Updater {
    /// Commits the adapter on trial or rolls it back, if the trial is over.
    async fn watch_over(&self, shared: &Shared) {
        let _turn = self.turn.lock().await;
        let phase = self.updates.record().map(|record| record.phase);
        if !matches!(phase, Ok(Phase::Trial { .. })) {
            self.ends.begin();
            self.seen().trial = None;
            return;
        }
        let open = shared.source.get().open;
        let progress = shared.answers.progress();
        if !open {
            self.ends.excuse();
        }
        let (trial, waited) = {
            let mut seen = self.seen();
            // After a restart the trial begins again: all answers include the adapter.
            let begin = || Trial::new(0, progress.frames, Instant::now());
            let trial = seen.trial.get_or_insert_with(begin);
            let waited = trial.waits();
            trial.look(open, progress, Instant::now());
            (*trial, waited)
        };
        if trial.waits() != waited {
            self.tell(shared);
        }
        let config = shared.config.get();
        let silence = Duration::try_from_secs_f64(config.camera.timeout_seconds);
        let time = Duration::from_secs(config.update.trial_seconds);
        match trial.verdict(time, silence.unwrap_or_default()) {
            Verdict::Open => {}
            Verdict::Stays => self.let_stay(shared).await,
            Verdict::Goes(why) => match self.take_back(shared, &why, Classes::MayBeLost).await {
                Ok(()) => {}
                // A task was learned on the adapter, so it stays.
                Err(NotUpdated::Update(UpdateError::Overgrown { .. })) => {
                    self.let_stay(shared).await;
                }
                // A new trial begins, and is judged after the same time.
                Err(error) => {
                    tracing::error!("an adapter that should go stays: {}", error.why());
                    self.seen().trial = None;
                }
            },
        }
    }

    async fn let_stay(&self, shared: &Shared) {
        let updates = self.updates.clone();
        let committed = tokio::task::spawn_blocking(move || updates.commit()).await;
        match committed {
            Ok(Ok(())) => {
                tracing::info!("the adapter on trial stays");
                self.seen().trial = None;
                self.tell(shared);
                self.stays.notify_one();
            }
            Ok(Err(error)) => tracing::error!("update: {}", with_causes(&error)),
            Err(_) => tracing::error!("update: committing crashed: please report it"),
        }
    }

    /// Rolls the newest adapter back. Does not wait for checks and downloads.
    pub(crate) async fn roll_back(
        &self,
        shared: &Shared,
        why: &str,
        classes: Classes,
    ) -> Result<(), NotUpdated> {
        let _turn = self.turn.lock().await;
        self.take_back(shared, why, classes).await
    }

    /// Like [`Self::roll_back`], for a caller that holds the lock of changes.
    pub(super) async fn take_back(
        &self,
        shared: &Shared,
        why: &str,
        classes: Classes,
    ) -> Result<(), NotUpdated> {
        let updates = self.updates.clone();
        let reason = why.to_owned();
        let back = move |session: &mut Session| Ok(updates.roll_back(session, &reason, classes));
        let done = shared.teacher.ask("rollback", back).await.map_err(NotUpdated::Thread)?;
        let Offered { target, .. } = done?;
        self.taken_back.fetch_add(1, Ordering::AcqRel);
        tracing::warn!("{target} was rolled back: {why}");
        self.mark(&target, &NotForUs::Quarantined(why.to_owned()));
        self.seen().trial = None;
        self.tell(shared);
        Ok(())
    }
}
