//! The roots of a repository, each signed by the one before it.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tough::schema::{Root, Signed};

use super::repository::{metadata, parse};
use crate::hex::hex;

/// Reads all roots. Each one must be signed as the root before it and the root itself ask for.
/// Returns an empty list if there is no root.
pub(super) fn read_roots(folder: &Path) -> Result<Vec<Signed<Root>>> {
    let versions = numbered(folder)?.into_iter().filter(|(_, of)| of == "root.json");
    let newest = versions.map(|(version, _)| version).max().unwrap_or(0);
    let mut roots: Vec<Signed<Root>> = Vec::new();
    for version in 1..=newest {
        let path = metadata(folder, &format!("{version}.root.json"));
        let name = path.display();
        ensure!(
            path.exists(),
            "{name}: missing, but {newest}.root.json is there: copy it back from the server"
        );
        let bytes = std::fs::read(&path).with_context(|| name.to_string())?;
        let root = parse::<Root>(&path, &bytes)?;
        for judge in roots.last().into_iter().chain([&root]) {
            judge.signed.verify_role(&root).with_context(|| name.to_string())?;
        }
        let found = root.signed.version;
        ensure!(found.get() == version, "{name}: of version {found}, expected {version}");
        roots.push(root);
    }
    Ok(roots)
}

/// Returns the ids of all keys that these roots name.
pub(super) fn known_keys(roots: &[Signed<Root>]) -> BTreeSet<String> {
    roots.iter().flat_map(|root| root.signed.keys.keys()).map(|id| hex(id)).collect()
}

/// Checks that a repository without `timestamp.json` is the rest of an interrupted `init`: at most
/// version 1 of all metadata, and no adapter. Any other content is a repository that has lost its
/// timestamp, and `init` would destroy it.
pub(super) fn check_beginning(folder: &Path, roots: &[Signed<Root>]) -> Result<()> {
    let numbered = numbered(folder)?;
    let later = numbered.iter().any(|(version, _)| *version > 1);
    let without_root = roots.is_empty() && !numbered.is_empty();
    let targets = entries(&folder.join("targets"))?;
    ensure!(
        !later && !without_root && targets.is_empty(),
        "{}: {} missing, though this repository is in use: copy it back from the server",
        folder.display(),
        if without_root {
            "metadata/1.root.json and metadata/timestamp.json are"
        } else {
            "metadata/timestamp.json is"
        }
    );
    Ok(())
}

/// Lists the metadata files with a version in their name: `N.role.json` is `N` and `role.json`.
fn numbered(folder: &Path) -> Result<Vec<(u64, String)>> {
    let parts = |path: PathBuf| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        let (version, of) = name.split_once('.')?;
        Some((version.parse().ok()?, of.to_owned()))
    };
    Ok(entries(&folder.join("metadata"))?.into_iter().filter_map(parts).collect())
}

/// Lists a folder, except for hidden files; empty if the folder does not exist.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    let mut all = read().with_context(|| folder.display().to_string())?;
    all.retain(|path| !path.file_name().unwrap_or_default().to_string_lossy().starts_with('.'));
    Ok(all)
}
