//! Offers of an update repository, and the check that an offer is for this device.

use std::collections::HashMap;
use std::fmt;

use fmlora_learner::format::{DaemonVersion, MAX_ADAPTER_BYTES};
use fmlora_learner::{BaseId, FeatureSpaceId, OFFER_FORMAT, Offer, Withdrawal};
use serde::{Deserialize, Serialize};
use tough::schema::Target;
use tough::{Repository, TargetName};

use super::settings::Again;

/// Maximum length of a file name, in bytes.
const MAX_NAME: usize = 160;

/// An adapter in a repository: its file, and the signed offer beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offered {
    /// Name of the target.
    pub(crate) target: String,
    pub(crate) length: u64,
    pub(crate) sha256: [u8; 32],
    pub(crate) offer: Offer,
}

#[cfg(test)]
impl Offered {
    /// An adapter for every device, which leaves the features of its base as they are.
    pub(super) fn example(name: &str, release: u64) -> Self {
        let base_id = BaseId::new([0; 32]);
        let offer = Offer {
            format: OFFER_FORMAT,
            name: name.parse().expect("a name"),
            base_id,
            feature_space_before: base_id.feature_space(),
            feature_space_after: base_id.feature_space(),
            release,
            channel: "stable".to_owned(),
            rollout: fmlora_learner::Rollout { percent: 100, salt: String::new() },
            min_daemon: "0.0.0".parse().expect("a version"),
        };
        let target = format!("{name}-{release}.fmla");
        Self { target, length: 1, sha256: [release as u8; 32], offer }
    }
}

/// Properties of a device that decide on its updates.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    /// Random, generated once.
    pub(crate) id: String,
    pub(crate) base_id: BaseId,
    pub(crate) feature_space: FeatureSpaceId,
    pub(crate) channel: String,
}

/// Reason why an adapter in a repository is not for this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotForUs {
    Unreadable(String),
    Name,
    Format(u64),
    TooLarge(u64),
    OtherBase,
    OtherFeatures,
    OtherChannel(String),
    NewerDaemon(DaemonVersion),
    NotYet(u8),
    /// This release of it, or a newer one, is in use.
    InUse(u64),
    /// Other adapters lie on the release in use, and continue features that this one does not
    /// produce.
    Beneath(u64),
    /// The release in use can no longer be taken out.
    ForGood(u64),
    /// A newer release is available.
    Older(u64),
    Quarantined(String),
    /// A larger release was rolled back.
    NewerTakenBack(u64),
    /// Its publisher has withdrawn it, for this reason.
    Withdrawn(String),
    /// Listed by a delegated role. The lists of delegated roles are not read.
    Delegated(String),
}

impl NotForUs {
    /// Returns true if the publisher meant the adapter for this device, and the device cannot use
    /// it.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Unreadable(_)
            | Self::Name
            | Self::Format(_)
            | Self::TooLarge(_)
            | Self::OtherFeatures
            | Self::NewerDaemon(_)
            | Self::Beneath(_)
            | Self::ForGood(_)
            | Self::Quarantined(_)
            | Self::Delegated(_) => true,
            Self::OtherBase
            | Self::OtherChannel(_)
            | Self::NotYet(_)
            | Self::InUse(_)
            | Self::Older(_)
            | Self::NewerTakenBack(_)
            | Self::Withdrawn(_) => false,
        }
    }
}

impl fmt::Display for NotForUs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "what is signed beside it cannot be read: {why}"),
            Self::Name => write!(f, "its name is no plain name of a file"),
            Self::Format(found) => {
                write!(f, "format {found}, but this program reads format {OFFER_FORMAT}")
            }
            Self::TooLarge(n) => write!(f, "{n} bytes, expected at most {MAX_ADAPTER_BYTES}"),
            Self::OtherBase => write!(f, "made for another base"),
            Self::OtherFeatures => write!(
                f,
                "made for other features than this box has now: an adapter in use or a task learnt here has changed them"
            ),
            Self::OtherChannel(channel) => write!(f, "on channel {channel:?}"),
            Self::NewerDaemon(version) => write!(f, "needs version {version} of this program"),
            Self::NotYet(percent) => {
                write!(f, "so far for {percent} % of all boxes, and this one is not among them")
            }
            Self::InUse(release) => write!(f, "release {release} of it is in use"),
            Self::Beneath(release) => write!(
                f,
                "release {release} of it is in use, and other adapters continue its features, which this one changes"
            ),
            Self::ForGood(release) => {
                write!(f, "release {release} of it is in use, and came too long ago to be replaced")
            }
            Self::Older(release) => write!(f, "release {release} of it is there too"),
            Self::Quarantined(why) => write!(f, "tried before and rolled back: {why}"),
            Self::NewerTakenBack(release) => {
                write!(f, "release {release} of it was taken back, and this one is older")
            }
            Self::Withdrawn(reason) => f.write_str(&withdrawn(reason)),
            Self::Delegated(role) => write!(
                f,
                "listed by the role {role:?}: lists of other roles are not read, only targets.json itself"
            ),
        }
    }
}

/// Describes a withdrawal.
pub(super) fn withdrawn(reason: &str) -> String {
    if reason.is_empty() {
        return "withdrawn by its publisher".to_owned();
    }
    format!("withdrawn by its publisher: {reason}")
}

/// A target of a repository: its offer, or the reason why it is not for this device.
pub(crate) type Seen = (String, Result<Offered, NotForUs>);

/// An adapter that its publisher has withdrawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Withdrawn {
    pub(crate) target: String,
    pub(crate) sha256: [u8; 32],
    pub(crate) reason: String,
}

/// List of the targets of a repository.
#[derive(Debug, Clone, Default)]
pub(crate) struct List {
    /// All targets, sorted by ascending release, as later ones may build on earlier ones.
    pub(crate) targets: Vec<Seen>,
    /// Withdrawn adapters, to be taken out of use.
    pub(crate) withdrawn: Vec<Withdrawn>,
}

impl List {
    /// Reads the list of targets.
    pub(crate) fn of(repository: &Repository) -> Self {
        let mut list = Self::default();
        let signed = &repository.targets().signed;
        for (name, target) in &signed.targets {
            let mut seen = offered(name, target);
            if let Ok(offer) = &seen {
                match withdrawal(target) {
                    Ok(None) => {}
                    Ok(Some(Withdrawal { reason })) => {
                        let target = offer.target.clone();
                        let sha256 = offer.sha256;
                        list.withdrawn.push(Withdrawn { target, sha256, reason: reason.clone() });
                        seen = Err(NotForUs::Withdrawn(reason));
                    }
                    Err(why) => seen = Err(why),
                }
            }
            list.targets.push((name.raw().to_owned(), seen));
        }
        // Lists of delegated roles are not read: this project's publisher makes none, and their
        // expiry is not checked.
        for role in signed.delegations.iter().flat_map(|delegations| &delegations.roles) {
            for name in role.targets.iter().flat_map(|listed| listed.signed.targets.keys()) {
                let why = NotForUs::Delegated(role.name.clone());
                list.targets.push((name.raw().to_owned(), Err(why)));
            }
        }
        list.targets.sort_by_key(|(name, offered)| {
            (offered.as_ref().map_or(0, |offered| offered.offer.release), name.clone())
        });
        list
    }
}

/// Reads the withdrawal of a target, if there is one.
fn withdrawal(target: &Target) -> Result<Option<Withdrawal>, NotForUs> {
    let Some(order) = target.custom.get(Withdrawal::KEY) else { return Ok(None) };
    let unreadable = |why: String| NotForUs::Unreadable(format!("{}: {why}", Withdrawal::KEY));
    let order: Withdrawal =
        serde_json::from_value(order.clone()).map_err(|e| unreadable(e.to_string()))?;
    Withdrawal::new(&order.reason).map(Some).map_err(|e| unreadable(e.to_string()))
}

fn offered(name: &TargetName, target: &Target) -> Result<Offered, NotForUs> {
    let file = name.raw();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if file.len() > MAX_NAME || file.starts_with('.') || !file.chars().all(plain) {
        return Err(NotForUs::Name);
    }
    let unreadable = |why: &dyn fmt::Display| NotForUs::Unreadable(why.to_string());
    let custom = serde_json::to_value(&target.custom).map_err(|e| unreadable(&e))?;
    match custom.get("format").and_then(serde_json::Value::as_u64) {
        Some(format) if format == u64::from(OFFER_FORMAT) => {}
        Some(format) => return Err(NotForUs::Format(format)),
        None => return Err(unreadable(&"it states no format")),
    }
    let offer: Offer = serde_json::from_value(custom).map_err(|e| unreadable(&e))?;
    if target.length > MAX_ADAPTER_BYTES as u64 {
        return Err(NotForUs::TooLarge(target.length));
    }
    let sha256 = <[u8; 32]>::try_from(target.hashes.sha256.as_ref())
        .map_err(|_| unreadable(&"it has no SHA-256"))?;
    Ok(Offered { target: file.to_owned(), length: target.length, sha256, offer })
}

impl Offered {
    /// Checks that the adapter is for this device. Adapters in use and rollbacks are checked
    /// elsewhere.
    pub(crate) fn suits(&self, device: &Device) -> Result<(), NotForUs> {
        let offer = &self.offer;
        let here: Option<DaemonVersion> = env!("CARGO_PKG_VERSION").parse().ok();
        if offer.channel != device.channel {
            Err(NotForUs::OtherChannel(offer.channel.clone()))
        } else if offer.base_id != device.base_id {
            Err(NotForUs::OtherBase)
        } else if here.is_none_or(|here| offer.min_daemon > here) {
            Err(NotForUs::NewerDaemon(offer.min_daemon))
        } else if !offer.rollout.reaches(&device.id) {
            Err(NotForUs::NotYet(offer.rollout.percent))
        } else if offer.feature_space_before != device.feature_space {
            Err(NotForUs::OtherFeatures)
        } else {
            Ok(())
        }
    }

    /// Path of its file in the repository. With consistent snapshots, the hash comes before the
    /// name.
    pub(crate) fn path(&self) -> String {
        format!("targets/{}.{}", hex(&self.sha256), self.target)
    }
}

/// Encodes bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Chooses the adapters to try, in order: the newest release of each name, and of these the
/// smallest release first, as others may build on it. Marks older releases as such. If one target
/// is named, returns that one alone.
pub(crate) fn choose(seen: &mut [Seen], again: &Again) -> Vec<Offered> {
    let usable = |seen: &[Seen]| -> Vec<Offered> {
        seen.iter().filter_map(|(_, offered)| offered.as_ref().ok()).cloned().collect()
    };
    let mut named = usable(seen);
    let mut newest: HashMap<String, u64> = HashMap::new();
    for Offered { offer, .. } in usable(seen) {
        let release = newest.entry(offer.name.to_string()).or_default();
        *release = offer.release.max(*release);
    }
    for (_, offered) in seen.iter_mut() {
        let release =
            offered.as_ref().ok().map(|o| (o.offer.release, newest.get(o.offer.name.as_str())));
        if let Some((release, Some(&newest))) = release
            && release < newest
        {
            *offered = Err(NotForUs::Older(newest));
        }
    }
    if let Again::Only(target) = again {
        named.retain(|offered| offered.target == *target);
        return named;
    }
    usable(seen)
}
