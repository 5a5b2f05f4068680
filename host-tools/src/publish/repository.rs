//! A repository as it is on disk, checked as a device checks it, but for expiry.

use std::collections::BTreeSet;
use std::fs::File;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tough::schema::{
    Hashes, Metafile, Role as Signable, Root, Signed, Snapshot, Target, Targets, Timestamp,
};

use super::role::Role;
use crate::hex::hex;

/// Metadata of the present version of every role.
pub(super) struct Repository {
    folder: PathBuf,
    /// All roots, the first version first.
    pub(super) roots: Vec<Signed<Root>>,
    pub(super) targets: Signed<Targets>,
    pub(super) snapshot: Signed<Snapshot>,
    pub(super) timestamp: Signed<Timestamp>,
    /// Roles whose metadata the newest root does not accept: a rotation without the old key was interrupted.
    pub(super) unaccepted: Vec<Role>,
}

/// Keeps other commands away while one works on a repository; goes with the program, however that ends.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let name = folder.display();
        ensure!(
            folder.is_dir(),
            "{name}: there is no such folder; publish init makes a repository"
        );
        let path = folder.join(".publish.lock");
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        file.try_lock()
            .with_context(|| format!("{name}: another command works on this repository"))?;
        Ok(Self { _file: file })
    }
}

/// Path of metadata.
pub(super) fn metadata(folder: &Path, name: &str) -> PathBuf {
    folder.join("metadata").join(name)
}

/// Path of a target with its SHA-256.
pub(super) fn target_file(folder: &Path, name: &str, sha256: &[u8]) -> PathBuf {
    folder.join("targets").join(format!("{}.{name}", hex(sha256)))
}

/// The version after one.
pub(super) fn next(version: NonZeroU64) -> Result<NonZeroU64> {
    version.checked_add(1).context("there is no version after this one")
}

impl Repository {
    /// Reads and checks everything.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let roots = read_roots(folder)?;
        let newest = roots.last().with_context(|| {
            format!(
                "{}: no repository (metadata/1.root.json is missing); publish init makes one",
                folder.display()
            )
        })?;
        let path = metadata(folder, "timestamp.json");
        ensure!(path.exists(), "{}: publish init was interrupted; run it again", folder.display());
        let mut unaccepted = Vec::new();
        let mut check = |role: Role, accepted: Accepted| match accepted {
            Accepted::Newest => Ok(()),
            Accepted::Older => {
                unaccepted.push(role);
                Ok(())
            }
            Accepted::Nobody => bail!("{role}: not signed by keys that the roots name"),
        };
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let timestamp: Signed<Timestamp> = parse(&path, &bytes)?;
        check(Role::Timestamp, accepted(&roots, &timestamp))?;
        let about = timestamp.signed.meta.get("snapshot.json");
        let about = about.context("timestamp.json names no snapshot.json")?;
        let snapshot: Signed<Snapshot> = read_named(folder, "snapshot.json", about)?;
        check(Role::Snapshot, accepted(&roots, &snapshot))?;
        let about = snapshot.signed.meta.get("targets.json");
        let about = about.context("snapshot.json names no targets.json")?;
        let targets: Signed<Targets> = read_named(folder, "targets.json", about)?;
        check(Role::Targets, accepted(&roots, &targets))?;
        ensure!(newest.signed.consistent_snapshot, "this repository has no consistent snapshots");
        let folder = folder.to_owned();
        Ok(Self { folder, roots, targets, snapshot, timestamp, unaccepted })
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The newest root.
    pub(super) fn root(&self) -> &Root {
        &self.roots[self.roots.len() - 1].signed
    }

    /// Ids of all keys that some root named.
    pub(super) fn known_keys(&self) -> BTreeSet<Vec<u8>> {
        known_keys(&self.roots)
    }

    /// What the snapshot says of the list of targets.
    pub(super) fn about_targets(&self) -> Result<Metafile> {
        let about = self.snapshot.signed.meta.get("targets.json").cloned();
        about.context("snapshot.json names no targets.json")
    }

    /// Checks that the file of a target is there and whole.
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

/// Ids of all keys that some of these roots name.
pub(super) fn known_keys(roots: &[Signed<Root>]) -> BTreeSet<Vec<u8>> {
    roots.iter().flat_map(|root| root.signed.keys.keys()).map(|id| id.to_vec()).collect()
}

/// All roots, each signed as the one before it and itself ask for; none if there is no first one.
pub(super) fn read_roots(folder: &Path) -> Result<Vec<Signed<Root>>> {
    let mut roots: Vec<Signed<Root>> = Vec::new();
    loop {
        let version = roots.len() as u64 + 1;
        let path = metadata(folder, &format!("{version}.root.json"));
        if !path.exists() {
            return Ok(roots);
        }
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let root: Signed<Root> = parse(&path, &bytes)?;
        let judges = roots.last().into_iter().chain([&root]);
        for judge in judges {
            judge.signed.verify_role(&root).with_context(|| path.display().to_string())?;
        }
        ensure!(root.signed.version.get() == version, "{}: of another version", path.display());
        roots.push(root);
    }
}

/// The root whose keys signed something.
enum Accepted {
    Newest,
    Older,
    Nobody,
}

fn accepted<T: Signable + Serialize>(roots: &[Signed<Root>], role: &Signed<T>) -> Accepted {
    let mut judges = roots.iter().rev();
    if judges.next().is_some_and(|root| root.signed.verify_role(role).is_ok()) {
        return Accepted::Newest;
    }
    let older = judges.any(|root| root.signed.verify_role(role).is_ok());
    if older { Accepted::Older } else { Accepted::Nobody }
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).with_context(|| path.display().to_string())
}

/// Metadata that other metadata names by version, length and hash.
fn read_named<T: DeserializeOwned>(folder: &Path, name: &str, about: &Metafile) -> Result<T> {
    let path = metadata(folder, &format!("{}.{name}", about.version));
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let whole = about.length.is_none_or(|length| length == bytes.len() as u64)
        && about.hashes.as_ref().is_none_or(|h| Sha256::digest(&bytes)[..] == h.sha256[..]);
    ensure!(whole, "{}: damaged: not what the metadata above it says", path.display());
    parse(&path, &bytes)
}

/// What the metadata above says of a file.
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
