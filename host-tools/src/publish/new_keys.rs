//! Keys that a command makes.
//!
//! Before the first of them is written, their ids are written down in the repository. A command that ended early has left
//! keys that nobody names: the next one takes up those whose ids stand there, and no others. Whatever else lies in the
//! folder of the keys belongs to another repository, or was put there by somebody else.

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

/// File of a repository with the ids of the keys that a command is making, one a line.
const NOTE: &str = ".publish.new-keys";

/// Makes keys, or takes up those that an interrupted command made.
pub(super) struct NewKeys<'a> {
    ring: &'a KeyRing,
    note: PathBuf,
    /// Ids that an interrupted command has written down.
    noted: BTreeSet<String>,
    /// Ids of keys that some root names, and of those that were given out.
    used: BTreeSet<String>,
    made: BTreeSet<String>,
    plan: Plan,
}

impl<'a> NewKeys<'a> {
    /// For a repository whose roots name, or named, the keys `used`.
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

    /// A key that no root has named yet: read from `at` if it is there, made and written there otherwise. Without `at`, one
    /// that an interrupted command made, or a new one in the folder.
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

    /// What writes the keys, which comes first, and what comes when the root that names them is in its place.
    pub(super) fn steps(self) -> (Plan, Plan) {
        let (mut first, mut last) = (Plan::default(), Plan::default());
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

    /// A key of the folder that an interrupted command made, or a new one there.
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
        let path = self.ring.in_folder(role, &key.short_id());
        let path = path
            .with_context(|| format!("where shall the new key of {role} be? --keys DIR says it"))?;
        Ok((self.made(role, &path, key)?, path))
    }

    /// Reads a key that is there.
    fn taken_up(&mut self, role: Role, path: &Path) -> Result<SigningKey> {
        let key = SigningKey::read(path, &self.ring.passphrases)?;
        self.plan.take_up(path, format!("key {} of {role}", key.short_id()));
        Ok(key)
    }

    /// Writes a key that was made.
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

/// A file that is named may lie on a medium that is not there: its folder is not made.
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
