//! A repository of plain files as `host-tools publish` makes it, and as a thief of some of its keys
//! would make it.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fmlora_learner::format::{AdapterFacts, AdapterFile, encode_adapter};
use fmlora_learner::{Offer, Rollout};
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tough::TargetName;
use tough::schema::{
    DelegatedRole, Delegations, Hashes, Metafile, PathPattern, PathSet, RoleKeys, RoleType, Root,
    Snapshot, Target, Targets, Timestamp as Newest,
};

use super::key::{Key, signed, written};

const DAY: Duration = Duration::from_hours(24);

/// The roles below root.
pub(crate) const ROLES: [RoleType; 3] =
    [RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp];

/// A repository that grows honestly. Its files can be read, kept and put back.
pub(crate) struct Site {
    folder: TempDir,
    /// Keys in the newest root.
    pub(crate) keys: HashMap<RoleType, Vec<Key>>,
    /// The newest root.
    pub(crate) root: Root,
    /// Adapters on offer.
    pub(crate) listed: Vec<Listed>,
    /// The last version of targets, snapshot and timestamp, which increase together.
    version: u64,
}

/// A target.
#[derive(Clone)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) file: Vec<u8>,
    /// Signed properties of the file.
    pub(crate) length: u64,
    pub(crate) sha256: [u8; 32],
    pub(crate) custom: Value,
}

/// Version, expiry and keys of one role's metadata.
#[derive(Clone)]
pub(crate) struct Sheet {
    pub(crate) version: u64,
    pub(crate) expires: Timestamp,
    pub(crate) keys: Vec<Key>,
}

/// All metadata below root. A test changes the parts that are to be wrong.
#[derive(Clone)]
pub(crate) struct Publication {
    pub(crate) targets: Sheet,
    pub(crate) snapshot: Sheet,
    pub(crate) timestamp: Sheet,
    pub(crate) issued: Timestamp,
    /// True if metadata names other metadata by length and hash, not by version alone.
    pub(crate) hashed: bool,
    pub(crate) listed: Vec<Listed>,
    /// Target in the list of a delegated role.
    pub(crate) delegated: Option<Listed>,
}

/// Returns the time this number of days from now.
pub(crate) fn in_days(days: i64) -> Timestamp {
    let second = Timestamp::now().as_second() + days * DAY.as_secs() as i64;
    Timestamp::from_second(second).expect("near the present")
}

impl Listed {
    /// Offers an adapter to all devices of the channel `stable`.
    pub(crate) fn of(adapter: &AdapterFile) -> Self {
        Self::with_file(&adapter.facts, encode_adapter(adapter).expect("a sound adapter"))
    }

    /// Offers any bytes with these facts.
    pub(crate) fn with_file(facts: &AdapterFacts, file: Vec<u8>) -> Self {
        let rollout = Rollout { percent: 100, salt: "salt".to_owned() };
        let custom = serde_json::to_value(Offer::new(facts, "stable", rollout)).expect("JSON");
        let length = file.len() as u64;
        let sha256 = Sha256::digest(&file).into();
        let name = format!("{}-{}.fmla", facts.name, facts.release);
        Self { name, file, length, sha256, custom }
    }

    /// Returns its path below the repository.
    pub(crate) fn path(&self) -> String {
        let hash = self.sha256.map(|byte| format!("{byte:02x}")).concat();
        format!("targets/{hash}.{}", self.name)
    }

    fn target(&self) -> Target {
        Target {
            length: self.length,
            hashes: hashes(self.sha256),
            custom: serde_json::from_value(self.custom.clone()).expect("an object"),
            _extra: HashMap::new(),
        }
    }
}

fn hashes(sha256: [u8; 32]) -> Hashes {
    Hashes { sha256: sha256.to_vec().into(), _extra: HashMap::new() }
}

impl Publication {
    pub(crate) fn sheet(&mut self, role: RoleType) -> &mut Sheet {
        match role {
            RoleType::Targets => &mut self.targets,
            RoleType::Snapshot => &mut self.snapshot,
            _ => &mut self.timestamp,
        }
    }

    fn about(&self, bytes: &[u8], version: u64) -> Metafile {
        Metafile {
            length: self.hashed.then_some(bytes.len() as u64),
            hashes: self.hashed.then(|| hashes(Sha256::digest(bytes).into())),
            version: nonzero(version),
            _extra: HashMap::new(),
        }
    }
}

/// Name of a delegated role.
const OTHER: &str = "others";

/// Delegates all names to one role, signed by this key.
fn delegations(key: &Key) -> Delegations {
    let role = DelegatedRole {
        name: OTHER.to_owned(),
        keyids: vec![key.id.clone()],
        threshold: nonzero(1),
        paths: PathSet::Paths(vec![PathPattern::new("*").expect("a pattern")]),
        terminating: false,
        targets: None,
    };
    Delegations { keys: HashMap::from([(key.id.clone(), key.public.clone())]), roles: vec![role] }
}

fn nonzero(version: u64) -> NonZeroU64 {
    NonZeroU64::new(version).expect("versions begin with 1")
}

/// Creates a root with these keys that is valid for a year.
fn root_of(version: u64, keys: &HashMap<RoleType, Vec<Key>>) -> Root {
    let role_keys = |(&role, keys): (&RoleType, &Vec<Key>)| {
        let threshold = nonzero(if role == RoleType::Root { 2 } else { 1 });
        let keyids = keys.iter().map(|key| key.id.clone()).collect();
        (role, RoleKeys { keyids, threshold, _extra: HashMap::new() })
    };
    let all = keys.values().flatten();
    Root {
        spec_version: "1.0.0".to_owned(),
        consistent_snapshot: true,
        version: nonzero(version),
        expires: in_days(365),
        keys: all.map(|key| (key.id.clone(), key.public.clone())).collect(),
        roles: keys.iter().map(role_keys).collect(),
        _extra: HashMap::new(),
    }
}

impl Site {
    /// Creates a repository with fresh keys, three of root and one of each other role, and nothing
    /// on offer.
    pub(crate) fn new() -> Self {
        let mut keys: HashMap<RoleType, Vec<Key>> =
            ROLES.map(|role| (role, vec![Key::new()])).into();
        keys.insert(RoleType::Root, vec![Key::new(), Key::new(), Key::new()]);
        let folder = TempDir::new().expect("a temporary folder");
        let root = root_of(1, &keys);
        let mut site = Self { folder, keys, root, listed: Vec::new(), version: 0 };
        site.put_root(&site.root, &site.keys[&RoleType::Root][..2]);
        let first = site.next();
        site.write(&first);
        site
    }

    /// Starts the repository anew in the same folder, with other root keys and the same keys below.
    pub(crate) fn begin_anew(&mut self) {
        self.keys.insert(RoleType::Root, vec![Key::new(), Key::new(), Key::new()]);
        std::fs::remove_dir_all(self.folder().join("metadata")).expect("removed");
        self.root = root_of(1, &self.keys);
        self.version = 0;
        self.put_root(&self.root, &self.keys[&RoleType::Root][..2]);
        let first = self.next();
        self.write(&first);
    }

    /// Copies the repository with its keys, to continue independently.
    pub(crate) fn copy(&self) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let keys = self.keys.clone();
        let root = self.root.clone();
        let copy = Self { folder, keys, root, listed: self.listed.clone(), ..*self };
        copy.put_all(&self.files());
        copy
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the path of the root.json that an operator gives to a device.
    pub(crate) fn first_root(&self) -> PathBuf {
        self.folder().join("metadata/1.root.json")
    }

    /// Reads all files by their paths.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for part in ["metadata", "targets"] {
            // There are no targets before the first offer.
            let Ok(entries) = std::fs::read_dir(self.folder().join(part)) else { continue };
            for entry in entries.flatten() {
                let name = format!("{part}/{}", entry.file_name().to_string_lossy());
                files.insert(name, std::fs::read(entry.path()).expect("a file"));
            }
        }
        files
    }

    pub(crate) fn put_all(&self, files: &BTreeMap<String, Vec<u8>>) {
        for (path, bytes) in files {
            self.put(path, bytes);
        }
    }

    /// Writes any file of the repository.
    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.folder().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }

    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.folder().join(path)).expect("a file of the repository")
    }

    /// Returns the next publication without a fault.
    pub(crate) fn next(&mut self) -> Publication {
        self.version += 1;
        let sheet = |role, days| Sheet {
            version: self.version,
            expires: in_days(days),
            keys: self.keys[&role].clone(),
        };
        Publication {
            targets: sheet(RoleType::Targets, 90),
            snapshot: sheet(RoleType::Snapshot, 14),
            timestamp: sheet(RoleType::Timestamp, 7),
            issued: Timestamp::now(),
            hashed: true,
            listed: self.listed.clone(),
            delegated: None,
        }
    }

    /// Offers an adapter honestly.
    pub(crate) fn publish(&mut self, listed: Listed) {
        self.listed.push(listed);
        let next = self.next();
        self.write(&next);
    }

    /// Signs and writes the next publication with a fault. Later honest ones are without it.
    pub(crate) fn publish_wrong(&mut self, wrong: impl FnOnce(&mut Publication)) {
        let mut next = self.next();
        wrong(&mut next);
        self.write(&next);
    }

    /// Signs and writes a publication.
    pub(crate) fn write(&self, publication: &Publication) {
        let Publication { targets: sheet, listed, .. } = publication;
        let spec = || "1.0.0".to_owned();
        let list = |listed: &[Listed], delegations| {
            let named = |l: &Listed| (TargetName::new(l.name.clone()).expect("a name"), l.target());
            let targets = listed.iter().map(named).collect();
            let empty = Targets::new(spec(), nonzero(sheet.version), sheet.expires);
            Targets { delegations, targets, ..empty }
        };
        let other = publication.delegated.as_ref().map(|listed| {
            self.put(&listed.path(), &listed.file);
            let key = Key::new();
            let role = list(std::slice::from_ref(listed), None);
            let bytes = written(&signed(&role, std::slice::from_ref(&key)));
            self.put(&format!("metadata/{}.{OTHER}.json", sheet.version), &bytes);
            (key, publication.about(&bytes, sheet.version))
        });
        let targets = list(listed, other.as_ref().map(|(key, _)| delegations(key)));
        // Other names are never requested, and no file system would take them.
        let plain = |listed: &&Listed| !listed.name.contains('/') && listed.name.len() < 160;
        for listed in listed.iter().filter(plain) {
            self.put(&listed.path(), &listed.file);
        }
        let bytes = written(&signed(&targets, &sheet.keys));
        self.put(&format!("metadata/{}.targets.json", sheet.version), &bytes);
        let about = publication.about(&bytes, sheet.version);
        let sheet = &publication.snapshot;
        let mut snapshot = Snapshot::new(spec(), nonzero(sheet.version), sheet.expires);
        snapshot.meta.insert("targets.json".to_owned(), about);
        snapshot.meta.extend(other.map(|(_, about)| (format!("{OTHER}.json"), about)));
        let bytes = written(&signed(&snapshot, &sheet.keys));
        self.put(&format!("metadata/{}.snapshot.json", sheet.version), &bytes);
        let about = publication.about(&bytes, sheet.version);
        let sheet = &publication.timestamp;
        let mut newest = Newest::new(spec(), nonzero(sheet.version), sheet.expires);
        newest._extra.insert("issued".to_owned(), publication.issued.to_string().into());
        newest.meta.insert("snapshot.json".to_owned(), about);
        self.put("metadata/timestamp.json", &written(&signed(&newest, &sheet.keys)));
    }

    /// Returns the next root, with new keys for some roles, and the keys that sign it: two of the
    /// former root keys and two of its own.
    pub(crate) fn next_root(&mut self, roles: &[RoleType]) -> (Root, Vec<Key>) {
        let mut signers = self.keys[&RoleType::Root][..2].to_vec();
        for role in roles {
            let keys = self.keys.get_mut(role).expect("a role");
            for key in keys {
                *key = Key::new();
            }
        }
        if roles.contains(&RoleType::Root) {
            signers.extend_from_slice(&self.keys[&RoleType::Root][..2]);
        }
        self.root = root_of(self.root.version.get() + 1, &self.keys);
        (self.root.clone(), signers)
    }

    /// Writes a root as the one of its version.
    pub(crate) fn put_root(&self, root: &Root, signers: &[Key]) {
        let path = format!("metadata/{}.root.json", root.version);
        self.put(&path, &written(&signed(root, signers)));
    }

    /// Replaces the keys of some roles honestly, and signs everything again.
    pub(crate) fn rotate(&mut self, roles: &[RoleType]) {
        let (root, signers) = self.next_root(roles);
        self.put_root(&root, &signers);
        let next = self.next();
        self.write(&next);
    }
}
