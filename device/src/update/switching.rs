//! Putting an adapter to use, in one transaction.

use fail::fail_point;
use serde_bytes::ByteBuf;

use super::layers::{DEPTH, Layer, Replaced, Undo};
use super::place::{Place, place};
use super::record::{InUse, Phase, Record, TRIES};
use super::staging::{Refusal, Staged, stage};
use super::{Classes, Device, Offered, UpdateError, Updates, clock, kept_wrong};
use crate::Session;

impl Updates {
    /// Tries the adapter that was fetched, and puts it to use in one transaction. It is on trial then.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Refused`], and the adapter is in quarantine; [`UpdateError::Loses`] unless classes may be lost;
    /// others leave the adapter where it is, to be tried again.
    pub(crate) fn switch(
        &self,
        session: &mut Session,
        device: &Device,
        classes: Classes,
    ) -> Result<Offered, UpdateError> {
        let mut record = self.record()?;
        let (Phase::Fetched(offered) | Phase::Staged(offered)) = record.phase.clone() else {
            return Err(UpdateError::NothingFetched);
        };
        let file: ByteBuf = self.file.load()?.unwrap_or_default();
        // What was learnt since the look may have left no place for it.
        let device = Device { feature_space: session.store().feature_space_id(), ..device.clone() };
        let place = match place(&record, &device, &offered) {
            Ok(place) => place,
            Err(why) => {
                self.enter(Phase::Idle)?;
                return Err(UpdateError::NotNow { target: offered.target, why: why.to_string() });
            }
        };
        let layers: Vec<Layer> = self.layers.load()?.unwrap_or_default();
        // The first adapters in use have no layer any more.
        let beneath = (place.beneath + layers.len()).saturating_sub(record.in_use.len());
        let above = layers.get(beneath..).unwrap_or_default();
        let mut ground = session.learner().clone();
        let mut lost = Vec::new();
        for (layer, used) in above.iter().rev().zip(record.in_use.iter().rev()) {
            let back = layer.off(&ground).map_err(|e| kept_wrong(&used.offered, &e))?;
            ground = back.learner;
            lost.extend(back.lost);
        }
        // Counted before it is tried: one that ends the program is not tried for ever.
        let tries = record.try_once(&offered);
        self.record.save(&record)?;
        let staged = match tries {
            ..=TRIES => {
                stage(session, &ground, &offered, &file, above.get(1..).unwrap_or_default())
            }
            _ => Err(Refusal::Bad("the program ended each time while it was tried".to_owned())),
        };
        let Staged { steps, lost: left_behind } = match staged {
            Ok(staged) => staged,
            Err(refusal) => return Err(self.refused(record, &offered, refusal, tries)),
        };
        record.try_anew();
        record.phase = Phase::Staged(offered.clone());
        self.record.save(&record)?;
        lost.extend(left_behind);
        if !lost.is_empty() && classes == Classes::Keep {
            return Err(UpdateError::Loses { target: offered.target, classes: lost });
        }
        fail_point!("update-staged", |_| std::process::abort());
        let mut after = layers[..beneath.min(layers.len())].to_vec();
        let mut before = ground;
        for (file, next) in std::iter::once(&file[..])
            .chain(above.iter().skip(1).map(|layer| &layer.file[..]))
            .zip(steps)
        {
            after.push(Layer::new(file, &before, &next));
            before = next;
        }
        let next = before;
        let replaced = place.replaces.then(|| Replaced {
            by: offered.clone(),
            beneath,
            layers: above.to_vec(),
            in_use: record.in_use.clone(),
            undo: Undo::between(session.learner(), &next),
        });
        after.drain(..after.len().saturating_sub(DEPTH));
        take_place(&mut record, &offered, place, after.len());
        self.write(session, &next, &record, &after, replaced.as_ref())?;
        fail_point!("update-switched", |_| std::process::abort());
        Ok(offered)
    }

    /// Remembers why an adapter is not put to use.
    fn refused(
        &self,
        mut record: Record,
        offered: &Offered,
        refusal: Refusal,
        tries: u32,
    ) -> UpdateError {
        let target = offered.target.clone();
        let error = match refusal {
            Refusal::Failed(error) => {
                record.try_anew();
                error.into()
            }
            Refusal::Perhaps(why) if tries < TRIES => UpdateError::NotNow { target, why },
            Refusal::Perhaps(why) | Refusal::Bad(why) => {
                record.refuse(offered, &why);
                UpdateError::Refused { target, why }
            }
        };
        self.record.save(&record).map_or_else(UpdateError::from, |()| error)
    }
}

/// Enters an adapter that comes into use.
fn take_place(record: &mut Record, offered: &Offered, place: Place, kept: usize) {
    record.forgive(offered);
    record.phase = Phase::Trial { starts: 0 };
    record.kept = kept;
    let used = InUse { offered: offered.clone(), since: clock().as_second() };
    match record.in_use.get_mut(place.beneath) {
        Some(older) if place.replaces => *older = used,
        _ => record.in_use.push(used),
    }
}
