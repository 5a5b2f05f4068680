//! `publish init`: keys, the first root, and a repository without targets.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;
use tough::schema::Root;

use super::arguments::InitArgs;
use super::key::SigningKey;
use super::key_ring::KeyRing;
use super::plan::{Plan, make_folder};
use super::repository::{Lock, Repository, metadata, read_roots};
use super::role::{Lifetimes, ROLES, ROOT_KEYS, Role};
use super::signing::{self, Signer, Versions};
use crate::files;

pub(super) fn run(args: &InitArgs, as_json: bool) -> Result<()> {
    let folder = args.repo.repo.as_path();
    if metadata(folder, "timestamp.json").exists() {
        return made_before(args, as_json);
    }
    let mut lock = None;
    if !args.repo.dry_run {
        make_folder(folder)?;
        lock = Some(Lock::take(folder)?);
    }
    let (ring, lifetimes) = (KeyRing::new(&args.keys)?, Lifetimes::new(&args.repo.expires));
    let mut plan = Plan::default();
    // A start that ended early may have left a root; somebody may have given it to devices since.
    let left = read_roots(folder)?;
    let (root, keys) = match left.first() {
        Some(root) => (root.signed.clone(), all_keys(&ring, &root.signed)?),
        None => new_root(&ring, &lifetimes, &mut plan)?,
    };
    let signer = Signer { root: root.clone(), before: None, keys };
    if left.is_empty() {
        signing::add_root(&mut plan, folder, &signer, &root)?;
    }
    let targets = signing::no_targets(&lifetimes)?;
    let about = signing::add_targets(&mut plan, folder, &signer, &targets)?;
    let first = Versions { snapshot: NonZeroU64::MIN, timestamp: NonZeroU64::MIN };
    signing::add_snapshot_and_timestamp(&mut plan, folder, &signer, about, &first, &lifetimes)?;
    let done = plan.carry_out(args.repo.dry_run)?;
    drop(lock);
    done.print(as_json, json!({ "root": metadata(folder, "1.root.json").display().to_string() }))?;
    if !as_json && !args.repo.dry_run {
        files::line(format!(
            "devices trust {}: give it to them by a way of your own; take the root keys offline",
            metadata(folder, "1.root.json").display()
        ))?;
    }
    Ok(())
}

/// A repository to which nothing has been added is what `init` makes: all is well, if its keys are at hand.
fn made_before(args: &InitArgs, as_json: bool) -> Result<()> {
    let folder = args.repo.repo.as_path();
    let repository = Repository::open(folder)?;
    ensure!(
        repository.timestamp.signed.version == NonZeroU64::MIN,
        "{}: there is a repository already, in use",
        folder.display()
    );
    all_keys(&KeyRing::new(&args.keys)?, repository.root())?;
    let root = metadata(folder, "1.root.json").display().to_string();
    if as_json {
        return files::line(json!({ "files": [], "root": root, "made_before": true }));
    }
    files::line(format!("{} was made before, with these keys", folder.display()))
}

/// The keys of every role.
fn all_keys(ring: &KeyRing, root: &Root) -> Result<Vec<SigningKey>> {
    let others = ROLES.iter().filter(|role| **role != Role::Root);
    let keys: Result<Vec<Vec<SigningKey>>> = others.map(|&role| ring.of_role(root, role)).collect();
    Ok(keys?.concat())
}

/// New keys, or those that were named, and a root of them.
fn new_root(
    ring: &KeyRing,
    lifetimes: &Lifetimes,
    plan: &mut Plan,
) -> Result<(Root, Vec<SigningKey>)> {
    let mut keys: Vec<(Role, SigningKey)> = Vec::new();
    let mut used: BTreeSet<Vec<u8>> = BTreeSet::new();
    for role in ROLES {
        let (named, n) = (ring.named(role), if role == Role::Root { ROOT_KEYS } else { 1 });
        ensure!(
            named.is_empty() || named.len() == n,
            "{} keys of {role} are named, expected {n} or none",
            named.len()
        );
        for i in 0..n {
            let at: Option<&Path> = named.get(i).copied();
            let key = ring.new_key(role, at, &used, plan)?;
            ensure!(used.insert(key.id().to_vec()), "one key is named for two roles, or twice");
            keys.push((role, key));
        }
    }
    let root = signing::root(NonZeroU64::MIN, &keys, lifetimes)?;
    Ok((root, keys.into_iter().map(|(_, key)| key).collect()))
}
