//! Roles of a repository, and the lifetimes of their metadata.

use std::fmt;
use std::num::NonZeroU64;

use anyhow::{Context, Result};
use clap::ValueEnum;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tough::schema::RoleType;

use super::arguments::RoleDays;

/// Who signs what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Role {
    /// Says whose keys count; two of its three keys sign, and they are kept offline
    Root,
    /// Says which adapters there are
    Targets,
    /// Says which list of adapters is the newest
    Snapshot,
    /// Says every few days that nothing newer is held back
    Timestamp,
}

/// All roles, in the order of trust.
pub(super) const ROLES: [Role; 4] = [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp];

/// Number of keys of the root role.
pub(super) const ROOT_KEYS: usize = 3;
/// Number of keys of the root role that must sign.
pub(super) const ROOT_THRESHOLD: u64 = 2;

pub(super) const SECONDS_A_DAY: i64 = 24 * 60 * 60;

impl Role {
    /// Returns the role of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        ROLES.into_iter().find(|role| role.to_string() == name)
    }

    /// Returns tough's type for the role.
    pub(super) fn kind(self) -> RoleType {
        match self {
            Self::Root => RoleType::Root,
            Self::Targets => RoleType::Targets,
            Self::Snapshot => RoleType::Snapshot,
            Self::Timestamp => RoleType::Timestamp,
        }
    }

    /// Returns the number of signatures that its metadata needs.
    pub(super) fn threshold(self) -> NonZeroU64 {
        NonZeroU64::new(if self == Self::Root { ROOT_THRESHOLD } else { 1 })
            .unwrap_or(NonZeroU64::MIN)
    }

    /// Returns the default lifetime of its metadata in days.
    fn days(self) -> u32 {
        match self {
            Self::Root => 365,
            Self::Targets => 90,
            Self::Snapshot => 14,
            Self::Timestamp => 7,
        }
    }

    /// Returns the number of days before expiry from which on a warning is given. Offline keys get
    /// more days, because they take longer to collect.
    pub(super) fn soon_days(self) -> u32 {
        match self {
            Self::Root => 30,
            Self::Targets => 14,
            Self::Snapshot | Self::Timestamp => 2,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        })
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Expiry times of metadata that is signed now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetimes {
    now: Timestamp,
    days: [u32; ROLES.len()],
}

impl Lifetimes {
    /// Creates lifetimes that begin now, with the requested or the default number of days.
    pub(super) fn new(asked: &[RoleDays]) -> Self {
        let days = ROLES.map(|role| {
            let last = asked.iter().rev().find(|asked| asked.role == role);
            last.map_or(role.days(), |asked| asked.days)
        });
        Self { now: now(), days }
    }

    /// Returns the current time by the clock of this machine.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns the expiry time of a role, in whole seconds.
    pub(super) fn of(&self, role: Role) -> Result<Timestamp> {
        let days = i64::from(self.days[role as usize]);
        let second = self.now.as_second() + days * SECONDS_A_DAY;
        Timestamp::from_second(second).context("the clock of this machine is out of all bounds")
    }
}

/// Returns the whole days from `now` until `then`, rounded down; negative if `then` is past.
pub(super) fn days_until(then: Timestamp, now: Timestamp) -> i64 {
    (then.as_second() - now.as_second()).div_euclid(SECONDS_A_DAY)
}

/// Returns the current time. Tests shift it by a number of seconds.
pub(super) fn now() -> Timestamp {
    fail::fail_point!("publish-clock", |seconds| {
        let wrong = seconds.and_then(|seconds| seconds.parse::<i64>().ok()).unwrap_or(0);
        let second = Timestamp::now().as_second() + wrong;
        Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
    });
    Timestamp::now()
}
