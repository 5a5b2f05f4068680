//! Reading and writing files, and printing.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use atomic_write_file::AtomicWriteFile;

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))
}

/// Writes a file atomically: it appears complete or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = AtomicWriteFile::open(path)?;
        file.write_all(bytes)?;
        file.commit()
    };
    write().with_context(|| format!("{}: cannot be written", path.display()))
}

/// Checks that a file can be written, before a long computation: its folder exists, and its path is
/// not a folder.
pub(crate) fn check_place(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    let name = path.display();
    ensure!(folder.is_dir(), "{name}: there is no folder {} to write it into", folder.display());
    ensure!(!path.is_dir(), "{name}: a folder, expected the name of a file to write");
    Ok(())
}

/// Prints one line.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot write the output")
}
