//! `publish rotate`: replaces the key of a role, or of several roles.
//!
//! Devices learn of a new key from the next root. All other metadata of the role is written before
//! that root, signed by the old key and by the new one: a device accepts it with either root,
//! wherever the command ends. If the old key must not sign any more (`--lost`), the root is written
//! first, and devices find no update until the rest is written.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tough::schema::Root;

use super::arguments::RotateArgs;
use super::freshness::{Signing, names};
use super::key::{SigningKey, short};
use super::key_ring::KeyRing;
use super::lock::Lock;
use super::new_keys::NewKeys;
use super::offers::{in_json, in_words};
use super::plan::Plan;
use super::repository::{Repository, next};
use super::role::{Lifetimes, ROLES, Role};
use super::signing::{Signer, add_root, next_state};
use super::{keys_of, signers};
use crate::hex::hex;

pub(super) fn run(args: &RotateArgs, as_json: bool) -> Result<()> {
    check_roles(args)?;
    let _lock = Lock::take(&args.repo.repo, args.repo.dry_run)?;
    let repository = Repository::open(&args.repo.repo)?;
    let ring = KeyRing::open(&args.keys)?;
    let lifetimes = Lifetimes::new(&args.repo.expires);
    let signs = signing_roles(&args.roles);
    let signing = Signing { repository: &repository, roles: &signs, now: lifetimes.now() };
    let stuck = &repository.unaccepted;
    let interrupted =
        args.lost && !stuck.is_empty() && stuck.iter().all(|role| args.roles.contains(role));
    if !interrupted {
        signing.check_accepted()?;
    }
    if args.lost {
        // Without the old key, expired metadata cannot be signed again first.
        signing.warn_of_ends();
    } else {
        signing.check_ends()?;
    }
    // Devices forget the time of the timestamp when its key is replaced.
    if !(args.lost && args.roles.contains(&Role::Timestamp)) {
        signing.check_clock()?;
    }
    let list = args.roles.contains(&Role::Targets).then_some(&repository.targets.signed);
    let in_words = list.map(in_words).transpose()?;
    let in_json = list.map(in_json).transpose()?;
    let at_hand = interrupted.then(|| keys_of(&ring, repository.root(), &args.roles).ok());
    let (plan, new) = match at_hand.flatten() {
        Some(new) => (finished(&repository, &ring, &signs, &lifetimes)?, new),
        None => rotated(&repository, &ring, args, &lifetimes)?,
    };
    let roles = names(&args.roles);
    let ids: Vec<String> = new.iter().map(SigningKey::short_id).collect();
    let done = plan.carry_out(args.repo.dry_run)?;
    let mut lines = vec![format!("new keys of {roles}: {}", ids.join(", "))];
    if let Some(in_words) = in_words {
        lines.push("the new key signs this list:".to_owned());
        lines.extend(in_words);
    }
    done.print(as_json, json!({ "role": roles, "new_keys": ids, "targets": in_json }), &lines)
}

/// Checks the combination of roles and options: root is replaced alone, and never with `--lost`,
/// because its remaining keys must sign.
fn check_roles(args: &RotateArgs) -> Result<()> {
    let alone = args.roles.len() == 1;
    ensure!(
        alone || !args.roles.contains(&Role::Root),
        "{}: expected root alone, or others",
        names(&args.roles)
    );
    ensure!(
        !args.lost || !args.roles.contains(&Role::Root),
        "--lost is for targets, snapshot and timestamp; of the root's keys, two that are left sign for the new ones"
    );
    ensure!(alone || args.replace.is_empty(), "--replace: expected one role");
    let mut roles = args.roles.clone();
    roles.sort_unstable();
    roles.dedup();
    ensure!(roles.len() == args.roles.len(), "{}: a role is named twice", names(&args.roles));
    Ok(())
}

/// Returns the roles that sign again when the keys of `replaced` change.
fn signing_roles(replaced: &[Role]) -> Vec<Role> {
    let signs = |role: &Role| match role {
        Role::Root => true,
        Role::Targets => replaced.contains(role),
        Role::Snapshot | Role::Timestamp => !replaced.contains(&Role::Root),
    };
    ROLES.into_iter().filter(signs).collect()
}

/// Plans the rest of a `--lost` rotation that was interrupted after its root.
fn finished(
    repository: &Repository,
    ring: &KeyRing,
    signs: &[Role],
    lifetimes: &Lifetimes,
) -> Result<Plan> {
    let below: Vec<Role> = signs.iter().copied().filter(|role| *role != Role::Root).collect();
    let signer = signers(repository, keys_of(ring, repository.root(), &below)?);
    let list = below.contains(&Role::Targets).then(|| repository.targets.signed.clone());
    let mut plan = next_state(repository, &signer, list, lifetimes)?;
    plan.append(NewKeys::new(ring, repository.folder(), repository.known_keys())?.steps().1);
    Ok(plan)
}

/// Plans new keys, the next root, and all metadata that the roles sign. Returns the plan and the
/// new keys.
fn rotated(
    repository: &Repository,
    ring: &KeyRing,
    args: &RotateArgs,
    lifetimes: &Lifetimes,
) -> Result<(Plan, Vec<SigningKey>)> {
    let mut new_keys = NewKeys::new(ring, repository.folder(), repository.known_keys())?;
    let (root, new) = next_root(repository, &mut new_keys, args, lifetimes)?;
    let (mut plan, note_goes) = new_keys.steps();
    let old = repository.root().clone();
    let mut keys = keys_of(ring, &old, &[Role::Root])?;
    keys.extend(new.iter().cloned());
    let root_signer = Signer { root: root.clone(), before: Some(old.clone()), keys: keys.clone() };
    let mut of_root = Plan::default();
    add_root(&mut of_root, &args.repo.repo, &root_signer, &root)?;
    let below: Vec<Role> =
        signing_roles(&args.roles).into_iter().filter(|role| *role != Role::Root).collect();
    if below.is_empty() {
        plan.append(of_root);
    } else {
        let both = !args.lost;
        let old_sign: Vec<Role> =
            below.iter().copied().filter(|role| both || !args.roles.contains(role)).collect();
        keys.extend(keys_of(ring, &old, &old_sign)?);
        let signer = Signer { root, before: both.then_some(old), keys };
        let list = below.contains(&Role::Targets).then(|| repository.targets.signed.clone());
        let of_others = next_state(repository, &signer, list, lifetimes)?;
        let (first, then) = if both { (of_others, of_root) } else { (of_root, of_others) };
        plan.append(first);
        plan.append(then);
    }
    plan.append(note_goes);
    Ok((plan, new))
}

/// Returns the next root, and the new keys in it.
fn next_root(
    repository: &Repository,
    new_keys: &mut NewKeys<'_>,
    args: &RotateArgs,
    lifetimes: &Lifetimes,
) -> Result<(Root, Vec<SigningKey>)> {
    let old = repository.root();
    let mut root = old.clone();
    root.version = next(old.version)?;
    root.expires = lifetimes.of(Role::Root)?;
    let mut places = Vec::new();
    for &role in &args.roles {
        let ids = old.roles.get(&role.kind()).map_or(&[][..], |keys| &keys.keyids);
        let short: Vec<String> = ids.iter().map(short).collect();
        let ids: Vec<String> = ids.iter().map(|id| hex(id)).collect();
        let found = replaced(&ids, &args.replace)
            .with_context(|| format!("the keys of {role} are {}", short.join(", ")))?;
        places.extend(found.into_iter().map(|place| (role, place)));
    }
    ensure!(
        args.new_key.is_empty() || args.new_key.len() == places.len(),
        "{} new keys are named, {} are replaced",
        args.new_key.len(),
        places.len()
    );
    let mut new = Vec::new();
    for (i, (role, place)) in places.into_iter().enumerate() {
        let key = new_keys.key(role, args.new_key.get(i).map(PathBuf::as_path))?;
        let of_role = root
            .roles
            .get_mut(&role.kind())
            .with_context(|| format!("the root names no keys of {role}"))?;
        of_role.keyids[place] = key.id().clone();
        new.push(key);
    }
    root.keys.extend(new.iter().map(|key| (key.id().clone(), key.public().clone())));
    let roles = &root.roles;
    root.keys.retain(|id, _| roles.values().any(|keys| keys.keyids.contains(id)));
    Ok((root, new))
}

/// Returns the indices of the keys to replace: all keys, or those that are named by an id or by an
/// unambiguous prefix of it.
fn replaced(ids: &[String], named: &[String]) -> Result<Vec<usize>> {
    if named.is_empty() {
        return Ok((0..ids.len()).collect());
    }
    let mut places = Vec::new();
    for id in named {
        let begins = |i: &usize| ids[*i].starts_with(&id.to_lowercase());
        let found: Vec<usize> = (0..ids.len()).filter(begins).collect();
        ensure!(
            found.len() == 1,
            "--replace {id}: {} keys begin with it, expected one",
            found.len()
        );
        ensure!(!places.contains(&found[0]), "--replace {id}: named twice");
        places.extend(found);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_its_id_or_by_a_beginning_that_no_other_one_has() {
        let ids = ["ab12".repeat(16), "ab34".repeat(16), "cd56".repeat(16)];
        let places = |named: &[&str]| {
            let named: Vec<String> = named.iter().map(|&id| id.to_owned()).collect();
            replaced(&ids, &named).map_err(|error| error.to_string())
        };
        assert_eq!(places(&[]), Ok(vec![0, 1, 2]));
        assert_eq!(places(&[&ids[1], "CD"]), Ok(vec![1, 2]));
        for (named, says) in [
            ("ab", "2 keys begin with it"),
            ("", "3 keys begin with it"),
            (&*format!("{}0", ids[0]), "0 keys begin with it"),
        ] {
            assert!(places(&[named]).is_err_and(|error| error.contains(says)), "{named}");
        }
        assert!(places(&["cd", &ids[2]]).is_err_and(|error| error.contains("named twice")));
    }
}
