//! Reading and writing files, and printing.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use atomic_write_file::AtomicWriteFile;

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))
}

/// Writes a file that appears whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = AtomicWriteFile::open(path)?;
        file.write_all(bytes)?;
        file.commit()
    };
    write().with_context(|| format!("{}: cannot be written", path.display()))
}

/// Checks before a long work that its file can be written: its folder is there, and no folder has its name.
pub(crate) fn check_place(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let name = path.display();
    ensure!(folder.is_dir(), "{name}: there is no folder {} to write it into", folder.display());
    ensure!(!path.is_dir(), "{name}: a folder, expected the name of a file to write");
    Ok(())
}

/// Prints one line.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot write the output")
}
