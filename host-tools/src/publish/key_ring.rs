//! Which file keeps the key that a role needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tough::schema::Root;
use tough::schema::decoded::{Decoded, Hex};
use zeroize::Zeroizing;

use super::arguments::KeyArgs;
use super::key::{SigningKey, short};
use super::plan::Plan;
use super::role::Role;

/// The variable that may hold the passphrase.
const PASSPHRASE: &str = "FMLORA_KEY_PASSPHRASE";

/// Keys that were named one by one, and the folder of the others.
pub(super) struct KeyRing {
    folder: Option<PathBuf>,
    named: Vec<(Role, PathBuf)>,
    /// Those of `named` that exist, opened.
    opened: Vec<SigningKey>,
    passphrases: Vec<Zeroizing<String>>,
    unencrypted: bool,
}

impl KeyRing {
    /// Reads passphrases, and the keys that are named one by one and exist.
    pub(super) fn new(args: &KeyArgs) -> Result<Self> {
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

    /// The keys of a role that are at hand, as many as the role needs or more.
    pub(super) fn of_role(&self, root: &Root, role: Role) -> Result<Vec<SigningKey>> {
        let (keys, missing) = self.at_hand(root, role)?;
        let needed = root.roles.get(&role.kind()).map_or(1, |keys| keys.threshold.get());
        ensure!(
            keys.len() as u64 >= needed,
            "{role} needs {needed} of its keys, {} at hand; expected {}",
            keys.len(),
            missing.join(", or ")
        );
        Ok(keys)
    }

    /// The keys of a role that are at hand, and where the others were expected.
    pub(super) fn at_hand(
        &self,
        root: &Root,
        role: Role,
    ) -> Result<(Vec<SigningKey>, Vec<String>)> {
        let (mut keys, mut missing) = (Vec::new(), Vec::new());
        let ids = root.roles.get(&role.kind()).map(|keys| keys.keyids.as_slice());
        for id in ids.unwrap_or_default() {
            if let Some(key) = self.opened.iter().find(|key| key.id() == id) {
                keys.push(key.clone());
                continue;
            }
            let option = if role == Role::Root {
                "--root-key ".to_owned()
            } else {
                format!("--key {role}=")
            };
            let option = format!("{option}FILE with key {}", short(id));
            let Some(path) = self.in_folder(role, id) else {
                missing.push(option);
                continue;
            };
            if path.exists() {
                let key = SigningKey::read(&path, &self.passphrases)?;
                ensure!(key.id() == id, "{}: another key than its name says", path.display());
                keys.push(key);
            } else {
                missing.push(format!("{} or {option}", path.display()));
            }
        }
        Ok((keys, missing))
    }

    fn in_folder(&self, role: Role, id: &Decoded<Hex>) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{role}-{}.pem", short(id))))
    }

    /// A key for a role that has none yet: read from `at` if it is there, made and written there otherwise. Without `at`, a
    /// key of the folder that no root has named (`used`), left by a start that ended early, or a new one in the folder.
    pub(super) fn new_key(
        &self,
        role: Role,
        at: Option<&Path>,
        used: &BTreeSet<Vec<u8>>,
        plan: &mut Plan,
    ) -> Result<SigningKey> {
        if let Some(path) = at.filter(|path| path.exists()) {
            return SigningKey::read(path, &self.passphrases);
        }
        if let (None, Some(folder)) = (at, &self.folder)
            && let Some(key) = self.left_over(role, folder, used)?
        {
            return Ok(key);
        }
        let key = SigningKey::generate()?;
        let path = match at {
            Some(path) => path.to_owned(),
            None => self.in_folder(role, key.id()).with_context(|| {
                format!("where shall the new key of {role} be? --keys DIR says it")
            })?,
        };
        let passphrase = match (self.passphrases.first(), self.unencrypted) {
            (_, true) => None,
            (Some(passphrase), false) => Some(passphrase.as_str()),
            (None, false) => bail!(
                "new keys are encrypted: give a passphrase by {PASSPHRASE} or --passphrase-file, or say --unencrypted"
            ),
        };
        plan.add_secret(&path, key.to_pem(passphrase)?, format!("the new key of {role}"));
        Ok(key)
    }

    /// A key of the folder that was made for a role but is in no root.
    fn left_over(
        &self,
        role: Role,
        folder: &Path,
        used: &BTreeSet<Vec<u8>>,
    ) -> Result<Option<SigningKey>> {
        let Ok(entries) = std::fs::read_dir(folder) else { return Ok(None) };
        let mut paths: Vec<PathBuf> =
            entries.map(|e| e.map(|e| e.path())).collect::<std::io::Result<_>>()?;
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let id = name.strip_prefix(&format!("{role}-")).and_then(|n| n.strip_suffix(".pem"));
            let Some(id) = id else { continue };
            if used.iter().any(|used| short(&used.clone().into()) == id) {
                continue;
            }
            let key = SigningKey::read(&path, &self.passphrases)?;
            ensure!(key.short_id() == id, "{}: another key than its name says", path.display());
            return Ok(Some(key));
        }
        Ok(None)
    }
}
