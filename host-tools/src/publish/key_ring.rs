//! Key files of roles.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tough::schema::Root;
use tough::schema::decoded::{Decoded, Hex};
use zeroize::Zeroizing;

use super::arguments::KeyArgs;
use super::key::{SigningKey, short};
use super::role::Role;

/// Environment variable that may hold the passphrase.
pub(super) const PASSPHRASE: &str = "FMLORA_KEY_PASSPHRASE";

/// Key files named one by one, and the folder of all other keys.
pub(super) struct KeyRing {
    pub(super) folder: Option<PathBuf>,
    named: Vec<(Role, PathBuf)>,
    /// Existing keys of `named`.
    opened: Vec<SigningKey>,
    pub(super) passphrases: Vec<Zeroizing<String>>,
    /// True to write new keys without a passphrase.
    pub(super) unencrypted: bool,
}

impl KeyRing {
    /// Reads the passphrases and the named keys. All named files must exist.
    pub(super) fn open(args: &KeyArgs) -> Result<Self> {
        let ring = Self::for_init(args)?;
        for (role, path) in &ring.named {
            ensure!(path.exists(), "{}: there is no such file, named for {role}", path.display());
        }
        Ok(ring)
    }

    /// Reads the same for `init`, which creates missing keys.
    pub(super) fn for_init(args: &KeyArgs) -> Result<Self> {
        let mut passphrases = Vec::new();
        for path in &args.passphrase_file {
            let text = std::fs::read_to_string(path)
                .map(Zeroizing::new)
                .with_context(|| path.display().to_string())?;
            let first = text.lines().next().unwrap_or_default();
            ensure!(!first.is_empty(), "{}: its first line is empty", path.display());
            passphrases.push(Zeroizing::new(first.to_owned()));
        }
        if let Ok(passphrase) = std::env::var(PASSPHRASE).map(Zeroizing::new) {
            ensure!(!passphrase.is_empty(), "{PASSPHRASE} is empty");
            passphrases.push(passphrase);
        }
        let roots = args.root_key.iter().map(|path| (Role::Root, path.clone()));
        let others = args.key.iter().map(|key| (key.role, key.file.clone()));
        let named: Vec<(Role, PathBuf)> = roots.chain(others).collect();
        let existing = named.iter().filter(|(_, path)| path.exists());
        let opened = existing.map(|(_, path)| SigningKey::read(path, &passphrases));
        Ok(Self {
            folder: args.keys.clone(),
            opened: opened.collect::<Result<_>>()?,
            named,
            passphrases,
            unencrypted: args.unencrypted,
        })
    }

    /// Returns the files named for a role.
    pub(super) fn named(&self, role: Role) -> Vec<&Path> {
        self.named.iter().filter(|(r, _)| *r == role).map(|(_, path)| path.as_path()).collect()
    }

    /// Returns the available keys of a role, which must be as many as the role needs. A file in the
    /// folder that cannot be opened counts as missing: the other keys may be enough.
    pub(super) fn of_role(&self, root: &Root, role: Role) -> Result<Vec<SigningKey>> {
        let mut keys = Vec::new();
        let mut missing = Vec::new();
        let of_role = root.roles.get(&role.kind());
        for id in of_role.map_or(&[][..], |keys| &keys.keyids) {
            if let Some(key) = self.opened.iter().find(|key| key.id() == id) {
                keys.push(key.clone());
                continue;
            }
            match self.read_in_folder(role, id) {
                Ok(Some(key)) => keys.push(key),
                Ok(None) => missing.push(self.place(role, id)),
                Err(error) => missing.push(format!("{error:#}")),
            }
        }
        let needed = of_role.map_or(1, |keys| keys.threshold.get());
        ensure!(
            keys.len() as u64 >= needed,
            "{role} needs {needed} of its keys, {} at hand; {}",
            keys.len(),
            missing.join("; ")
        );
        Ok(keys)
    }

    /// Reads a key from the folder; `None` if it has no such file.
    fn read_in_folder(&self, role: Role, id: &Decoded<Hex>) -> Result<Option<SigningKey>> {
        let Some(path) = self.in_folder(role, &short(id)).filter(|path| path.exists()) else {
            return Ok(None);
        };
        let key = SigningKey::read(&path, &self.passphrases)?;
        ensure!(key.id() == id, "{}: another key than its name says", path.display());
        Ok(Some(key))
    }

    /// Returns the path in the folder of a role's key with this short id; `None` without a folder.
    pub(super) fn in_folder(&self, role: Role, id: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{role}-{id}.pem")))
    }

    /// Describes where a key was expected.
    fn place(&self, role: Role, id: &Decoded<Hex>) -> String {
        let id = short(id);
        let option = match role {
            Role::Root => "--root-key ".to_owned(),
            role => format!("--key {role}="),
        };
        let option = format!("{option}FILE with key {id}");
        match self.in_folder(role, &id) {
            Some(path) => format!("expected {} or {option}", path.display()),
            None => format!("expected {option}"),
        }
    }
}
