//! `publish withdraw`: orders devices to take an adapter out of use, and stops its rollout.
//!
//! The target stays on the list, with the order beside its offer. Devices find the order at their
//! next look, and keep what was taught on them. Its share is set to 0 too, for programs that do not
//! know withdrawals.

use anyhow::{Result, ensure};
use fmlora_learner::Withdrawal;
use serde_json::json;

use super::arguments::WithdrawArgs;
use super::freshness::Signing;
use super::key_ring::KeyRing;
use super::lock::Lock;
use super::offers::{Published, custom, published, target_mut, withdrawal_of};
use super::repository::Repository;
use super::role::{Lifetimes, Role};
use super::signing::next_state;
use super::{keys_of, signers};

pub(super) fn run(args: &WithdrawArgs, as_json: bool) -> Result<()> {
    let order = Withdrawal::new(&args.reason)?;
    let _lock = Lock::take(&args.repo.repo, args.repo.dry_run)?;
    let repository = Repository::open(&args.repo.repo)?;
    let lifetimes = Lifetimes::new(&args.repo.expires);
    let roles = [Role::Targets, Role::Snapshot, Role::Timestamp];
    Signing { repository: &repository, roles: &roles, now: lifetimes.now() }.check()?;
    let mut targets = repository.targets.signed.clone();
    let mut lines = Vec::new();
    let mut names = Vec::new();
    for Published { target: name, mut offer, .. } in named(args, published(&targets)?)? {
        let target = target_mut(&mut targets, &name)?;
        offer.rollout.percent = 0;
        // Without a new reason, the previous one is kept.
        let before = withdrawal_of(&name, target)?.filter(|_| order.reason.is_empty());
        let order = before.unwrap_or_else(|| order.clone());
        target.custom = custom(&offer)?;
        target.custom.insert(Withdrawal::KEY.to_owned(), serde_json::to_value(&order)?);
        lines.push(format!("{name}: devices of channel {} take it out of use", offer.channel));
        names.push(name);
    }
    let ring = KeyRing::open(&args.keys)?;
    let signer = signers(&repository, keys_of(&ring, repository.root(), &roles)?);
    let plan = next_state(&repository, &signer, Some(targets), &lifetimes)?;
    let done = plan.carry_out(args.repo.dry_run)?;
    lines.push(
        "keep it on the list until all devices have looked: publish remove takes the order off with it"
            .to_owned(),
    );
    done.print(as_json, json!({ "withdrawn": names, "reason": order.reason }), &lines)
}

/// Selects adapters: by target, by name with all releases, or all of a channel.
fn named(args: &WithdrawArgs, published: Vec<Published>) -> Result<Vec<Published>> {
    let is = |p: &Published, name: &String| p.target == *name || p.offer.name.as_str() == name;
    let known: Vec<String> = published.iter().map(|p| p.target.clone()).collect();
    for name in &args.names {
        ensure!(
            published.iter().any(|p| is(p, name)),
            "there is no target or adapter {name:?}; known: {}",
            known.join(", ")
        );
    }
    let meant = |p: &Published| match &args.channel {
        Some(channel) => p.offer.channel == *channel,
        None => args.names.iter().any(|name| is(p, name)),
    };
    let meant: Vec<Published> = published.into_iter().filter(meant).collect();
    ensure!(
        !meant.is_empty(),
        "there is no adapter on channel {:?}",
        args.channel.as_deref().unwrap_or_default()
    );
    Ok(meant)
}
