//! Signing of the roles' metadata, in the order of writing.

use std::collections::HashMap;
use std::num::NonZeroU64;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::rand::SystemRandom;
use fmlora_learner::Offer;
use serde::Serialize;
use tough::editor::signed::SignedRole;
use tough::key_source::KeySource;
use tough::schema::{
    KeyHolder, Metafile, Role as Signable, RoleKeys, Root, Snapshot, Targets, Timestamp,
};

use super::key::SigningKey;
use super::offers::{Published, published};
use super::plan::Plan;
use super::repository::{Repository, about, metadata, next};
use super::role::{Lifetimes, ROLES, Role};

/// JSON key of the signing time in `timestamp.json`.
pub(super) const ISSUED: &str = "issued";

/// Largest size of the list of targets in bytes: devices read no more.
const MAX_LIST: usize = 1 << 20;

/// Version of the specification that tough implements.
const SPEC_VERSION: &str = "1.0.0";

/// Signs the metadata of roles.
pub(super) struct Signer {
    /// Root with the accepted keys.
    pub(super) root: Root,
    /// During the replacement of a key: the previous root. Its keys sign too, so that devices
    /// accept the metadata both before and after they see the next root.
    pub(super) before: Option<Root>,
    /// All keys at hand. Each one signs for its own roles.
    pub(super) keys: Vec<SigningKey>,
}

impl Signer {
    /// Signs metadata, and checks that devices will accept it.
    pub(super) fn sign<T: Signable + Serialize + Clone>(&self, role: &T) -> Result<SignedRole<T>> {
        let mut signed = self.signed_as(role, &self.root)?;
        if let Some(before) = &self.before {
            let old = self.signed_as(role, before)?;
            signed = signed.add_old_signatures(old.signed().signatures.clone())?;
        }
        for root in [&self.root].into_iter().chain(&self.before) {
            let what = || format!("the keys at hand do not sign {} as its root asks", T::TYPE);
            root.verify_role(signed.signed()).with_context(what)?;
        }
        Ok(signed)
    }

    fn signed_as<T: Signable + Serialize + Clone>(
        &self,
        role: &T,
        root: &Root,
    ) -> Result<SignedRole<T>> {
        let source = |key: &SigningKey| Box::new(key.clone()) as Box<dyn KeySource>;
        let sources: Vec<Box<dyn KeySource>> = self.keys.iter().map(source).collect();
        let holder = KeyHolder::Root(root.clone());
        let random = SystemRandom::new();
        let signing = SignedRole::new(role.clone(), &holder, &sources, &random);
        // The keys are in memory, so the future never waits.
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let what = || format!("{} cannot be signed", T::TYPE);
        runtime.block_on(signing).with_context(what)
    }
}

/// Versions of the snapshot and the timestamp to write.
pub(super) struct Versions {
    pub(super) snapshot: NonZeroU64,
    pub(super) timestamp: NonZeroU64,
}

/// Creates a root with these keys.
pub(super) fn root(
    version: NonZeroU64,
    keys: &[(Role, SigningKey)],
    lifetimes: &Lifetimes,
) -> Result<Root> {
    let role_keys = |role: Role| {
        let of_role = keys.iter().filter(|(r, _)| *r == role);
        let keyids = of_role.map(|(_, key)| key.id().clone()).collect();
        RoleKeys { keyids, threshold: role.threshold(), _extra: HashMap::new() }
    };
    Ok(Root {
        spec_version: SPEC_VERSION.to_owned(),
        consistent_snapshot: true,
        version,
        expires: lifetimes.of(Role::Root)?,
        keys: keys.iter().map(|(_, key)| (key.id().clone(), key.public().clone())).collect(),
        roles: ROLES.iter().map(|&role| (role.kind(), role_keys(role))).collect(),
        _extra: HashMap::new(),
    })
}

/// Creates an empty list of targets.
pub(super) fn no_targets(lifetimes: &Lifetimes) -> Result<Targets> {
    let expires = lifetimes.of(Role::Targets)?;
    let targets = Targets::new(SPEC_VERSION.to_owned(), NonZeroU64::MIN, expires);
    Ok(Targets { delegations: None, ..targets })
}

/// Plans the next list of targets, if there is one, the next snapshot and the next timestamp.
/// `timestamp.json` is written last, because it names all other files.
pub(super) fn next_state(
    repository: &Repository,
    signer: &Signer,
    targets: Option<Targets>,
    lifetimes: &Lifetimes,
) -> Result<Plan> {
    let mut plan = Plan::default();
    let folder = repository.folder();
    let about_targets = match targets {
        Some(mut targets) => {
            targets.version = next(repository.targets.signed.version)?;
            targets.expires = lifetimes.of(Role::Targets)?;
            add_targets(&mut plan, folder, signer, &targets)?
        }
        None => repository.about_targets()?,
    };
    let versions = Versions {
        snapshot: next(repository.snapshot.signed.version)?,
        timestamp: next(repository.timestamp.signed.version)?,
    };
    add_snapshot_and_timestamp(&mut plan, folder, signer, about_targets, &versions, lifetimes)?;
    Ok(plan)
}

/// Signs a list of targets, and returns its entry for the snapshot.
pub(super) fn add_targets(
    plan: &mut Plan,
    folder: &std::path::Path,
    signer: &Signer,
    targets: &Targets,
) -> Result<Metafile> {
    let sealed = signer.sign(targets)?;
    let path = metadata(folder, &targets.filename(true));
    ensure!(
        sealed.buffer().len() <= MAX_LIST,
        "{}: the list of {} targets would have {} bytes, but devices read {MAX_LIST} at most: take some off it with publish \
         remove NAME, first those that are withdrawn or have a newer release{}",
        path.display(),
        targets.targets.len(),
        sealed.buffer().len(),
        match spare(targets).as_slice() {
            [] => String::new(),
            names => format!(", such as {}", names.join(", ")),
        }
    );
    let what = format!("list of {} targets", targets.targets.len());
    plan.add(&path, sealed.buffer().clone(), what);
    Ok(about(sealed.buffer(), targets.version))
}

/// Number of removable targets that an error names.
const SHOWN: usize = 5;

/// Returns some targets that can be removed from the list: those that are withdrawn, and those with
/// a newer release for the same devices.
fn spare(targets: &Targets) -> Vec<String> {
    // Unreadable targets are reported elsewhere.
    let all = published(targets).unwrap_or_default();
    let mut newest: HashMap<String, u64> = HashMap::new();
    let line = |offer: &Offer| {
        format!("{} {} {} {}", offer.channel, offer.base_id, offer.feature_space_before, offer.name)
    };
    for Published { offer, .. } in &all {
        let release = newest.entry(line(offer)).or_default();
        *release = offer.release.max(*release);
    }
    let is_spare =
        |p: &&Published| p.withdrawn.is_some() || p.offer.release < newest[&line(&p.offer)];
    all.iter().filter(is_spare).take(SHOWN).map(|p| p.target.clone()).collect()
}

/// Signs a snapshot and the timestamp that names it.
pub(super) fn add_snapshot_and_timestamp(
    plan: &mut Plan,
    folder: &std::path::Path,
    signer: &Signer,
    about_targets: Metafile,
    versions: &Versions,
    lifetimes: &Lifetimes,
) -> Result<()> {
    let expires = lifetimes.of(Role::Snapshot)?;
    let mut snapshot = Snapshot::new(SPEC_VERSION.to_owned(), versions.snapshot, expires);
    snapshot.meta.insert("targets.json".to_owned(), about_targets);
    let sealed = signer.sign(&snapshot)?;
    let path = metadata(folder, &snapshot.filename(true));
    plan.add(&path, sealed.buffer().clone(), "snapshot");
    let expires = lifetimes.of(Role::Timestamp)?;
    let mut timestamp = Timestamp::new(SPEC_VERSION.to_owned(), versions.timestamp, expires);
    // Ours: a device without a clock of its own never takes an earlier time as the present.
    timestamp._extra.insert(ISSUED.to_owned(), lifetimes.now().to_string().into());
    let about = about(sealed.buffer(), versions.snapshot);
    timestamp.meta.insert("snapshot.json".to_owned(), about);
    let sealed = signer.sign(&timestamp)?;
    let path = metadata(folder, &timestamp.filename(true));
    plan.add(&path, sealed.buffer().clone(), format!("timestamp {}", versions.timestamp));
    Ok(())
}

/// Signs a root.
pub(super) fn add_root(
    plan: &mut Plan,
    folder: &std::path::Path,
    signer: &Signer,
    root: &Root,
) -> Result<()> {
    let sealed = signer.sign(root)?;
    let path = metadata(folder, &root.filename(true));
    plan.add(&path, sealed.buffer().clone(), format!("root {}", root.version));
    Ok(())
}

#[cfg(test)]
mod tests {
    use tough::schema::{Hashes, Target};

    use super::*;

    /// At about 400 bytes per target, 3000 targets are too many for a device.
    #[test]
    fn a_list_that_devices_do_not_read_is_refused() {
        let lifetimes = Lifetimes::new(&[]);
        let key = SigningKey::generate().expect("a key");
        let of_all: Vec<(Role, SigningKey)> = ROLES.map(|role| (role, key.clone())).into();
        let root = root(NonZeroU64::MIN, &of_all, &lifetimes).expect("a root");
        let signer = Signer { root, before: None, keys: vec![key] };
        let mut list = no_targets(&lifetimes).expect("a list");
        let add = |list: &Targets| {
            let mut plan = Plan::default();
            add_targets(&mut plan, std::path::Path::new("site"), &signer, list)
        };
        for n in 0..3000 {
            let name = tough::TargetName::new(format!("{n}.fmla")).expect("a name");
            let hashes = Hashes { sha256: vec![0; 32].into(), _extra: HashMap::new() };
            let custom = HashMap::from([("name".to_owned(), "x".repeat(200).into())]);
            list.add_target(name, Target { length: 1, hashes, custom, _extra: HashMap::new() });
            if n == 999 {
                assert!(add(&list).is_ok());
            }
        }
        let error = format!("{:#}", add(&list).expect_err("too long"));
        assert!(error.contains("1.targets.json") && error.contains("1048576 at most"), "{error}");
        assert!(error.contains("publish remove NAME"), "{error}");
    }
}
