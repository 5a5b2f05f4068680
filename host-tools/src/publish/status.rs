//! `publish status`: prints versions, expiry, keys and adapters.

use std::fmt;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::arguments::StatusArgs;
use super::freshness::{mend, names};
use super::key::short;
use super::offers::{in_json, in_words};
use super::repository::Repository;
use super::role::{ROLES, Role, days_until, now};
use super::together::Together;
use crate::files;

/// Status of a role.
#[derive(Debug, Serialize)]
struct RoleStatus {
    role: Role,
    version: u64,
    expires: String,
    days_left: i64,
    /// Short ids of its keys.
    keys: Vec<String>,
    threshold: u64,
}

/// Prints the status. Returns true if something expires soon or is not signed by the newest keys.
pub(super) fn run(args: &StatusArgs, as_json: bool) -> Result<bool> {
    let repository = Repository::open(&args.repo)?;
    for (name, target) in &repository.targets.signed.targets {
        repository.check_target(name.raw(), target)?;
    }
    let roles = ROLES.map(|role| status_of(&repository, role));
    let is_soon = |status: &RoleStatus| {
        status.days_left < i64::from(args.within.unwrap_or(status.role.soon_days()))
    };
    let soon: Vec<Role> = roles.iter().filter(|s| is_soon(s)).map(|s| s.role).collect();
    let stuck = &repository.unaccepted;
    let folder = args.repo.as_path();
    let targets = &repository.targets.signed;
    let warnings = Together { folder, targets, new: None }.warnings()?;
    let all_is_well = soon.is_empty() && stuck.is_empty();
    let command = mend(&args.repo, &[soon.as_slice(), stuck].concat());
    if as_json {
        files::line(json!({
            "roles": roles, "targets": in_json(&repository.targets.signed)?,
            "expiring": soon, "unaccepted": stuck, "warnings": warnings,
            "mend": (!all_is_well).then_some(command),
        }))?;
        return Ok(!all_is_well);
    }
    for role in &roles {
        files::line(role)?;
    }
    in_words(&repository.targets.signed)?.iter().try_for_each(files::line)?;
    warnings.iter().try_for_each(|warning| files::line(format!("warning: {warning}")))?;
    if !soon.is_empty() {
        files::line(format!("expires soon or has expired: {}", names(&soon)))?;
    }
    if !stuck.is_empty() {
        files::line(format!(
            "not signed by the newest keys, since a rotation was interrupted: {}",
            names(stuck)
        ))?;
    }
    if stuck.contains(&Role::Targets) {
        files::line("the list above is signed by the key before: is it yours?")?;
    }
    if !all_is_well {
        files::line(format!("{command} signs anew"))?;
    }
    Ok(!all_is_well)
}

fn status_of(repository: &Repository, role: Role) -> RoleStatus {
    let (version, expires) = repository.signed(role);
    let keys = repository.root().roles.get(&role.kind());
    RoleStatus {
        role,
        version: version.get(),
        expires: expires.to_string(),
        days_left: days_until(expires, now()),
        keys: keys.map_or_else(Vec::new, |keys| keys.keyids.iter().map(short).collect()),
        threshold: keys.map_or(0, |keys| keys.threshold.get()),
    }
}

impl fmt::Display for RoleStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<10} version {:<4} expires {} ({} days), {} of keys {}",
            self.role.to_string(),
            self.version,
            self.expires,
            self.days_left,
            self.threshold,
            self.keys.join(" ")
        )
    }
}
