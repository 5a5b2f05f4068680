//! `publish promote`: more devices, or fewer, shall have an adapter.

use anyhow::{Context, Result};
use serde_json::json;
use tough::TargetName;

use super::arguments::PromoteArgs;
use super::freshness::Signing;
use super::key_ring::KeyRing;
use super::lock::Lock;
use super::offers::{custom, offer_of};
use super::repository::Repository;
use super::role::{Lifetimes, Role};
use super::signing::next_state;
use super::{keys_of, signers};

pub(super) fn run(args: &PromoteArgs, as_json: bool) -> Result<()> {
    let _lock = Lock::take(&args.repo.repo, args.repo.dry_run)?;
    let repository = Repository::open(&args.repo.repo)?;
    let lifetimes = Lifetimes::new(&args.repo.expires);
    let roles = [Role::Targets, Role::Snapshot, Role::Timestamp];
    Signing { repository: &repository, roles: &roles, now: lifetimes.now() }.check()?;
    let mut targets = repository.targets.signed.clone();
    let named = TargetName::new(args.name.as_str())?;
    let known: Vec<String> = targets.targets.keys().map(|name| name.raw().to_owned()).collect();
    let target = targets.targets.get_mut(&named).with_context(|| {
        format!("there is no target {:?}; known: {}", args.name, known.join(", "))
    })?;
    let mut offer = offer_of(&args.name, target)?;
    let before = offer.rollout.percent;
    offer.rollout.percent = args.percent;
    target.custom = custom(&offer)?;
    let ring = KeyRing::open(&args.keys)?;
    let signer = signers(&repository, keys_of(&ring, repository.root(), &roles)?);
    let plan = next_state(&repository, &signer, Some(targets), &lifetimes)?;
    let done = plan.carry_out(args.repo.dry_run)?;
    let after = args.percent;
    let mut lines =
        vec![format!("{}: {before} % of channel {} -> {after} %", args.name, offer.channel)];
    if after < before {
        lines.push(
            "devices that have it already keep it: only rollback on the device takes it back"
                .to_owned(),
        );
    }
    done.print(
        as_json,
        json!({ "target": args.name, "percent_before": before, "percent": after }),
        &lines,
    )
}
