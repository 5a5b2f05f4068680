//! `publish refresh`: signs metadata again before it expires.

use anyhow::Result;
use serde_json::json;
use tough::schema::Root;

use super::arguments::RefreshArgs;
use super::freshness::Signing;
use super::key_ring::KeyRing;
use super::lock::Lock;
use super::offers::{in_json, in_words};
use super::repository::{Repository, next};
use super::role::{Lifetimes, Role};
use super::signing::{add_root, next_state};
use super::{keys_of, signers};

pub(super) fn run(args: &RefreshArgs, as_json: bool) -> Result<()> {
    let _lock = Lock::take(&args.repo.repo, args.repo.dry_run)?;
    let repository = Repository::open(&args.repo.repo)?;
    let lifetimes = Lifetimes::new(&args.repo.expires);
    let mut roles = vec![Role::Snapshot, Role::Timestamp];
    roles.extend(args.targets.then_some(Role::Targets));
    roles.extend(args.root.then_some(Role::Root));
    let signing = Signing { repository: &repository, roles: &roles, now: lifetimes.now() };
    signing.check_clock()?;
    // A list that is signed only by the replaced key may come from a thief of that key. It is
    // signed again only on request.
    if !args.targets && repository.unaccepted.contains(&Role::Targets) {
        signing.check_accepted()?;
    }
    signing.check_ends()?;
    let ring = KeyRing::open(&args.keys)?;
    let signer = signers(&repository, keys_of(&ring, repository.root(), &roles)?);
    let list = args.targets.then(|| repository.targets.signed.clone());
    let mut plan = next_state(&repository, &signer, list, &lifetimes)?;
    if args.root {
        let old = repository.root();
        let version = next(old.version)?;
        let expires = lifetimes.of(Role::Root)?;
        let root = Root { version, expires, ..old.clone() };
        add_root(&mut plan, &args.repo.repo, &signer, &root)?;
    }
    let mut more = json!({ "signed": roles });
    let mut lines = Vec::new();
    if args.targets {
        more["targets"] = in_json(&repository.targets.signed)?.into();
        lines = in_words(&repository.targets.signed)?;
    }
    plan.carry_out(args.repo.dry_run)?.print(as_json, more, &lines)
}
