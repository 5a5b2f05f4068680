//! What the list of targets says of adapters.

use std::collections::HashMap;

use anyhow::{Context, Result};
use fmlora_learner::Offer;
use serde_json::Value;
use tough::schema::{Target, Targets};

/// A target that is an adapter.
#[derive(Debug)]
pub(super) struct Published {
    /// Name of the target.
    pub(super) target: String,
    pub(super) offer: Offer,
    pub(super) length: u64,
}

/// What a target says, as metadata hold it.
pub(super) fn custom(offer: &Offer) -> Result<HashMap<String, Value>> {
    Ok(serde_json::from_value(serde_json::to_value(offer)?)?)
}

/// What a target says, read back.
pub(super) fn offer_of(name: &str, target: &Target) -> Result<Offer> {
    let custom = serde_json::to_value(&target.custom)?;
    serde_json::from_value(custom).with_context(|| format!("target {name}: custom"))
}

/// All adapters, by name.
pub(super) fn published(targets: &Targets) -> Result<Vec<Published>> {
    let one = |(name, target): (&tough::TargetName, &Target)| {
        let offer = offer_of(name.raw(), target)?;
        Ok(Published { target: name.raw().to_owned(), offer, length: target.length })
    };
    let mut all: Vec<Published> = targets.targets.iter().map(one).collect::<Result<_>>()?;
    all.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(all)
}
