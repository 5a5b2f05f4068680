//! Files that appear whole or not at all, in folders that outlast a power cut.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use atomic_write_file::AtomicWriteFile;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    Everybody,
    Owner,
}

/// Writes a file beside its place, syncs it, renames it into its place and syncs the folder.
pub(super) fn write_file(path: &Path, bytes: &[u8], readers: Readers) -> Result<()> {
    if let Some(folder) = folder_of(path) {
        make_folder(folder)?;
    }
    interrupted()?;
    let mut options = AtomicWriteFile::options();
    if readers == Readers::Owner {
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let mut file = options.open(path)?;
    interrupted()?;
    // In two parts, so that a test can end the program between them.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    file.write_all(first)?;
    interrupted()?;
    file.write_all(second)?;
    interrupted()?;
    file.commit()?;
    interrupted()
}

/// Removes a file, if it is there.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    interrupted()?;
    if path.exists() {
        std::fs::remove_file(path)?;
        folder_of(path).map_or(Ok(()), sync_folder)?;
    }
    interrupted()
}

/// Makes a folder that is still there after a power cut.
pub(super) fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder_of(folder) {
        make_folder(above)?;
    }
    let make = || {
        std::fs::create_dir(folder)?;
        sync_folder(folder_of(folder).unwrap_or(Path::new(".")))
    };
    make().with_context(|| format!("{}: the folder cannot be made", folder.display()))
}

/// The folder that a path names before its last part.
pub(super) fn folder_of(path: &Path) -> Option<&Path> {
    path.parent().filter(|folder| !folder.as_os_str().is_empty())
}

/// What a folder holds is written with the folder; only unix lets one ask for it.
#[cfg_attr(not(unix), allow(clippy::unnecessary_wraps, reason = "nothing is done there"))]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    std::fs::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Where tests end the program, by an error or without any further step.
#[allow(clippy::unnecessary_wraps, reason = "builds without fail points never fail here")]
fn interrupted() -> Result<()> {
    fail::fail_point!("publish-step", |how| match how.as_deref() {
        Some("kill") => std::process::abort(),
        _ => Err(anyhow::anyhow!("simulated by a fail point")),
    });
    Ok(())
}
