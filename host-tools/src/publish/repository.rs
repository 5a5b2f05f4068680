//! A repository on disk, checked as a device checks it, except for expiry.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tough::schema::{
    Hashes, Metafile, Role as Signable, Root, Signed, Snapshot, Target, Targets, Timestamp,
};

use super::key::short;
use super::role::Role;
use super::roots::{check_beginning, known_keys, read_roots};
use crate::hex::hex;

/// Current metadata of all roles.
pub(super) struct Repository {
    folder: PathBuf,
    /// All roots, the first version first.
    pub(super) roots: Vec<Signed<Root>>,
    pub(super) targets: Signed<Targets>,
    pub(super) snapshot: Signed<Snapshot>,
    pub(super) timestamp: Signed<Timestamp>,
    /// Roles with metadata that only the previous root accepts: a rotation without the old key was
    /// interrupted.
    pub(super) unaccepted: Vec<Role>,
}

/// Returns the path of a metadata file.
pub(super) fn metadata(folder: &Path, name: &str) -> PathBuf {
    folder.join("metadata").join(name)
}

/// Returns the path of a target, which contains its SHA-256.
pub(super) fn target_file(folder: &Path, name: &str, sha256: &[u8]) -> PathBuf {
    folder.join("targets").join(format!("{}.{name}", hex(sha256)))
}

/// Returns the next version.
pub(super) fn next(version: NonZeroU64) -> Result<NonZeroU64> {
    version.checked_add(1).context("there is no version after this one")
}

impl Repository {
    /// Reads and checks all metadata.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let name = folder.display();
        let roots = read_roots(folder)?;
        let path = metadata(folder, "timestamp.json");
        if !path.exists() {
            check_beginning(folder, &roots)?;
            let made = if roots.is_empty() { "makes one" } else { "was interrupted; run it again" };
            bail!(
                "{name}: no repository (metadata/timestamp.json is missing); publish init {made}"
            );
        }
        let newest = roots.last().with_context(|| {
            format!("{name}: metadata/1.root.json is missing: copy it back from the server")
        })?;
        ensure!(newest.signed.consistent_snapshot, "{name}: it has no consistent snapshots");
        let mut unaccepted = Vec::new();
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let timestamp = parse::<Timestamp>(&path, &bytes)?;
        unaccepted.extend(check_signed(&roots, Role::Timestamp, &timestamp, &path)?);
        let entry = timestamp.signed.meta.get("snapshot.json");
        let about = entry.with_context(|| format!("{}: it names no snapshot", path.display()))?;
        let (snapshot, path) = read_named::<Snapshot>(folder, "snapshot.json", about)?;
        unaccepted.extend(check_signed(&roots, Role::Snapshot, &snapshot, &path)?);
        let entry = snapshot.signed.meta.get("targets.json");
        let about = entry.with_context(|| format!("{}: it names no targets", path.display()))?;
        let (targets, path) = read_named::<Targets>(folder, "targets.json", about)?;
        unaccepted.extend(check_signed(&roots, Role::Targets, &targets, &path)?);
        let folder = folder.to_owned();
        Ok(Self { folder, roots, targets, snapshot, timestamp, unaccepted })
    }

    /// Returns the folder of the repository.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the newest root.
    pub(super) fn root(&self) -> &Root {
        &self.roots[self.roots.len() - 1].signed
    }

    /// Returns the ids of all keys that any root names.
    pub(super) fn known_keys(&self) -> BTreeSet<String> {
        known_keys(&self.roots)
    }

    /// Returns the current version of a role's metadata, and its expiry.
    pub(super) fn signed(&self, role: Role) -> (NonZeroU64, jiff::Timestamp) {
        let targets = &self.targets.signed;
        let snapshot = &self.snapshot.signed;
        match role {
            Role::Root => (self.root().version, self.root().expires),
            Role::Targets => (targets.version, targets.expires),
            Role::Snapshot => (snapshot.version, snapshot.expires),
            Role::Timestamp => (self.timestamp.signed.version, self.timestamp.signed.expires),
        }
    }

    /// Returns the snapshot's entry for the list of targets.
    pub(super) fn about_targets(&self) -> Result<Metafile> {
        let about = self.snapshot.signed.meta.get("targets.json").cloned();
        about.context("snapshot.json names no targets.json")
    }

    /// Checks that the file of a target exists and has the published SHA-256.
    pub(super) fn check_target(&self, name: &str, target: &Target) -> Result<()> {
        let path = target_file(&self.folder, name, &target.hashes.sha256);
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        ensure!(
            Sha256::digest(&bytes)[..] == target.hashes.sha256[..],
            "{}: damaged: its SHA-256 is not the one that was published",
            path.display()
        );
        Ok(())
    }
}

/// Checks the signatures of a role's metadata. Returns the role if the newest root does not accept
/// them but the root directly before does: a rotation without the old key was interrupted. Keys of
/// earlier roots are never accepted.
fn check_signed<T: Signable + Serialize>(
    roots: &[Signed<Root>],
    role: Role,
    signed: &Signed<T>,
    path: &Path,
) -> Result<Option<Role>> {
    let mut judges = roots.iter().rev().take(2);
    let newest = judges.next().context("there is no root")?;
    let Err(error) = newest.signed.verify_role(signed) else { return Ok(None) };
    if judges.any(|before| before.signed.verify_role(signed).is_ok()) {
        return Ok(Some(role));
    }
    let ids = newest.signed.roles.get(&role.kind()).map_or(&[][..], |keys| &keys.keyids);
    let keys: Vec<String> = ids.iter().map(short).collect();
    let by: Vec<String> = signed.signatures.iter().map(|by| short(&by.keyid)).collect();
    Err(error).with_context(|| {
        format!(
            "{}: signed by {}, expected the key of {role} that root {} names: {}",
            path.display(),
            if by.is_empty() { "nobody".to_owned() } else { format!("key {}", by.join(", ")) },
            newest.signed.version,
            keys.join(", ")
        )
    })
}

/// Parses metadata, and checks its `_type`.
pub(super) fn parse<T: Signable + DeserializeOwned>(
    path: &Path,
    bytes: &[u8],
) -> Result<Signed<T>> {
    let name = || path.display().to_string();
    let value: Value = serde_json::from_slice(bytes).with_context(name)?;
    let found = &value["signed"]["_type"];
    let expected = T::TYPE.to_string();
    ensure!(
        found.as_str() == Some(&expected),
        "{}: its _type is {found}, expected {expected:?}",
        name()
    );
    serde_json::from_value(value).with_context(name)
}

/// Reads metadata that other metadata names by version, length and hash. Returns it with its path.
fn read_named<T: Signable + DeserializeOwned>(
    folder: &Path,
    name: &str,
    about: &Metafile,
) -> Result<(Signed<T>, PathBuf)> {
    let path = metadata(folder, &format!("{}.{name}", about.version));
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let whole = about.length.is_none_or(|length| length == bytes.len() as u64)
        && about.hashes.as_ref().is_none_or(|h| Sha256::digest(&bytes)[..] == h.sha256[..]);
    ensure!(whole, "{}: damaged: not what the metadata above it says", path.display());
    Ok((parse(&path, &bytes)?, path))
}

/// Returns the entry for a file in the metadata that names it: length, SHA-256 and version.
pub(super) fn about(bytes: &[u8], version: NonZeroU64) -> Metafile {
    Metafile {
        length: Some(bytes.len() as u64),
        hashes: Some(Hashes {
            sha256: Sha256::digest(bytes).to_vec().into(),
            _extra: std::collections::HashMap::new(),
        }),
        version,
        _extra: std::collections::HashMap::new(),
    }
}
