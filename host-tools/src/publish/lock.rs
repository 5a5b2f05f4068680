//! One command at a time works on a repository.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Keeps other commands away while one works on a repository; goes with the program, however that ends.
///
/// The lock is that of `flock`, so that an upload can hold it too.
pub(super) struct Lock {
    _file: Option<File>,
}

impl Lock {
    /// Takes it. A dry run makes no file for it, and waits for nobody where there is none.
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
