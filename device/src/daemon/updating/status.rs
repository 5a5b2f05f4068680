//! How updates stand, as the page, programs and brokers are told.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::update::{NotForUs, Phase, Record, Seen};

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
    /// Why the last one was refused or taken back.
    pub(crate) why: Option<String>,
    /// Why one that is there is not in use, though it was not refused.
    pub(crate) trouble: Option<String>,
    /// The oldest first.
    pub(crate) in_use: Vec<InUseDto>,
    /// Whether what there was before the last update can be in use again.
    pub(crate) can_roll_back: bool,
    /// Those that are not tried again by themselves.
    pub(crate) quarantine: Vec<QuarantinedDto>,
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
}

/// An adapter that is in use.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct InUseDto {
    pub(crate) name: String,
    pub(crate) release: u64,
    target: String,
    #[schema(value_type = Option<String>)]
    since: Option<Timestamp>,
}

/// An adapter that is not tried again by itself.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct QuarantinedDto {
    pub(crate) target: String,
    pub(crate) why: String,
}

impl UpdateDto {
    /// What the store remembers; the rest is to be filled in.
    pub(super) fn of(record: Record) -> Self {
        let Record { device, phase, in_use, can_roll_back, quarantine, .. } = record;
        let used = in_use.into_iter().map(|used| InUseDto {
            name: used.offered.offer.name.to_string(),
            release: used.offered.offer.release,
            target: used.offered.target,
            since: Timestamp::from_second(used.since).ok(),
        });
        let refused = quarantine
            .into_iter()
            .map(|refused| QuarantinedDto { target: refused.name, why: refused.why });
        Self {
            from: None,
            channel: String::new(),
            automatic: false,
            poll_seconds: 0,
            device,
            phase: phase.name(),
            trial_seconds_left: None,
            trial_waits: false,
            why: match phase {
                Phase::RolledBack { why } => Some(why),
                _ => None,
            },
            trouble: None,
            in_use: used.collect(),
            can_roll_back,
            quarantine: refused.collect(),
            last_look: None,
            last_success: None,
        }
    }
}

impl SeenDto {
    pub(super) fn of((target, offered): &Seen) -> Self {
        let mut seen = Self { target: target.clone(), not_for_us: None, quarantined: false };
        if let Err(why) = offered {
            seen.is_not_for_us(why);
        }
        seen
    }

    /// Whether it is that one.
    pub(super) fn is(&self, target: &str) -> bool {
        self.target == target
    }

    /// Takes over why it is not for this box.
    pub(super) fn is_not_for_us(&mut self, why: &NotForUs) {
        self.quarantined = matches!(why, NotForUs::Quarantined(_) | NotForUs::NewerTakenBack(_));
        self.not_for_us = Some(why.to_string());
    }
}
