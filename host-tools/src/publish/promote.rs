//! `publish promote`: changes the share of devices that get an adapter.

use anyhow::{Result, ensure};
use serde_json::json;

use super::arguments::PromoteArgs;
use super::freshness::Signing;
use super::key_ring::KeyRing;
use super::lock::Lock;
use super::offers::{custom, offer_of, target_mut, withdrawal_of};
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
    let target = target_mut(&mut targets, &args.name)?;
    ensure!(
        withdrawal_of(&args.name, target)?.is_none(),
        "{} is withdrawn: publish a newer release of it",
        args.name
    );
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
            "devices that have it already keep it: publish withdraw takes it back".to_owned(),
        );
    }
    done.print(
        as_json,
        json!({ "target": args.name, "percent_before": before, "percent": after }),
        &lines,
    )
}
