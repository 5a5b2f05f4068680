//! Which file keeps the key that a role needs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tough::schema::Root;
use tough::schema::decoded::{Decoded, Hex};
use zeroize::Zeroizing;

use super::arguments::KeyArgs;
use super::key::{SigningKey, short};
use super::role::Role;

/// The variable that may hold the passphrase.
pub(super) const PASSPHRASE: &str = "FMLORA_KEY_PASSPHRASE";

/// Keys that were named one by one, and the folder of the others.
pub(super) struct KeyRing {
    pub(super) folder: Option<PathBuf>,
    named: Vec<(Role, PathBuf)>,
    /// Those of `named` that exist, opened.
    opened: Vec<SigningKey>,
    pub(super) passphrases: Vec<Zeroizing<String>>,
    /// Whether new keys are written without a passphrase.
    pub(super) unencrypted: bool,
}

impl KeyRing {
    /// Reads passphrases, and the keys that are named one by one: all of them must be there.
    pub(super) fn open(args: &KeyArgs) -> Result<Self> {
        let ring = Self::for_init(args)?;
        for (role, path) in &ring.named {
            ensure!(path.exists(), "{}: there is no such file, named for {role}", path.display());
        }
        Ok(ring)
    }

    /// The same for `init`, which makes keys where there are none yet.
    pub(super) fn for_init(args: &KeyArgs) -> Result<Self> {
        let mut passphrases = Vec::new();
        for path in &args.passphrase_file {
            let text = std::fs::read_to_string(path).map(Zeroizing::new);
            let text = text.with_context(|| path.display().to_string())?;
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

    /// Files that were named for a role.
    pub(super) fn named(&self, role: Role) -> Vec<&Path> {
        self.named.iter().filter(|(r, _)| *r == role).map(|(_, path)| path.as_path()).collect()
    }

    /// The keys of a role that are at hand, as many as the role needs or more. A file of the folder that cannot be opened is
    /// as good as one that is missing: the others may be enough.
    pub(super) fn of_role(&self, root: &Root, role: Role) -> Result<Vec<SigningKey>> {
        let (mut keys, mut missing) = (Vec::new(), Vec::new());
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

    /// A key of the folder, if it is there.
    fn read_in_folder(&self, role: Role, id: &Decoded<Hex>) -> Result<Option<SigningKey>> {
        let Some(path) = self.in_folder(role, &short(id)).filter(|path| path.exists()) else {
            return Ok(None);
        };
        let key = SigningKey::read(&path, &self.passphrases)?;
        ensure!(key.id() == id, "{}: another key than its name says", path.display());
        Ok(Some(key))
    }

    /// Where the key of a role with that short id is, or is to be, if there is a folder.
    pub(super) fn in_folder(&self, role: Role, id: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{role}-{id}.pem")))
    }

    /// Where a key was expected.
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
