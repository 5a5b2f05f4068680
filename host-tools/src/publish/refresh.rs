//! `publish refresh`: what expires soon is signed anew.

use anyhow::Result;
use serde_json::json;
use tough::schema::Root;

use super::arguments::RefreshArgs;
use super::key_ring::KeyRing;
use super::repository::{Lock, Repository, next};
use super::role::{Lifetimes, Role};
use super::signing::{add_root, next_state};
use super::{keys_of, signers};

pub(super) fn run(args: &RefreshArgs, as_json: bool) -> Result<()> {
    let _lock = Lock::take(&args.repo.repo)?;
    let repository = Repository::open(&args.repo.repo)?;
    // What an interrupted rotation left behind is signed by the new key now.
    let targets = args.targets || repository.unaccepted.contains(&Role::Targets);
    let mut roles = vec![Role::Snapshot, Role::Timestamp];
    roles.extend(targets.then_some(Role::Targets));
    roles.extend(args.root.then_some(Role::Root));
    let ring = KeyRing::new(&args.keys)?;
    let signer = signers(&repository, keys_of(&ring, repository.root(), &roles)?);
    let lifetimes = Lifetimes::new(&args.repo.expires);
    let list = targets.then(|| repository.targets.signed.clone());
    let mut plan = next_state(&repository, &signer, list, &lifetimes)?;
    if args.root {
        let old = repository.root();
        let (version, expires) = (next(old.version)?, lifetimes.of(Role::Root)?);
        let root = Root { version, expires, ..old.clone() };
        add_root(&mut plan, &args.repo.repo, &signer, &root)?;
    }
    let names: Vec<String> = roles.iter().map(ToString::to_string).collect();
    plan.carry_out(args.repo.dry_run)?.print(as_json, json!({ "signed": names }))
}
