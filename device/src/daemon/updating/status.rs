//! Status of updates, for the page, for programs and for MQTT brokers.

use std::fmt;

use fmlora_learner::FeatureSpaceId;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::update::{InUse, NotForUs, Phase, Quarantined, Record, Seen, TriedAgain};

/// How updates stand.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct UpdateDto {
    /// Where adapters come from; null if nowhere.
    pub(crate) from: Option<String>,
    pub(crate) channel: String,
    /// Whether what is found is put to use without being asked for.
    pub(crate) automatic: bool,
    /// Seconds between two looks; 0 if only somebody who asks makes it look.
    pub(crate) poll_seconds: u64,
    /// Name of this box in rollouts.
    pub(crate) device: String,
    /// idle, fetched, staged, trial, committed or `rolled_back`.
    pub(crate) phase: &'static str,
    /// Seconds until the adapter on trial stays; they pass only while the camera is open.
    pub(crate) trial_seconds_left: Option<u64>,
    /// Whether the trial waits for the camera.
    pub(crate) trial_waits: bool,
    /// Id of the features that the classes are about: only adapters that begin with them can be used.
    pub(crate) feature_space: String,
    /// Why the last one was refused or taken back.
    pub(crate) why: Option<String>,
    /// Why one that is there is not in use, though it was not refused.
    pub(crate) trouble: Option<String>,
    /// The oldest first.
    pub(crate) in_use: Vec<InUseDto>,
    /// Whether what there was before the last update can be in use again.
    pub(crate) can_roll_back: bool,
    /// Those that were refused or taken back.
    pub(crate) quarantine: Vec<QuarantinedDto>,
    /// The adapter that was meant for this box and is not used: of those of the last look the newest, else the last one in
    /// quarantine.
    pub(crate) last_refusal: Option<RefusalDto>,
    pub(crate) last_look: Option<LastLook>,
    /// When a repository was last believed.
    #[schema(value_type = Option<String>)]
    pub(crate) last_success: Option<Timestamp>,
}

/// The last look at the repository.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct LastLook {
    /// By the clock of the box.
    #[schema(value_type = String)]
    pub(crate) at: Timestamp,
    /// Why nothing of the repository was believed.
    pub(crate) error: Option<String>,
    pub(crate) adapters: Vec<SeenDto>,
}

/// An adapter in the repository.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct SeenDto {
    target: String,
    /// Why it is not for this box; null if it is.
    not_for_us: Option<String>,
    /// Whether it, or a newer release of it, was refused or taken back, so that it is tried only where `again` is asked for.
    quarantined: bool,
    /// Whether it was meant for this box, which cannot use it.
    pub(crate) refused: bool,
}

/// An adapter that was meant for this box and is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct RefusalDto {
    pub(crate) target: String,
    pub(crate) why: String,
}

impl fmt::Display for SeenDto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.not_for_us {
            Some(why) => write!(f, "{} is not used: {why}", self.target),
            None => write!(f, "{} is for this box", self.target),
        }
    }
}

impl fmt::Display for InUseDto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} release {} ({})", self.name, self.release, self.target)?;
        match self.since {
            Some(since) => write!(f, ", since {since}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for QuarantinedDto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused: {}: {}", self.target, self.why)?;
        match self.tried_again {
            Some(at) => write!(f, "; it is tried again from {at} on"),
            None => Ok(()),
        }
    }
}

/// An adapter that is in use.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct InUseDto {
    pub(crate) name: String,
    pub(crate) release: u64,
    target: String,
    #[schema(value_type = Option<String>)]
    since: Option<Timestamp>,
    /// Why its publisher has withdrawn it, though it is in use yet; null if that is not known.
    pub(super) withdrawn: Option<String>,
}

/// An adapter that was refused or taken back.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct QuarantinedDto {
    pub(crate) target: String,
    pub(crate) why: String,
    /// When it is tried again by itself; null is never.
    #[schema(value_type = Option<String>)]
    tried_again: Option<Timestamp>,
}

impl InUseDto {
    /// Returns true if the adapter has this target.
    pub(super) fn is(&self, target: &str) -> bool {
        self.target == target
    }

    /// Builds the entry from the stored record.
    pub(crate) fn of(used: InUse) -> Self {
        Self {
            name: used.offered.offer.name.to_string(),
            release: used.offered.offer.release,
            target: used.offered.target,
            since: Timestamp::from_second(used.since).ok(),
            withdrawn: None,
        }
    }
}

impl QuarantinedDto {
    /// Builds the entries from the stored quarantine and the times of new tries.
    pub(crate) fn all(refused: Vec<Quarantined>, until: Vec<TriedAgain>) -> Vec<Self> {
        let one = |(refused, tried_again): (Quarantined, TriedAgain)| Self {
            target: refused.name,
            why: refused.why,
            tried_again,
        };
        refused.into_iter().zip(until).map(one).collect()
    }
}

impl UpdateDto {
    /// Builds the stored part of the status; the caller fills in the rest.
    pub(super) fn of(record: Record, until: Vec<TriedAgain>, features: FeatureSpaceId) -> Self {
        let Record { device, phase, in_use, can_roll_back, quarantine, .. } = record;
        let used = in_use.into_iter().map(InUseDto::of);
        let quarantine = QuarantinedDto::all(quarantine, until);
        let last_refusal = quarantine
            .last()
            .map(|last| RefusalDto { target: last.target.clone(), why: last.why.clone() });
        Self {
            from: None,
            channel: String::new(),
            automatic: false,
            poll_seconds: 0,
            device,
            phase: phase.name(),
            trial_seconds_left: None,
            trial_waits: false,
            feature_space: features.to_string(),
            why: match phase {
                Phase::RolledBack { why } => Some(why),
                _ => None,
            },
            trouble: None,
            in_use: used.collect(),
            can_roll_back,
            quarantine,
            last_refusal,
            last_look: None,
            last_success: None,
        }
    }
}

impl LastLook {
    /// Returns the adapter of the largest release that was meant for this box, which cannot use it.
    pub(super) fn refusal(&self) -> Option<RefusalDto> {
        let last = self.adapters.iter().rev().find(|adapter| adapter.refused)?;
        let why = last.not_for_us.clone()?;
        let target = last.target.clone();
        Some(RefusalDto { target, why })
    }
}

impl SeenDto {
    pub(super) fn of((target, offered): &Seen) -> Self {
        let target = target.clone();
        let mut seen = Self { target, not_for_us: None, quarantined: false, refused: false };
        if let Err(why) = offered {
            seen.is_not_for_us(why);
        }
        seen
    }

    /// Returns true if the adapter has this target.
    pub(super) fn is(&self, target: &str) -> bool {
        self.target == target
    }

    /// Sets the reason why the adapter is not for this box.
    pub(super) fn is_not_for_us(&mut self, why: &NotForUs) {
        self.quarantined = matches!(why, NotForUs::Quarantined(_) | NotForUs::NewerTakenBack(_));
        self.refused = why.is_refusal();
        self.not_for_us = Some(why.to_string());
    }
}
