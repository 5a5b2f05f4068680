//! Atomic file writes, in folders that survive a power cut.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use atomic_write_file::AtomicWriteFile;

/// Read permission of a file.
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
    // Two writes, so that a test can end the program between them.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    file.write_all(first)?;
    interrupted()?;
    file.write_all(second)?;
    interrupted()?;
    file.commit()?;
    interrupted()
}

/// Removes a file if it exists.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    interrupted()?;
    if path.exists() {
        std::fs::remove_file(path)?;
        folder_of(path).map_or(Ok(()), sync_folder)?;
    }
    interrupted()
}

/// Creates a folder, and its parents, so that it survives a power cut.
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

/// Returns the folder of a path; `None` for a bare file name.
pub(super) fn folder_of(path: &Path) -> Option<&Path> {
    path.parent().filter(|folder| !folder.as_os_str().is_empty())
}

/// Syncs the entries of a folder to disk. Only Unix supports this.
#[cfg_attr(not(unix), allow(clippy::unnecessary_wraps, reason = "nothing is done there"))]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    std::fs::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Fail point at which tests end the program, by an error or by an abort.
#[allow(clippy::unnecessary_wraps, reason = "builds without fail points never fail here")]
fn interrupted() -> Result<()> {
    fail::fail_point!("publish-step", |how| match how.as_deref() {
        Some("kill") => std::process::abort(),
        _ => Err(anyhow::anyhow!("simulated by a fail point")),
    });
    Ok(())
}
