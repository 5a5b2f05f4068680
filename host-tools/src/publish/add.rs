//! `publish add`: an adapter becomes a target.

use anyhow::{Context, Result, bail, ensure};
use fmlora_learner::format::{AdapterName, decode_adapter};
use fmlora_learner::{Offer, Rollout};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tough::TargetName;
use tough::schema::{Hashes, Target, Targets};

use super::arguments::AddArgs;
use super::key::random;
use super::key_ring::KeyRing;
use super::offers::{Published, custom, published};
use super::plan::Plan;
use super::repository::{Lock, Repository, target_file};
use super::role::{Lifetimes, Role};
use super::signing::{Signer, next_state};
use super::{keys_of, signers};
use crate::files;
use crate::hex::hex;

pub(super) fn run(args: &AddArgs, as_json: bool) -> Result<()> {
    let path = args.file.display();
    let bytes = files::read(&args.file)?;
    let (adapter, _) = decode_adapter(&bytes).with_context(|| path.to_string())?;
    let name = target_name(&args.file.file_name().unwrap_or_default().to_string_lossy())?;
    check_channel(&args.channel)?;
    let _lock = Lock::take(&args.repo.repo)?;
    let repository = Repository::open(&args.repo.repo)?;
    let salt = hex(&random::<16>()?);
    let rollout = Rollout { percent: args.percent, salt };
    let offer = Offer::new(&adapter.facts, &args.channel, rollout);
    let sha256 = Sha256::digest(&bytes).to_vec();
    let mut targets = repository.targets.signed.clone();
    if is_published(&targets, &name, &sha256, &offer)? {
        let done = Plan::default().carry_out(args.repo.dry_run)?;
        done.print(as_json, json!({ "target": name.raw(), "published_before": true }))?;
        if !as_json {
            files::line(format!("{} is published already; promote changes its share", name.raw()))?;
        }
        return Ok(());
    }
    check_release(&published(&targets)?, &offer)?;
    let target = Target {
        length: bytes.len() as u64,
        hashes: Hashes { sha256: sha256.clone().into(), _extra: std::collections::HashMap::new() },
        custom: custom(&offer)?,
        _extra: std::collections::HashMap::new(),
    };
    let file = target_file(&args.repo.repo, name.raw(), &sha256);
    targets.add_target(name.clone(), target);
    let ring = KeyRing::new(&args.keys)?;
    let roles = [Role::Targets, Role::Snapshot, Role::Timestamp];
    let signer: Signer = signers(&repository, keys_of(&ring, repository.root(), &roles)?);
    let mut plan = Plan::default();
    plan.add(&file, bytes, format!("adapter {}, release {}", offer.name, offer.release));
    let lifetimes = Lifetimes::new(&args.repo.expires);
    plan.append(next_state(&repository, &signer, Some(targets), &lifetimes)?);
    let done = plan.carry_out(args.repo.dry_run)?;
    done.print(as_json, json!({ "target": name.raw(), "custom": json_of(&offer)? }))
}

fn json_of(offer: &Offer) -> Result<Value> {
    Ok(serde_json::to_value(offer)?)
}

/// A plain file name that ends in `.fmla`.
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

/// Whether the same file is a target of the same channel; another file of the name is an error.
fn is_published(
    targets: &Targets,
    name: &TargetName,
    sha256: &[u8],
    offer: &Offer,
) -> Result<bool> {
    let Some(target) = targets.targets.get(name) else { return Ok(false) };
    if target.hashes.sha256[..] != *sha256 {
        bail!("there is another {} already; call the file by its release", name.raw());
    }
    let channel = target.custom.get("channel").and_then(Value::as_str).unwrap_or_default();
    ensure!(
        channel == offer.channel,
        "{} is published for channel {channel:?} already; a copy of another name can be for another channel",
        name.raw()
    );
    Ok(true)
}

/// A release has to be larger than all that the same devices may have.
fn check_release(published: &[Published], offer: &Offer) -> Result<()> {
    let same = |other: &&Published| {
        let other = &other.offer;
        (&other.channel, other.base_id, other.feature_space_before)
            == (&offer.channel, offer.base_id, offer.feature_space_before)
    };
    let newest = published.iter().filter(same).max_by_key(|other| other.offer.release);
    match newest {
        Some(newest) if newest.offer.release >= offer.release => bail!(
            "release {} is not larger than release {} of {}, which is for the same devices (channel, base and feature space)",
            offer.release,
            newest.offer.release,
            newest.target
        ),
        _ => Ok(()),
    }
}
