//! Creation of new keys.
//!
//! Before the first key file is written, the ids of all new keys are noted in the repository. An
//! interrupted command leaves keys that no root names. The next command reuses the keys in this
//! note, and no others: any other key file may belong to another repository, or may have been
//! planted.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::key::SigningKey;
use super::key_ring::{KeyRing, PASSPHRASE};
use super::plan::Plan;
use super::role::Role;
use super::writing::folder_of;
use crate::hex::hex;

/// File in the repository with the ids of the keys that a command is creating, one per line.
const NOTE: &str = ".publish.new-keys";

/// Creates keys, or reuses the keys of an interrupted command.
pub(super) struct NewKeys<'a> {
    ring: &'a KeyRing,
    note: PathBuf,
    /// Ids in the note of an interrupted command.
    noted: BTreeSet<String>,
    /// Ids of keys that any root names, and of keys that were returned.
    used: BTreeSet<String>,
    made: BTreeSet<String>,
    plan: Plan,
}

impl<'a> NewKeys<'a> {
    /// Opens the note of a repository. `used` are the ids of all keys in its present and former
    /// roots.
    pub(super) fn new(
        ring: &'a KeyRing,
        repository: &Path,
        used: BTreeSet<String>,
    ) -> Result<Self> {
        let note = repository.join(NOTE);
        let text = match std::fs::read_to_string(&note) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            text => text.with_context(|| note.display().to_string())?,
        };
        let noted = text.lines().map(str::to_owned).collect();
        Ok(Self { ring, note, noted, used, made: BTreeSet::new(), plan: Plan::default() })
    }

    /// Returns a key that no root has named yet. With `at`, the key is read from this file, or
    /// created and written there if the file does not exist. Without `at`, it is a key of an
    /// interrupted command, or a new one in the key folder.
    pub(super) fn key(&mut self, role: Role, at: Option<&Path>) -> Result<SigningKey> {
        let (key, path) = match at {
            Some(path) if path.exists() => (self.taken_up(role, path)?, path.to_owned()),
            Some(path) => {
                expect_folder(path)?;
                (self.made(role, path, SigningKey::generate()?)?, path.to_owned())
            }
            None => self.in_folder(role)?,
        };
        ensure!(
            self.used.insert(hex(key.id())),
            "{}: key {} is or was in a root, or is named twice; expected a new one",
            path.display(),
            key.short_id()
        );
        Ok(key)
    }

    /// Returns two plans: the first writes the note and the keys. The last removes the note, and
    /// runs once the root that names the keys is in place.
    pub(super) fn steps(self) -> (Plan, Plan) {
        let mut first = Plan::default();
        let mut last = Plan::default();
        if !self.made.is_empty() {
            let ids: Vec<&str> = self.noted.union(&self.made).map(String::as_str).collect();
            first.add_note(&self.note, (ids.join("\n") + "\n").into_bytes());
        }
        first.append(self.plan);
        if !self.made.is_empty() || self.note.exists() {
            last.remove_note(&self.note);
        }
        (first, last)
    }

    /// Returns a key that an interrupted command left in the folder, or creates one there.
    fn in_folder(&mut self, role: Role) -> Result<(SigningKey, PathBuf)> {
        let place = |id: &String| {
            let path = self.ring.in_folder(role, id.get(..8)?);
            path.filter(|path| path.exists()).map(|path| (id.clone(), path))
        };
        let left = self.noted.difference(&self.used).find_map(place);
        if let Some((id, path)) = left {
            let name = path.display();
            let key = self.taken_up(role, &path).with_context(|| {
                format!("{name}: left by an interrupted command, for this one; delete it if it is of no use")
            })?;
            ensure!(hex(key.id()) == id, "{name}: not the key that an interrupted command made");
            ensure!(
                key.is_encrypted() || self.ring.unencrypted,
                "{name}: not encrypted, though new keys are; say --unencrypted to take it up, or delete it"
            );
            return Ok((key, path));
        }
        let key = SigningKey::generate()?;
        let path = self
            .ring
            .in_folder(role, &key.short_id())
            .with_context(|| format!("where shall the new key of {role} be? --keys DIR says it"))?;
        Ok((self.made(role, &path, key)?, path))
    }

    /// Reads an existing key, and records its use in the plan.
    fn taken_up(&mut self, role: Role, path: &Path) -> Result<SigningKey> {
        let key = SigningKey::read(path, &self.ring.passphrases)?;
        self.plan.take_up(path, format!("key {} of {role}", key.short_id()));
        Ok(key)
    }

    /// Adds a new key to the plan, encrypted unless `unencrypted` is set.
    fn made(&mut self, role: Role, path: &Path, key: SigningKey) -> Result<SigningKey> {
        let passphrase = match (self.ring.passphrases.first(), self.ring.unencrypted) {
            (_, true) => None,
            (Some(passphrase), false) => Some(passphrase.as_str()),
            (None, false) => bail!(
                "new keys are encrypted: give a passphrase by {PASSPHRASE} or --passphrase-file, or say --unencrypted"
            ),
        };
        self.plan.add_secret(path, key.to_pem(passphrase)?, format!("the new key of {role}"));
        self.made.insert(hex(key.id()));
        Ok(key)
    }
}

/// Checks that the folder of a named key file exists. The folder is not created: it may be a medium
/// that is not mounted.
fn expect_folder(path: &Path) -> Result<()> {
    let folder = folder_of(path).filter(|folder| !folder.is_dir());
    match folder {
        Some(folder) => bail!(
            "{}: there is no folder {}; a key is written into no folder that must be made first",
            path.display(),
            folder.display()
        ),
        None => Ok(()),
    }
}
