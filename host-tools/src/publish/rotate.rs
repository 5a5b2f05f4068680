//! `publish rotate`: a role gets another key.
//!
//! Devices learn of a new key by the next root. Everything that the role signs is written before, signed by the old key and
//! by the new one: a device accepts it whichever root it knows, wherever the command ends. If the old
//! key may not sign any more (`--lost`), the root comes first, and devices find no update until the rest is written.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tough::schema::Root;

use super::arguments::RotateArgs;
use super::key::{SigningKey, short};
use super::key_ring::KeyRing;
use super::keys_of;
use super::plan::Plan;
use super::repository::{Lock, Repository, next};
use super::role::{Lifetimes, Role};
use super::signing::{Signer, add_root, next_state};

pub(super) fn run(args: &RotateArgs, as_json: bool) -> Result<()> {
    let _lock = Lock::take(&args.repo.repo)?;
    let repository = Repository::open(&args.repo.repo)?;
    let (ring, lifetimes) = (KeyRing::new(&args.keys)?, Lifetimes::new(&args.repo.expires));
    let mut plan = Plan::default();
    let (root, new) = next_root(&repository, &ring, args, &lifetimes, &mut plan)?;
    let old = repository.root().clone();
    let mut keys = keys_of(&ring, &old, &[Role::Root])?;
    keys.extend(new.iter().cloned());
    let root_signer = Signer { root: root.clone(), before: Some(old.clone()), keys: keys.clone() };
    let mut of_root = Plan::default();
    add_root(&mut of_root, &args.repo.repo, &root_signer, &root)?;
    if args.role == Role::Root {
        plan.append(of_root);
    } else {
        let both = !args.lost;
        for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
            let signs = role != Role::Targets || args.role == Role::Targets;
            if signs && (role != args.role || both) {
                keys.extend(keys_of(&ring, &old, &[role])?);
            }
        }
        let signer = Signer { root, before: both.then_some(old), keys };
        let list = (args.role == Role::Targets).then(|| repository.targets.signed.clone());
        let of_others = next_state(&repository, &signer, list, &lifetimes)?;
        let (first, then) = if both { (of_others, of_root) } else { (of_root, of_others) };
        plan.append(first);
        plan.append(then);
    }
    let ids: Vec<String> = new.iter().map(SigningKey::short_id).collect();
    let done = plan.carry_out(args.repo.dry_run)?;
    done.print(as_json, json!({ "role": args.role.to_string(), "new_keys": ids }))
}

/// The root after, and the new keys in it.
fn next_root(
    repository: &Repository,
    ring: &KeyRing,
    args: &RotateArgs,
    lifetimes: &Lifetimes,
    plan: &mut Plan,
) -> Result<(Root, Vec<SigningKey>)> {
    let (old, role) = (repository.root(), args.role);
    let mut root = old.clone();
    root.version = next(old.version)?;
    root.expires = lifetimes.of(Role::Root)?;
    let of_role = root.roles.get_mut(&role.kind());
    let of_role = of_role.with_context(|| format!("the root names no keys of {role}"))?;
    let gone = |id: &str| args.replace.is_empty() || args.replace.iter().any(|r| id.starts_with(r));
    let places: Vec<usize> =
        (0..of_role.keyids.len()).filter(|&i| gone(&short(&of_role.keyids[i]))).collect();
    ensure!(
        !places.is_empty() && (args.replace.is_empty() || places.len() == args.replace.len()),
        "--replace {}: the keys of {role} are {}",
        args.replace.join(" --replace "),
        of_role.keyids.iter().map(short).collect::<Vec<_>>().join(", ")
    );
    ensure!(
        args.new_key.is_empty() || args.new_key.len() == places.len(),
        "{} new keys are named, {} are replaced",
        args.new_key.len(),
        places.len()
    );
    let mut used = repository.known_keys();
    let mut new = Vec::new();
    for (i, &place) in places.iter().enumerate() {
        let at = args.new_key.get(i).map(std::path::PathBuf::as_path);
        let key = ring.new_key(role, at, &used, plan)?;
        ensure!(
            used.insert(key.id().to_vec()),
            "key {} is or was in a root; a new one is expected",
            key.short_id()
        );
        of_role.keyids[place] = key.id().clone();
        new.push(key);
    }
    root.keys.extend(new.iter().map(|key| (key.id().clone(), key.public().clone())));
    let roles = &root.roles;
    root.keys.retain(|id, _| roles.values().any(|keys| keys.keyids.contains(id)));
    Ok((root, new))
}
