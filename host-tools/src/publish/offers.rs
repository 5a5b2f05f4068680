//! Offers of adapters in the list of targets.

use std::collections::HashMap;

use anyhow::{Context, Result};
use fmlora_learner::{Offer, Withdrawal};
use serde_json::{Value, json};
use tough::TargetName;
use tough::schema::{Target, Targets};

/// An adapter in the list of targets.
#[derive(Debug)]
pub(super) struct Published {
    /// Name of the target.
    pub(super) target: String,
    pub(super) offer: Offer,
    pub(super) length: u64,
    /// SHA-256 of the file.
    pub(super) sha256: Vec<u8>,
    /// Order to take it out of use, if any.
    pub(super) withdrawn: Option<Withdrawal>,
}

/// Encodes an offer as the `custom` object of a target.
pub(super) fn custom(offer: &Offer) -> Result<HashMap<String, Value>> {
    Ok(serde_json::from_value(serde_json::to_value(offer)?)?)
}

/// Decodes the offer of a target.
pub(super) fn offer_of(name: &str, target: &Target) -> Result<Offer> {
    let custom = serde_json::to_value(&target.custom)?;
    serde_json::from_value(custom).with_context(|| format!("target {name}: custom"))
}

/// Decodes the withdrawal of a target, if any.
pub(super) fn withdrawal_of(name: &str, target: &Target) -> Result<Option<Withdrawal>> {
    let value = target.custom.get(Withdrawal::KEY).cloned();
    let order = value.map(serde_json::from_value).transpose();
    order.with_context(|| format!("target {name}: custom: {}", Withdrawal::KEY))
}

/// Returns the target of this name.
pub(super) fn target_mut<'a>(targets: &'a mut Targets, name: &str) -> Result<&'a mut Target> {
    let named = TargetName::new(name)?;
    let known: Vec<String> = targets.targets.keys().map(|name| name.raw().to_owned()).collect();
    targets
        .targets
        .get_mut(&named)
        .with_context(|| format!("there is no target {name:?}; known: {}", known.join(", ")))
}

/// Returns all adapters, sorted by target name.
pub(super) fn published(targets: &Targets) -> Result<Vec<Published>> {
    let one = |(name, target): (&tough::TargetName, &Target)| {
        let offer = offer_of(name.raw(), target)?;
        Ok(Published {
            target: name.raw().to_owned(),
            offer,
            length: target.length,
            sha256: target.hashes.sha256.to_vec(),
            withdrawn: withdrawal_of(name.raw(), target)?,
        })
    };
    let mut all: Vec<Published> = targets.targets.iter().map(one).collect::<Result<_>>()?;
    all.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(all)
}

/// Formats the list as text, one line per target.
pub(super) fn in_words(targets: &Targets) -> Result<Vec<String>> {
    let adapters = published(targets)?;
    if adapters.is_empty() {
        return Ok(vec!["  no adapter is published".to_owned()]);
    }
    let one = |Published { target, offer, length, withdrawn, .. }: &Published| {
        let share = match withdrawn {
            None => format!("{} %", offer.rollout.percent),
            Some(Withdrawal { reason }) if reason.is_empty() => "withdrawn".to_owned(),
            Some(Withdrawal { reason }) => format!("withdrawn ({reason})"),
        };
        format!(
            "  {target}: {} release {}, channel {}, {share}, {length} bytes, base {:.8}…, features {:.8}… -> {:.8}…, daemon {} or later",
            offer.name,
            offer.release,
            offer.channel,
            offer.base_id.to_string(),
            offer.feature_space_before.to_string(),
            offer.feature_space_after.to_string(),
            offer.min_daemon
        )
    };
    Ok(adapters.iter().map(one).collect())
}

/// Formats the list as JSON.
pub(super) fn in_json(targets: &Targets) -> Result<Vec<Value>> {
    let one = |p: &Published| json!({ "target": p.target, "bytes": p.length, "custom": p.offer, "withdrawn": p.withdrawn });
    Ok(published(targets)?.iter().map(one).collect())
}
