//! Applies an adapter, in one transaction.

use fail::fail_point;
use fmlora_learner::Learner;
use serde_bytes::ByteBuf;

use super::layers::Back;
use super::place::{Place, place};
use super::record::{Phase, TRIES};
use super::stack::{Stack, Switch};
use super::staging::{Refusal, Staged, stage};
use super::{Classes, Device, Offered, UpdateError, Updates, clock};
use crate::Session;

/// Phase that an adapter enters when it comes into use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The daemon watches over it, and decides if it stays.
    Trial,
    /// It stays, as all possible checks were made.
    Stays,
}

impl Updates {
    /// Checks the adapter that was downloaded, and applies it in one transaction.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Refused`], with the adapter in quarantine; [`UpdateError::Loses`] unless
    /// classes may be lost. After other errors, the adapter may be tried again.
    pub(crate) fn switch(
        &self,
        session: &mut Session,
        device: &Device,
        classes: Classes,
        then: Then,
    ) -> Result<Offered, UpdateError> {
        let record = self.record()?;
        let (Phase::Fetched(offered) | Phase::Staged(offered)) = record.phase.clone() else {
            return Err(UpdateError::NothingFetched);
        };
        let file: ByteBuf = self.file.load()?.unwrap_or_default();
        // A task learned after the look may have left no position for it.
        let device = Device { feature_space: session.store().feature_space_id(), ..device.clone() };
        let place = match place(&record, &device, &offered) {
            Ok(place) => place,
            Err(why) => {
                self.change(&[self.no_file()?], super::Record::settle)?;
                return Err(UpdateError::NotNow { target: offered.target, why: why.to_string() });
            }
        };
        let stack = self.stack()?;
        let (ground, steps) = self.try_out(session, &offered, &file, place, &stack)?;
        if !ground.lost.is_empty() && classes == Classes::Keep {
            return Err(UpdateError::Loses { target: offered.target, classes: ground.lost });
        }
        fail_point!("update-staged", |_| std::process::abort());
        let stack = stack.after(&Switch {
            offered: &offered,
            file: &file,
            place,
            at: clock().as_second(),
            now: session.learner(),
            ground: &ground.learner,
            steps: &steps,
        });
        let mut record = self.record()?;
        record.forgive(&offered);
        record.phase = match then {
            Then::Trial => Phase::TRIAL,
            Then::Stays => Phase::Committed,
        };
        self.write(session, steps.last().unwrap_or(&ground.learner), record, &stack, Vec::new())?;
        fail_point!("update-switched", |_| std::process::abort());
        Ok(offered)
    }

    /// Checks an adapter in its position, and records that it passed, or the reason why not.
    /// Returns the learner without the adapters that are taken out for it, with all classes that
    /// are lost, and the learner after each step from there.
    fn try_out(
        &self,
        session: &mut Session,
        offered: &Offered,
        file: &[u8],
        place: Place,
        stack: &Stack,
    ) -> Result<(Back, Vec<Learner>), UpdateError> {
        let mut ground = stack.without(place.beneath, session.learner())?;
        // Counted before the checks, so that an adapter that ends the program is not tried for
        // ever.
        let tries = self.try_once(offered)?;
        fail_point!("update-trying", |_| std::process::abort());
        let staged = match tries {
            ..=TRIES => {
                let above = stack.layers_from(place.beneath + 1);
                stage(session, &ground.learner, offered, file, &above)
            }
            _ => Err(Refusal::Crashes("the program ended each time while it was tried".to_owned())),
        };
        self.tried()?;
        let Staged { steps, lost } =
            staged.map_err(|refusal| self.refused(offered, refusal, tries))?;
        self.change(&[], |record| {
            record.try_anew(offered);
            record.phase = Phase::Staged(offered.clone());
        })?;
        ground.lost.extend(lost);
        Ok((ground, steps))
    }

    /// Records the reason why an adapter is not applied.
    fn refused(&self, offered: &Offered, refusal: Refusal, tries: u32) -> UpdateError {
        let target = offered.target.clone();
        let (remembered, error) = match refusal {
            Refusal::Failed(error) => {
                (self.change(&[], |record| record.try_anew(offered)), error.into())
            }
            Refusal::Perhaps(why) if tries < TRIES => {
                return UpdateError::NotNow { target, why };
            }
            Refusal::Crashes(why) => {
                let refused = self.runs_so_far().and_then(|mut runs| {
                    runs.crashed(offered, clock());
                    let also = [self.no_file()?, self.runs.value(&runs)?];
                    self.change(&also, |record| record.refuse(offered, &why))
                });
                (refused, UpdateError::Refused { target, why })
            }
            Refusal::Perhaps(why) | Refusal::Bad(why) => {
                let refuse =
                    |no_file| self.change(&[no_file], |record| record.refuse(offered, &why));
                (self.no_file().and_then(refuse), UpdateError::Refused { target, why: why.clone() })
            }
        };
        remembered.map_or_else(UpdateError::from, |()| error)
    }
}
