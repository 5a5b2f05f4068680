//! Over-the-air adapters: looked for, fetched, tried, put to use, and taken back.
//!
//! idle -> fetched -> staged -> trial -> committed, or rolled back. Each step is one transaction of the store, so that
//! after a power cut the old adapters or the new ones are whole and in use, never something between. Whatever comes from
//! a repository is believed only after [`trust`] and `decode_adapter` have looked at it.

mod difference;
mod download;
mod error;
mod layers;
mod location;
mod offer;
mod place;
mod record;
mod settings;
mod staging;
mod transport;
mod trust;

use std::path::PathBuf;

use fail::fail_point;
use fmlora_learner::Learner;
use jiff::Timestamp;
use serde_bytes::{ByteBuf, Bytes};

pub(crate) use download::DownloadError;
pub(crate) use error::UpdateError;
pub(crate) use location::Location;
pub(crate) use offer::{Device, NotForUs, Offered, Seen};
pub(crate) use record::{Phase, Record};
pub(crate) use settings::{Settings, read_root};
pub(crate) use trust::{TrustError, Trusted};

use layers::{DEPTH, Layer, LayerError, Replaced, Undo, Way};
use place::{Place, place};
use record::InUse;
use staging::{Refusal, Staged, stage};

use crate::report::with_causes;
use crate::store::Record as Kept;
use crate::{Session, StoreError};

/// What a look at a repository brought.
#[derive(Debug)]
pub(crate) struct Look {
    /// Everything there, and why it is not for this device.
    pub(crate) seen: Vec<Seen>,
    /// What is to be fetched.
    pub(crate) choice: Option<Offered>,
}

/// Whether classes that an adapter cannot take over may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Classes {
    Keep,
    /// The operator said so, or the box does not work otherwise.
    MayBeLost,
}

/// The part of the store that is about updates.
///
/// | key of `meta` | value |
/// |---|---|
/// | `update` | postcard [`Record`] |
/// | `update-trusted` | postcard `Trusted`: root, versions and time of the repository |
/// | `update-file` | the adapter that was fetched, until it is in use |
/// | `update-layers` | postcard `[Layer]`: adapters in use that can be taken out, the newest last |
/// | `update-replaced` | postcard `Option<Replaced>`: what the last switch took the place of |
#[derive(Clone)]
pub(crate) struct Updates {
    record: Kept,
    trusted: Kept,
    file: Kept,
    layers: Kept,
    replaced: Kept,
    /// Where a file that has not come whole waits for its rest.
    state: PathBuf,
}

impl Updates {
    /// Of a session's store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] if it was not opened to be written.
    pub(crate) fn of(session: &Session) -> Result<Self, StoreError> {
        let store = session.store();
        Ok(Self {
            record: store.record("update")?,
            trusted: store.record("update-trusted")?,
            file: store.record("update-file")?,
            layers: store.record("update-layers")?,
            replaced: store.record("update-replaced")?,
            state: store.path().parent().map(PathBuf::from).unwrap_or_default(),
        })
    }

    /// What is remembered; made at the first call.
    pub(crate) fn record(&self) -> Result<Record, StoreError> {
        if let Some(record) = self.record.load()? {
            return Ok(record);
        }
        let record = Record::new();
        self.record.save(&record)?;
        Ok(record)
    }

    fn enter(&self, phase: Phase) -> Result<(), StoreError> {
        let record = Record { phase, ..self.record()? };
        self.record.save(&record)
    }

    /// Looks at a repository, and chooses the adapter that is for this device.
    ///
    /// # Errors
    ///
    /// [`UpdateError::NoRoot`], [`UpdateError::Trust`], [`UpdateError::Store`].
    pub(crate) async fn look(
        &self,
        settings: &Settings,
        device: &Device,
        clock: Timestamp,
    ) -> Result<Look, UpdateError> {
        let kept: Option<Trusted> = self.trusted.load()?;
        let mut trusted = match (kept.clone(), &settings.root) {
            (Some(kept), Some(root)) if !kept.began_with(root) => kept.renewed(root.clone())?,
            (Some(kept), _) => kept,
            (None, Some(root)) => Trusted::new(root.clone())?,
            (None, None) => return Err(UpdateError::NoRoot),
        };
        let loaded = trusted.load(&settings.from, clock).await;
        // A newer root stays trusted, whatever else was wrong.
        if kept.as_ref() != Some(&trusted) {
            self.trusted.save(&trusted)?;
        }
        let record = self.record()?;
        let suits = |offered: Offered| {
            place(&record, device, &offered)?;
            match record.quarantined(&offered.sha256) {
                Some(why) if !settings.again => Err(NotForUs::Quarantined(why.to_owned())),
                _ => Ok(offered),
            }
        };
        let targets = offer::targets(&loaded?).into_iter();
        let mut seen: Vec<Seen> =
            targets.map(|(name, offered)| (name, offered.and_then(suits))).collect();
        let choice = offer::choose(&mut seen);
        Ok(Look { seen, choice })
    }

    /// Fetches an adapter and keeps it. May take as long as the line does.
    ///
    /// # Errors
    ///
    /// [`UpdateError::OnTrial`], [`UpdateError::Download`], [`UpdateError::Store`].
    pub(crate) fn fetch(&self, from: &Location, offered: &Offered) -> Result<(), UpdateError> {
        match self.record()?.phase {
            Phase::Trial { .. } => return Err(UpdateError::OnTrial),
            // It came before, and was not put to use for some reason.
            Phase::Fetched(before) | Phase::Staged(before) if before == *offered => return Ok(()),
            _ => {}
        }
        let file = download::download(from, offered, &self.state)?;
        fail_point!("update-downloaded", |_| std::process::abort());
        self.file.save(&Bytes::new(&file))?;
        fail_point!("update-kept", |_| std::process::abort());
        self.enter(Phase::Fetched(offered.clone()))?;
        fail_point!("update-fetched", |_| std::process::abort());
        Ok(())
    }

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
        let staged = stage(session, &ground, &offered, &file, above.get(1..).unwrap_or_default());
        let Staged { steps, lost: left_behind } = match staged {
            Ok(staged) => staged,
            Err(refusal) => return Err(self.refused(record, offered, refusal)),
        };
        lost.extend(left_behind);
        if !lost.is_empty() && classes == Classes::Keep {
            return Err(UpdateError::Loses { target: offered.target, classes: lost });
        }
        self.enter(Phase::Staged(offered.clone()))?;
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
    fn refused(&self, mut record: Record, offered: Offered, refusal: Refusal) -> UpdateError {
        let target = offered.target.clone();
        let (why, for_good) = match refusal {
            Refusal::Failed(error) => return error.into(),
            Refusal::Bad(why) => (why, true),
            Refusal::Perhaps(why) => (why, record.doubt(&offered)),
        };
        if for_good {
            record.refuse(&offered, &why);
        }
        match self.record.save(&record) {
            Err(error) => error.into(),
            Ok(()) if for_good => UpdateError::Refused { target, why },
            Ok(()) => UpdateError::NotNow { target, why },
        }
    }

    /// Writes what is known next, and all about updates, in one transaction.
    fn write(
        &self,
        session: &mut Session,
        next: &Learner,
        record: &Record,
        layers: &[Layer],
        replaced: Option<&Replaced>,
    ) -> Result<(), UpdateError> {
        let values = [
            self.record.value(record)?,
            self.layers.value(&layers)?,
            self.replaced.value(&replaced)?,
            self.file.value(&Bytes::new(&[]))?,
        ];
        session.switch(&difference::difference(session.learner(), next), &values)?;
        Ok(())
    }

    /// The adapter on trial has proved itself.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Store`].
    pub(crate) fn commit(&self) -> Result<(), UpdateError> {
        if matches!(self.record()?.phase, Phase::Trial { .. }) {
            self.enter(Phase::Committed)?;
            fail_point!("update-committed", |_| std::process::abort());
        }
        Ok(())
    }

    /// Takes the adapter that came last out of use, in one transaction, and does not try it again by itself. What it took
    /// the place of is in use again.
    ///
    /// # Errors
    ///
    /// [`UpdateError::NothingInUse`]; [`UpdateError::Overgrown`] if a task was learnt since that changed the network;
    /// [`UpdateError::Loses`] unless classes may be lost; others too leave it in use.
    pub(crate) fn roll_back(
        &self,
        session: &mut Session,
        why: &str,
        classes: Classes,
    ) -> Result<Offered, UpdateError> {
        let mut record = self.record()?;
        let mut layers: Vec<Layer> = self.layers.load()?.unwrap_or_default();
        let replaced: Option<Replaced> = self.replaced.load()?.flatten();
        let (Some(top), Some(uppermost)) = (record.in_use.last(), layers.last()) else {
            return Err(UpdateError::NothingInUse);
        };
        let offered = replaced.as_ref().map_or(&top.offered, |replaced| &replaced.by).clone();
        if top.offered.offer.feature_space_after != session.store().feature_space_id() {
            return Err(UpdateError::Overgrown { target: offered.target });
        }
        let now = session.learner();
        let back = match &replaced {
            None => uppermost.off(now),
            Some(replaced) => {
                let since = layers.iter().skip(replaced.beneath).rev();
                Way::new(since, &replaced.layers).and_then(|way| replaced.undo.apply(now, &way))
            }
        };
        let back = back.map_err(|error| kept_wrong(&offered, &error))?;
        if !back.lost.is_empty() && classes == Classes::Keep {
            return Err(UpdateError::Loses { target: offered.target, classes: back.lost });
        }
        match replaced {
            None => {
                layers.pop();
                record.in_use.pop();
            }
            Some(replaced) => {
                layers.truncate(replaced.beneath);
                layers.extend(replaced.layers);
                record.in_use = replaced.in_use;
            }
        }
        record.kept = layers.len();
        record.refuse(&offered, why);
        fail_point!("update-rolling-back", |_| std::process::abort());
        self.write(session, &back.learner, &record, &layers, None)?;
        fail_point!("update-rolled-back", |_| std::process::abort());
        Ok(offered)
    }

    /// Counts a start of the program. An adapter that is on trial at the second start is rolled back: the first could be
    /// a power cut. Gives what was rolled back.
    ///
    /// # Errors
    ///
    /// Those of [`Updates::roll_back`].
    pub(crate) fn started(&self, session: &mut Session) -> Result<Option<Offered>, UpdateError> {
        let Phase::Trial { starts } = self.record()?.phase else { return Ok(None) };
        if starts == 0 {
            self.enter(Phase::Trial { starts: 1 })?;
            return Ok(None);
        }
        let why = "the program was started twice while it was on trial";
        match self.roll_back(session, why, Classes::MayBeLost) {
            // Somebody has built on it: it cannot be so bad.
            Err(UpdateError::Overgrown { .. }) => self.commit().map(|()| None),
            rolled_back => rolled_back.map(Some),
        }
    }
}

/// The time by the clock of the box, or what a test says.
pub(crate) fn clock() -> Timestamp {
    fail_point!("update-clock", |time| {
        time.and_then(|time| time.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
    });
    Timestamp::now()
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

fn kept_wrong(offered: &Offered, error: &LayerError) -> UpdateError {
    UpdateError::Kept { target: offered.target.clone(), why: with_causes(error) }
}
