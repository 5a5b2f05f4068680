//! `publish status`: versions, expiry, keys and adapters.

use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use tough::schema::Role as _;

use super::arguments::StatusArgs;
use super::key::short;
use super::offers::{Published, published};
use super::repository::Repository;
use super::role::{ROLES, Role, days_until};
use crate::files;

/// What there is to know of a role.
#[derive(Debug, Serialize)]
struct RoleStatus {
    role: String,
    version: u64,
    expires: String,
    days_left: i64,
    /// Ids of its keys, their beginning.
    keys: Vec<String>,
    threshold: u64,
}

/// Prints everything; says whether something expires soon.
pub(super) fn run(args: &StatusArgs, as_json: bool) -> Result<bool> {
    let repository = Repository::open(&args.repo)?;
    for (name, target) in &repository.targets.signed.targets {
        repository.check_target(name.raw(), target)?;
    }
    let roles = ROLES.map(|role| status_of(&repository, role));
    let adapters = published(&repository.targets.signed)?;
    let soon: Vec<&RoleStatus> =
        roles.iter().filter(|role| role.days_left < i64::from(args.within)).collect();
    let names: Vec<&str> = soon.iter().map(|role| role.role.as_str()).collect();
    let stuck: Vec<String> = repository.unaccepted.iter().map(ToString::to_string).collect();
    if as_json {
        let target =
            |p: &Published| json!({ "target": p.target, "bytes": p.length, "custom": p.offer });
        files::line(json!({
            "roles": roles, "targets": adapters.iter().map(target).collect::<Vec<_>>(),
            "expiring": names, "unaccepted": stuck,
        }))?;
        return Ok(!soon.is_empty() || !stuck.is_empty());
    }
    for role in &roles {
        files::line(format!(
            "{:<10} version {:<4} expires {} ({} days), {} of keys {}",
            role.role,
            role.version,
            role.expires,
            role.days_left,
            role.threshold,
            role.keys.join(" ")
        ))?;
    }
    for Published { target, offer, length } in &adapters {
        files::line(format!(
            "  {target}: {} release {}, channel {}, {} %, {length} bytes, base {:.8}…, features {:.8}… -> {:.8}…, daemon {} or later",
            offer.name,
            offer.release,
            offer.channel,
            offer.rollout.percent,
            offer.base_id.to_string(),
            offer.feature_space_before.to_string(),
            offer.feature_space_after.to_string(),
            offer.min_daemon
        ))?;
    }
    if adapters.is_empty() {
        files::line("  no adapter is published")?;
    }
    if !names.is_empty() {
        files::line(format!("soon expired: {}; publish refresh signs anew", names.join(", ")))?;
    }
    if !stuck.is_empty() {
        files::line(format!(
            "not signed by the newest keys: {}; publish refresh mends it",
            stuck.join(", ")
        ))?;
    }
    Ok(!soon.is_empty() || !stuck.is_empty())
}

fn status_of(repository: &Repository, role: Role) -> RoleStatus {
    let (version, expires) = match role {
        Role::Root => (repository.root().version, repository.root().expires()),
        Role::Targets => (repository.targets.signed.version, repository.targets.signed.expires),
        Role::Snapshot => (repository.snapshot.signed.version, repository.snapshot.signed.expires),
        Role::Timestamp => {
            (repository.timestamp.signed.version, repository.timestamp.signed.expires)
        }
    };
    let keys = repository.root().roles.get(&role.kind());
    RoleStatus {
        role: role.to_string(),
        version: version.get(),
        expires: expires.to_string(),
        days_left: days_until(expires),
        keys: keys.map_or_else(Vec::new, |keys| keys.keyids.iter().map(short).collect()),
        threshold: keys.map_or(0, |keys| keys.threshold.get()),
    }
}
