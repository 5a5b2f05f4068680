//! Checks of a repository and of the clock before a command signs anything.
//!
//! Metadata of one role is of no use to devices once another role has expired. The timestamp
//! contains the signing time by the local clock: devices take it as the earliest possible present.

use std::path::Path;

use anyhow::{Result, ensure};
use jiff::Timestamp;

use super::repository::Repository;
use super::role::{ROLES, Role, SECONDS_A_DAY};
use super::signing::ISSUED;
use super::warn;

/// Tolerated difference between the clocks of two machines, in seconds.
const TOLERANCE: i64 = 60;

/// The roles that a command is about to sign, and the time.
pub(super) struct Signing<'a> {
    pub(super) repository: &'a Repository,
    /// Roles that are signed now.
    pub(super) roles: &'a [Role],
    pub(super) now: Timestamp,
}

impl Signing<'_> {
    /// Runs all checks, and warns of metadata that expires soon.
    pub(super) fn check(&self) -> Result<()> {
        self.check_clock()?;
        self.check_accepted()?;
        self.check_ends()
    }

    /// Checks that the current timestamp was not signed later than now.
    pub(super) fn check_clock(&self) -> Result<()> {
        let timestamp = &self.repository.timestamp.signed;
        let text = timestamp._extra.get(ISSUED).and_then(|issued| issued.as_str());
        let issued: Option<Timestamp> = text.and_then(|text| text.parse().ok());
        // As on devices: a signing time after the timestamp's own expiry is ignored.
        let Some(issued) = issued.filter(|issued| *issued < timestamp.expires) else {
            return Ok(());
        };
        ensure!(
            self.now.as_second() + TOLERANCE >= issued.as_second(),
            "it is {} by the clock of this machine, but timestamp {} was signed at {issued}: set the clock; if the clock was \
             wrong then, publish rotate timestamp --lost makes devices forget that time",
            seconds(self.now),
            timestamp.version
        );
        Ok(())
    }

    /// Checks that no rotation without the old key was interrupted.
    pub(super) fn check_accepted(&self) -> Result<()> {
        let stuck = &self.repository.unaccepted;
        ensure!(
            stuck.is_empty(),
            "not signed by the newest keys, since a rotation was interrupted: {}; look at what publish status says, then \
             {} signs anew",
            names(stuck),
            mend(self.repository.folder(), stuck)
        );
        Ok(())
    }

    /// Checks that no role outside `roles` has expired, and warns of roles that expire soon.
    pub(super) fn check_ends(&self) -> Result<()> {
        let expired = self.rest_that_ends_within(|_| 0);
        ensure!(expired.is_empty(), self.said_of(&expired));
        self.warn_of_ends();
        Ok(())
    }

    /// Warns of roles outside `roles` that have expired or expire soon.
    pub(super) fn warn_of_ends(&self) {
        let soon = self.rest_that_ends_within(Role::soon_days);
        if !soon.is_empty() {
            warn(&self.said_of(&soon));
        }
    }

    /// Returns the roles that are not signed now and have at most this many days left.
    fn rest_that_ends_within(&self, days: impl Fn(Role) -> u32) -> Vec<Role> {
        let left = |role| self.repository.signed(role).1.as_second() - self.now.as_second();
        let rest = ROLES.into_iter().filter(|role| !self.roles.contains(role));
        rest.filter(|&role| left(role) <= i64::from(days(role)) * SECONDS_A_DAY).collect()
    }

    fn said_of(&self, roles: &[Role]) -> String {
        let one = |&role: &Role| {
            let (version, end) = self.repository.signed(role);
            let verb = if end <= self.now { "expired" } else { "expires" };
            format!("{role} {version} {verb} at {end}")
        };
        let all: Vec<String> = roles.iter().map(one).collect();
        format!(
            "{}, and it is {} by the clock of this machine: {} signs anew",
            all.join(", "),
            seconds(self.now),
            mend(self.repository.folder(), roles)
        )
    }
}

/// Returns the command that signs these roles again.
pub(super) fn mend(folder: &Path, roles: &[Role]) -> String {
    let flag = |role| if roles.contains(&role) { format!(" --{role}") } else { String::new() };
    let flags = flag(Role::Targets) + &flag(Role::Root);
    format!("host-tools publish refresh --repo {}{flags}", folder.display())
}

/// Joins the names of roles by commas.
pub(super) fn names(roles: &[Role]) -> String {
    roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Truncates a time to whole seconds.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
