//! `publish init`: creates keys, the first root, and a repository without targets.

use std::num::NonZeroU64;

use anyhow::{Result, ensure};
use serde_json::json;
use tough::schema::Root;

use super::arguments::InitArgs;
use super::key::SigningKey;
use super::key_ring::KeyRing;
use super::keys_of;
use super::lock::Lock;
use super::new_keys::NewKeys;
use super::plan::Plan;
use super::repository::{Repository, metadata};
use super::role::{Lifetimes, ROLES, ROOT_KEYS, Role};
use super::roots::{check_beginning, known_keys, read_roots};
use super::signing::{self, Signer, Versions};
use super::writing::make_folder;

/// Roles below the root that sign an empty repository.
const BELOW_ROOT: [Role; 3] = [Role::Targets, Role::Snapshot, Role::Timestamp];

pub(super) fn run(args: &InitArgs, as_json: bool) -> Result<()> {
    let folder = args.repo.repo.as_path();
    if !args.repo.dry_run {
        make_folder(folder)?;
    }
    // A dry run does not create the folder, so it may be missing.
    let _lock = folder.is_dir().then(|| Lock::take(folder, args.repo.dry_run)).transpose()?;
    let ring = KeyRing::for_init(&args.keys)?;
    let root_path = metadata(folder, "1.root.json").display().to_string();
    if metadata(folder, "timestamp.json").exists() {
        let done = made_before(args, &ring)?.carry_out(args.repo.dry_run)?;
        let line = format!("{} was made before, with these keys", folder.display());
        return done.print(as_json, json!({ "root": root_path, "made_before": true }), &[line]);
    }
    let done = new_repository(args, &ring)?.carry_out(args.repo.dry_run)?;
    let mut lines = Vec::new();
    if !args.repo.dry_run {
        lines.push(format!(
            "devices trust {root_path}: give it to them by a way of your own; take the root keys offline"
        ));
    }
    done.print(as_json, json!({ "root": root_path }), &lines)
}

/// Accepts an existing repository if nothing has been added to it and its keys are at hand: it
/// equals the result of `init`.
fn made_before(args: &InitArgs, ring: &KeyRing) -> Result<Plan> {
    let folder = args.repo.repo.as_path();
    let repository = Repository::open(folder)?;
    ensure!(
        repository.timestamp.signed.version == NonZeroU64::MIN,
        "{}: there is a repository already, in use",
        folder.display()
    );
    keys_of(ring, repository.root(), &BELOW_ROOT)?;
    let (_, last) = NewKeys::new(ring, folder, repository.known_keys())?.steps();
    Ok(last)
}

/// Plans keys, a root of them, and an empty list; after an interrupted `init`, only the missing
/// ones.
fn new_repository(args: &InitArgs, ring: &KeyRing) -> Result<Plan> {
    let folder = args.repo.repo.as_path();
    let lifetimes = Lifetimes::new(&args.repo.expires);
    let left = read_roots(folder)?;
    check_beginning(folder, &left)?;
    let mut new_keys = NewKeys::new(ring, folder, known_keys(&left))?;
    // The root of an interrupted `init` is kept: devices may trust it already.
    let (root, keys) = match left.first() {
        Some(root) => (root.signed.clone(), keys_of(ring, &root.signed, &BELOW_ROOT)?),
        None => new_root(ring, &mut new_keys, &lifetimes)?,
    };
    let (mut plan, last) = new_keys.steps();
    let signer = Signer { root: root.clone(), before: None, keys };
    if left.is_empty() {
        signing::add_root(&mut plan, folder, &signer, &root)?;
    }
    let targets = signing::no_targets(&lifetimes)?;
    let about = signing::add_targets(&mut plan, folder, &signer, &targets)?;
    let first = Versions { snapshot: NonZeroU64::MIN, timestamp: NonZeroU64::MIN };
    signing::add_snapshot_and_timestamp(&mut plan, folder, &signer, about, &first, &lifetimes)?;
    plan.append(last);
    Ok(plan)
}

/// Creates a root of new or named keys. Returns the root and its keys.
fn new_root(
    ring: &KeyRing,
    new_keys: &mut NewKeys<'_>,
    lifetimes: &Lifetimes,
) -> Result<(Root, Vec<SigningKey>)> {
    let mut keys: Vec<(Role, SigningKey)> = Vec::new();
    for role in ROLES {
        let named = ring.named(role);
        let n = if role == Role::Root { ROOT_KEYS } else { 1 };
        ensure!(
            named.is_empty() || named.len() == n,
            "{} keys of {role} are named, expected {n} or none",
            named.len()
        );
        for i in 0..n {
            keys.push((role, new_keys.key(role, named.get(i).copied())?));
        }
    }
    let root = signing::root(NonZeroU64::MIN, &keys, lifetimes)?;
    Ok((root, keys.into_iter().map(|(_, key)| key).collect()))
}
