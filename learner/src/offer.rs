//! Offer of an adapter: the metadata that a repository publishes, read before the file is
//! downloaded.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::format::{AdapterFacts, AdapterName, DaemonVersion};
use crate::{BaseId, FeatureSpaceId};

/// Version of [`Offer`]. A device ignores offers of other versions.
pub const OFFER_FORMAT: u32 = 1;

/// The `custom` field of a target in a TUF repository: the facts of the adapter's own header, and
/// the devices it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// [`OFFER_FORMAT`].
    pub format: u32,
    /// As in the file.
    pub name: AdapterName,
    /// As in the file.
    #[serde(with = "as_text")]
    pub base_id: BaseId,
    /// As in the file.
    #[serde(with = "as_text")]
    pub feature_space_before: FeatureSpaceId,
    /// As in the file.
    #[serde(with = "as_text")]
    pub feature_space_after: FeatureSpaceId,
    /// As in the file.
    pub release: u64,
    /// Channel of the devices it is for: a plain word such as `stable`.
    pub channel: String,
    /// Share of these devices.
    pub rollout: Rollout,
    /// As in the file, as a text.
    #[serde(with = "as_text")]
    pub min_daemon: DaemonVersion,
}

/// Longest reason of a [`Withdrawal`], in characters.
pub const MAX_REASON: usize = 200;

/// Withdrawal: orders devices to stop using an adapter. It is the value of the key
/// [`Withdrawal::KEY`] in the `custom` field of a target, beside the keys of its [`Offer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Reason for operators of devices: at most [`MAX_REASON`] characters in one line. May be
    /// empty.
    pub reason: String,
}

/// A reason that is too long or has several lines; devices do not show it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a reason of {found} characters, expected at most {MAX_REASON} in one line")]
pub struct ReasonError {
    /// Characters found.
    pub found: usize,
}

impl Withdrawal {
    /// Key of the withdrawal in the `custom` field of a target.
    pub const KEY: &str = "withdrawn";

    /// Creates a withdrawal with a reason.
    ///
    /// # Errors
    ///
    /// [`ReasonError`] for a reason that is too long, or of several lines.
    pub fn new(reason: &str) -> Result<Self, ReasonError> {
        let reason = reason.trim();
        let found = reason.chars().count();
        if found > MAX_REASON || reason.chars().any(char::is_control) {
            return Err(ReasonError { found });
        }
        Ok(Self { reason: reason.to_owned() })
    }
}

/// Share of a channel's devices that receive an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Share of the devices in percent, 0 to 100.
    pub percent: u8,
    /// Salt of the buckets: every release begins with other devices. It stays the same while the
    /// share grows.
    pub salt: String,
}

/// Difference between an adapter and the offer of its repository.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the repository says {what} {offered}, the adapter says {found}")]
pub struct OfferError {
    /// Name of the fact.
    pub what: &'static str,
    /// The value in the offer.
    pub offered: String,
    /// The value in the file.
    pub found: String,
}

impl Rollout {
    /// Returns true if a device is in the rollout: its bucket, from 0 to 99, is below the share. A
    /// larger share contains all devices of a smaller one.
    pub fn reaches(&self, device_id: &str) -> bool {
        bucket(&self.salt, device_id) < self.percent
    }
}

/// Returns the bucket of a device: the first eight bytes of `SHA-256(salt, 0, device id)`, as a
/// big-endian number, modulo 100.
fn bucket(salt: &str, device_id: &str) -> u8 {
    let mut hash = Sha256::new();
    hash.update(salt.as_bytes());
    hash.update([0]);
    hash.update(device_id.as_bytes());
    let first = hash.finalize().iter().take(8).fold(0u64, |n, &b| n << 8 | u64::from(b));
    (first % 100) as u8
}

impl Offer {
    /// Creates the offer of an adapter.
    pub fn new(facts: &AdapterFacts, channel: &str, rollout: Rollout) -> Self {
        Self {
            format: OFFER_FORMAT,
            name: facts.name.clone(),
            base_id: facts.base_id,
            feature_space_before: facts.space_before,
            feature_space_after: facts.space_after,
            release: facts.release,
            channel: channel.to_owned(),
            rollout,
            min_daemon: facts.min_daemon,
        }
    }

    /// Checks that a file has the facts of the offer.
    ///
    /// # Errors
    ///
    /// [`OfferError`] names the first fact that differs.
    pub fn check(&self, facts: &AdapterFacts) -> Result<(), OfferError> {
        let pairs = [
            ("name", self.name.to_string(), facts.name.to_string()),
            ("base", self.base_id.to_string(), facts.base_id.to_string()),
            (
                "feature space before",
                self.feature_space_before.to_string(),
                facts.space_before.to_string(),
            ),
            (
                "feature space after",
                self.feature_space_after.to_string(),
                facts.space_after.to_string(),
            ),
            ("release", self.release.to_string(), facts.release.to_string()),
            ("least daemon", self.min_daemon.to_string(), facts.min_daemon.to_string()),
        ];
        match pairs.into_iter().find(|(_, offered, found)| offered != found) {
            Some((what, offered, found)) => Err(OfferError { what, offered, found }),
            None => Ok(()),
        }
    }
}

/// Serialises ids and versions as text.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_share_keeps_its_devices() {
        let rollout = |percent| Rollout { percent, salt: "salt".to_owned() };
        let reached = |percent| -> Vec<usize> {
            let device = |i: &usize| rollout(percent).reaches(&format!("device {i}"));
            (0..2000).filter(device).collect()
        };
        let few = reached(5);
        let many = reached(25);
        // 2000 draws: 100 +- 10 and 500 +- 20.
        assert!((60..140).contains(&few.len()) && (420..580).contains(&many.len()));
        assert!(few.iter().all(|i| many.contains(i)));
        assert!(reached(0).is_empty() && reached(100).len() == 2000);
        // A fixed value: devices of all releases must compute the same bucket.
        assert_eq!(bucket("salt", "device 0"), 84);
    }
}
