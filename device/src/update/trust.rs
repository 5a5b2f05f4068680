//! Trust in a repository: verification of its TUF metadata, and protection against rollbacks.
//!
//! tough verifies signatures, thresholds, hashes and versions within one round. Between two rounds
//! it leaves gaps, which are closed here. The newest root is stored and given back to tough, so
//! that a revoked key stays revoked. Versions are stored atomically in the store, where tough's own
//! files could be torn. And the wrong clock of a device without a battery neither blocks updates
//! nor admits old ones: the time is never earlier than the signed time.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use thiserror::Error;
use tough::schema::{RoleType, Root, Signed};
use tough::{ExpirationEnforcement, Limits, Repository, RepositoryLoader};
use url::Url;

use super::origin::{FetchError, Origin};
use super::transport::{Copies, Files, HERE, MAX_METADATA, check_type};
use crate::report::with_causes;

/// Maximum number of roots read in one round. Each is one rotation of keys.
const MAX_ROOTS: u64 = 64;

/// Key of the time at which a repository was signed, in timestamp.json; ours.
const ISSUED: &str = "issued";

/// Reason why a repository is not trusted. What was trusted before stays trusted.
#[derive(Debug, Error)]
pub(crate) enum TrustError {
    /// The root that the operator gave is not a valid root.
    #[error("the trusted root: {0}")]
    Root(String),
    /// The root says that file names have no versions.
    #[error(
        "its root says \"consistent_snapshot\": false, which this program does not read: files have to have versions and hashes in their names"
    )]
    Inconsistent,
    /// Missing files, missing signatures, wrong hashes, or decreasing versions.
    #[error("{0}")]
    Repository(String),
    /// A role is older than the version seen before.
    #[error(
        "{role} has version {found}, but version {seen} was seen before: an old repository is being shown"
    )]
    Older { role: RoleType, found: u64, seen: u64 },
    /// Metadata has expired.
    #[error(
        "{role} expired at {expired}, and it is {now}: no update until the publisher renews it, or the clock is right"
    )]
    Expired { role: RoleType, expired: Timestamp, now: Timestamp },
}

/// The newest metadata that was seen and verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trusted {
    /// SHA-256 of the root that the operator gave. Another one starts anew.
    given: [u8; 32],
    /// The newest root.json.
    root: Vec<u8>,
    /// Versions of timestamp, snapshot and targets.
    versions: Versions,
    /// SHA-256 of the keys of each of these roles.
    signers: Signers,
    /// The newest time signed in a timestamp, in seconds since 1970.
    issued: i64,
    /// Snapshot and list of targets that were trusted last. While they are the newest, they are not
    /// read again.
    copies: Copies,
}

/// In the order of [`ROLES`].
type Versions = [u64; ROLES.len()];
type Signers = [[u8; 32]; ROLES.len()];

/// The roles below root.
const ROLES: [RoleType; 3] = [RoleType::Timestamp, RoleType::Snapshot, RoleType::Targets];

impl Trusted {
    /// Trusts a root that the operator gave.
    ///
    /// # Errors
    ///
    /// [`TrustError::Root`] if it is not signed by itself, [`TrustError::Inconsistent`].
    pub(crate) fn new(root: Vec<u8>) -> Result<Self, TrustError> {
        let parsed = parse(&root)?;
        if !parsed.signed.consistent_snapshot {
            return Err(TrustError::Inconsistent);
        }
        let signers = signers(&parsed);
        let versions = Versions::default();
        let given = Sha256::digest(&root).into();
        Ok(Self { given, root, versions, signers, issued: i64::MIN, copies: Copies::new() })
    }

    /// Trusts another root that the operator gives. If it is of the same line, nothing that was
    /// seen is forgotten: the newer root counts, and the version of a role is reset only if a newer
    /// root gives it other keys. If it is of another line, as after the loss of root keys,
    /// everything starts anew with it, regardless of the keys of the roles below root.
    ///
    /// # Errors
    ///
    /// The errors of [`Trusted::new`].
    pub(crate) fn renewed(self, root: Vec<u8>) -> Result<Self, TrustError> {
        let new = Self::new(root)?;
        let given = parse(&new.root)?;
        let newest = parse(&self.root)?;
        if !of_one_line(&given, &newest) {
            return Ok(new);
        }
        let mut renewed = Self { given: new.given, ..self };
        renewed.follow(&given, new.root);
        Ok(renewed)
    }

    /// Returns true if this began with that root.
    pub(crate) fn began_with(&self, root: &[u8]) -> bool {
        self.given == <[u8; 32]>::from(Sha256::digest(root))
    }

    /// Returns the version of the newest root.
    pub(crate) fn root_version(&self) -> u64 {
        parse(&self.root).map_or(0, |root| root.signed.version.get())
    }

    /// Returns the time of the clock, but never a time before the signed one.
    fn time(&self, clock: Timestamp) -> Timestamp {
        Timestamp::from_second(self.issued).map_or(clock, |issued| issued.max(clock))
    }

    /// Loads and verifies the metadata of a repository. A newer root is trusted even if a later
    /// step fails.
    ///
    /// # Errors
    ///
    /// [`TrustError`]
    pub(crate) async fn load(
        &mut self,
        origin: &Origin,
        clock: Timestamp,
    ) -> Result<Repository, TrustError> {
        let address = origin.location().address("");
        let failed = |error: &(dyn std::error::Error + 'static)| {
            let why = fetch_error(error).map_or_else(|| with_causes(error), ToString::to_string);
            TrustError::Repository(why.replace(HERE, &address))
        };
        // Temporary folder for tough's files. All data that must last is in the store.
        let folder = TempDir::new().map_err(|e| failed(&e))?;
        let here = Url::parse(HERE).map_err(|e| failed(&e))?;
        let [metadata, targets] = ["metadata/", "targets/"].map(|part| here.join(part));
        let loader = RepositoryLoader::new(
            &self.root,
            metadata.map_err(|e| failed(&e))?,
            targets.map_err(|e| failed(&e))?,
        );
        let limits = Limits {
            max_root_size: MAX_METADATA,
            max_targets_size: MAX_METADATA,
            max_timestamp_size: MAX_METADATA,
            max_snapshot_size: MAX_METADATA,
            max_root_updates: MAX_ROOTS,
        };
        let files = Files::new(origin.clone(), self.copies.clone());
        let loading = loader
            .transport(files.clone())
            .limits(limits)
            .datastore(folder.path())
            // Done below, by a clock that does not go back.
            .expiration_enforcement(ExpirationEnforcement::Unsafe)
            .load();
        let outcome = loading.await.map_err(|e| failed(&e));
        self.take_root(&folder)?;
        let accepted = outcome.and_then(|repository| {
            self.accept(&repository, clock)?;
            Ok(repository)
        });
        if accepted.is_err() && files.gave_copies() {
            // In case a copy is at fault, the next round does without copies.
            self.copies.clear();
        }
        let repository = accepted?;
        self.copies = files.copies();
        let [_, snapshot, targets] = self.versions;
        let newest = [
            format!("metadata/{snapshot}.snapshot.json"),
            format!("metadata/{targets}.targets.json"),
        ];
        self.copies.retain(|file, _| newest.contains(file));
        Ok(repository)
    }

    /// Takes over a newer root that tough has verified.
    fn take_root(&mut self, folder: &TempDir) -> Result<(), TrustError> {
        let Ok(bytes) = std::fs::read(folder.path().join("root.json")) else { return Ok(()) };
        let root = parse(&bytes)?;
        self.follow(&root, bytes);
        Ok(())
    }

    /// Takes over a root of the same line if it is newer.
    fn follow(&mut self, root: &Signed<Root>, bytes: Vec<u8>) {
        if root.signed.version.get() <= self.root_version() {
            return;
        }
        // With other keys, the version of a role is reset: a thief of the old keys could have
        // raised it to the maximum.
        for (i, signers) in signers(root).into_iter().enumerate() {
            if signers != self.signers[i] {
                self.signers[i] = signers;
                self.versions[i] = 0;
                self.issued = if ROLES[i] == RoleType::Timestamp { i64::MIN } else { self.issued };
            }
        }
        self.root = bytes;
    }

    /// Makes the checks that tough does not make, and stores the versions and the time that were
    /// seen.
    fn accept(&mut self, repository: &Repository, clock: Timestamp) -> Result<(), TrustError> {
        let root = &repository.root().signed;
        let targets = &repository.targets().signed;
        if !root.consistent_snapshot {
            return Err(TrustError::Inconsistent);
        }
        let timestamp = &repository.timestamp().signed;
        let snapshot = &repository.snapshot().signed;
        let found = [timestamp.version.get(), snapshot.version.get(), targets.version.get()];
        for ((role, found), seen) in ROLES.into_iter().zip(found).zip(self.versions) {
            if found < seen {
                return Err(TrustError::Older { role, found, seen });
            }
        }
        let now = self.time(clock);
        for (role, expired) in [
            (RoleType::Root, root.expires),
            (RoleType::Timestamp, timestamp.expires),
            (RoleType::Snapshot, snapshot.expires),
            (RoleType::Targets, targets.expires),
        ] {
            if expired <= now {
                return Err(TrustError::Expired { role, expired, now });
            }
        }
        let issued = timestamp._extra.get(ISSUED).and_then(|issued| issued.as_str());
        let issued: Option<Timestamp> = issued.and_then(|issued| issued.parse().ok());
        // A signed time after the expiry of the timestamp itself is ignored.
        let issued = issued.filter(|issued| *issued < timestamp.expires);
        self.issued = self.issued.max(issued.map_or(i64::MIN, Timestamp::as_second));
        self.versions = found;
        Ok(())
    }
}

/// Finds the error of reading a file among the causes of an error. It says everything that tough
/// says, with the right address.
fn fetch_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a FetchError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

fn parse(root: &[u8]) -> Result<Signed<Root>, TrustError> {
    check_type(root, "root").map_err(TrustError::Root)?;
    let root: Signed<Root> =
        serde_json::from_slice(root).map_err(|e| TrustError::Root(e.to_string()))?;
    root.signed.verify_role(&root).map_err(|e| TrustError::Root(with_causes(&e)))?;
    Ok(root)
}

/// Returns true if two roots belong to one repository: the keys of one sign the other, or they have
/// enough root keys in common to do so.
fn of_one_line(a: &Signed<Root>, b: &Signed<Root>) -> bool {
    let common = keys(a, RoleType::Root).intersection(&keys(b, RoleType::Root)).count() as u64;
    let enough = [a, b].map(|root| {
        let needed = root.signed.roles.get(&RoleType::Root).map(|role| role.threshold.get());
        needed.is_some_and(|needed| common >= needed)
    });
    enough == [true; 2] || a.signed.verify_role(b).is_ok() || b.signed.verify_role(a).is_ok()
}

/// Returns the ids of the keys of a role.
fn keys(root: &Signed<Root>, role: RoleType) -> BTreeSet<Vec<u8>> {
    root.signed.keys(role).filter_map(|key| key.key_id().ok()).map(|id| id.to_vec()).collect()
}

/// Returns the SHA-256 of the keys of each role below root.
fn signers(root: &Signed<Root>) -> Signers {
    ROLES.map(|role| {
        let keys = keys(root, role);
        let mut hash = Sha256::new();
        for id in keys {
            hash.update(id);
        }
        hash.finalize().into()
    })
}
