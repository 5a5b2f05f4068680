//! `publish add`: publishes an adapter as a target.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use fmlora_learner::format::{AdapterName, decode_adapter};
use fmlora_learner::{Offer, Rollout};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tough::TargetName;
use tough::schema::{Hashes, Target, Targets};

use super::arguments::AddArgs;
use super::freshness::Signing;
use super::key::random;
use super::key_ring::KeyRing;
use super::lock::Lock;
use super::offers::{Published, custom, offer_of, published, withdrawal_of};
use super::plan::Plan;
use super::repository::{Repository, target_file};
use super::role::{Lifetimes, Role};
use super::signing::{Signer, next_state};
use super::together::Together;
use super::{keys_of, signers, warn};
use crate::files;
use crate::hex::hex;

pub(super) fn run(args: &AddArgs, as_json: bool) -> Result<()> {
    let path = args.file.display();
    let bytes = files::read(&args.file)?;
    let (adapter, _) = decode_adapter(&bytes).with_context(|| path.to_string())?;
    let name = target_name(&args.file.file_name().unwrap_or_default().to_string_lossy())?;
    check_channel(&args.channel)?;
    let _lock = Lock::take(&args.repo.repo, args.repo.dry_run)?;
    let repository = Repository::open(&args.repo.repo)?;
    let salt = hex(&random::<16>()?);
    let rollout = Rollout { percent: args.percent, salt };
    let offer = Offer::new(&adapter.facts, &args.channel, rollout);
    let sha256 = Sha256::digest(&bytes).to_vec();
    let length = bytes.len() as u64;
    let file = target_file(&args.repo.repo, name.raw(), &sha256);
    let mut targets = repository.targets.signed.clone();
    let mut plan = Plan::default();
    plan.add(&file, bytes, format!("adapter {}, release {}", offer.name, offer.release));
    if is_published(&targets, &name, &sha256, &offer)? {
        // A lost file is restored.
        let done = plan.carry_out(args.repo.dry_run)?;
        let line = format!("{} is published already; promote changes its share", name.raw());
        let more = json!({ "target": name.raw(), "published_before": true });
        return done.print(as_json, more, &[line]);
    }
    check_release(&published(&targets)?, &offer)?;
    let lifetimes = Lifetimes::new(&args.repo.expires);
    let roles = [Role::Targets, Role::Snapshot, Role::Timestamp];
    Signing { repository: &repository, roles: &roles, now: lifetimes.now() }.check()?;
    let hashes = Hashes { sha256: sha256.into(), _extra: HashMap::new() };
    let target = Target { length, hashes, custom: custom(&offer)?, _extra: HashMap::new() };
    targets.add_target(name.clone(), target);
    let ring = KeyRing::open(&args.keys)?;
    let signer: Signer = signers(&repository, keys_of(&ring, repository.root(), &roles)?);
    let listed = targets.clone();
    plan.append(next_state(&repository, &signer, Some(targets), &lifetimes)?);
    let folder = args.repo.repo.as_path();
    let before = Together { folder, targets: &repository.targets.signed, new: None }.warnings()?;
    let new = Some((name.raw(), &adapter));
    let mut said = Together { folder, targets: &listed, new }.warnings()?;
    said.retain(|warning| !before.contains(warning));
    let done = plan.carry_out(args.repo.dry_run)?;
    for warning in &said {
        warn(warning);
    }
    let more = json!({ "target": name.raw(), "custom": json_of(&offer)?, "warnings": said });
    done.print(as_json, more, &[])
}

fn json_of(offer: &Offer) -> Result<Value> {
    Ok(serde_json::to_value(offer)?)
}

/// Returns the name of the target: a plain file name that ends in `.fmla`.
fn target_name(file_name: &str) -> Result<TargetName> {
    let stem = file_name
        .strip_suffix(".fmla")
        .with_context(|| format!("{file_name:?}: the file of an adapter is called NAME.fmla"))?;
    AdapterName::new(stem).context("the file name becomes the name of the target")?;
    Ok(TargetName::new(file_name)?)
}

fn check_channel(channel: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    ensure!(
        (1..=32).contains(&channel.len()) && channel.bytes().all(plain),
        "channel {channel:?}: expected 1 to 32 of a-z 0-9 -"
    );
    Ok(())
}

/// Returns true if the same file is a target of the same channel and share. Another file, channel
/// or share under this name is an error, and so is a withdrawn target.
fn is_published(
    targets: &Targets,
    name: &TargetName,
    sha256: &[u8],
    offer: &Offer,
) -> Result<bool> {
    let Some(target) = targets.targets.get(name) else { return Ok(false) };
    let name = name.raw();
    ensure!(
        target.hashes.sha256[..] == *sha256,
        "there is another {name} already; call the file by its release"
    );
    ensure!(
        withdrawal_of(name, target)?.is_none(),
        "{name} is withdrawn: publish a newer release of it"
    );
    let there = offer_of(name, target)?;
    ensure!(
        there.channel == offer.channel,
        "{name} is published for channel {:?} already; a copy of another name can be for another channel",
        there.channel
    );
    let percent = there.rollout.percent;
    let asked = offer.rollout.percent;
    ensure!(
        percent == asked,
        "{name} is published for {percent} % already; publish promote {name} --percent {asked} changes its share"
    );
    Ok(true)
}

/// Checks that a release is larger than all releases that devices compare it with: on the same
/// channel and base, those for the same features and those of the same name.
fn check_release(published: &[Published], offer: &Offer) -> Result<()> {
    let compared = |other: &&Published| {
        let other = &other.offer;
        (&other.channel, other.base_id) == (&offer.channel, offer.base_id)
            && (other.feature_space_before == offer.feature_space_before
                || other.name == offer.name)
    };
    let newest = published.iter().filter(compared).max_by_key(|other| other.offer.release);
    let Some(Published { target, offer: newest, .. }) = newest else { return Ok(()) };
    let same = if newest.name == offer.name {
        "has the same name, channel and base"
    } else {
        "is for the same devices (channel, base and feature space)"
    };
    ensure!(
        offer.release > newest.release,
        "release {} is not larger than release {} of {target}, which {same}",
        offer.release,
        newest.release
    );
    Ok(())
}
