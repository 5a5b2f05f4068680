//! Lock of a repository: one command at a time.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Exclusive lock of a repository. It is released when the process ends, however it ends.
///
/// The lock is taken by `flock`, so that an upload can hold it too.
pub(super) struct Lock {
    _file: Option<File>,
}

impl Lock {
    /// Takes the lock. A dry run creates no lock file, and runs without a lock if there is none.
    pub(super) fn take(folder: &Path, dry_run: bool) -> Result<Self> {
        let name = folder.display();
        ensure!(
            folder.is_dir(),
            "{name}: there is no such folder; publish init makes a repository"
        );
        let path = folder.join(".publish.lock");
        let opened = if dry_run { File::open(&path) } else { File::create(&path) };
        let file = match opened {
            Err(error) if dry_run && error.kind() == ErrorKind::NotFound => {
                return Ok(Self { _file: None });
            }
            opened => opened.with_context(|| path.display().to_string())?,
        };
        file.try_lock()
            .with_context(|| format!("{name}: another command works on this repository"))?;
        Ok(Self { _file: Some(file) })
    }
}
