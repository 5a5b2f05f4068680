//! What a command writes, in an order in which it may end anywhere.
//!
//! Every file appears whole or not at all: written beside its place, synced, renamed, the folder synced. Nothing that devices
//! read is changed but `timestamp.json` and, by a name that did not exist before, the next root; all else is
//! new until one of these two names it. So whatever was written when a command ended early, the repository is what it was
//! before or what it was to become.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use atomic_write_file::AtomicWriteFile;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::files;

/// Files to write, in their order.
#[derive(Default)]
pub(super) struct Plan {
    steps: Vec<Step>,
}

struct Step {
    path: PathBuf,
    content: Content,
    what: String,
}

enum Content {
    Public(Vec<u8>),
    /// A key: only its owner may read it, and no file is replaced by it.
    Secret(Zeroizing<String>),
}

impl Content {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Public(bytes) => bytes,
            Self::Secret(text) => text.as_bytes(),
        }
    }
}

impl Plan {
    /// A file for everybody.
    pub(super) fn add(&mut self, path: &Path, bytes: Vec<u8>, what: impl Into<String>) {
        let content = Content::Public(bytes);
        self.steps.push(Step { path: path.to_owned(), content, what: what.into() });
    }

    /// A key.
    pub(super) fn add_secret(
        &mut self,
        path: &Path,
        text: Zeroizing<String>,
        what: impl Into<String>,
    ) {
        let content = Content::Secret(text);
        self.steps.push(Step { path: path.to_owned(), content, what: what.into() });
    }

    /// Takes the steps of another plan behind these.
    pub(super) fn append(&mut self, other: Self) {
        self.steps.extend(other.steps);
    }

    /// Writes everything, or only says so.
    pub(super) fn carry_out(self, dry_run: bool) -> Result<Done> {
        let mut done = Done { dry_run, files: Vec::new() };
        for step in &self.steps {
            let unchanged = std::fs::read(&step.path).is_ok_and(|old| old == step.content.bytes());
            if !dry_run && !unchanged {
                step.write().with_context(|| step.path.display().to_string())?;
            }
            done.files.push((step.path.clone(), step.content.bytes().len(), step.what.clone()));
        }
        Ok(done)
    }
}

impl Step {
    fn write(&self) -> Result<()> {
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            make_folder(folder)?;
        }
        interrupted()?;
        let mut options = AtomicWriteFile::options();
        if let Content::Secret(_) = self.content {
            if self.path.exists() {
                bail!("there is a file already, and a key replaces none");
            }
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        let mut file = options.open(&self.path)?;
        file.write_all(self.content.bytes())?;
        interrupted()?;
        file.commit()?;
        interrupted()
    }
}

/// Makes a folder that is still there after a power cut.
pub(super) fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent().filter(|above| !above.as_os_str().is_empty()) {
        make_folder(above)?;
    }
    std::fs::create_dir(folder)?;
    // What a folder holds is written with the folder; only unix lets one ask for it.
    #[cfg(unix)]
    if let Some(above) = folder.parent() {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        std::fs::File::open(above)?.sync_all()?;
    }
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

/// What was written, or would be.
pub(super) struct Done {
    dry_run: bool,
    files: Vec<(PathBuf, usize, String)>,
}

impl Done {
    /// Prints the files, and `more` as JSON.
    pub(super) fn print(&self, as_json: bool, more: Value) -> Result<()> {
        if as_json {
            let file = |(path, bytes, what): &(PathBuf, usize, String)| json!({ "path": path.display().to_string(), "bytes": bytes, "what": what });
            let files: Vec<Value> = self.files.iter().map(file).collect();
            let mut all = json!({ "dry_run": self.dry_run, "files": files });
            if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
                all.extend(more);
            }
            return files::line(all);
        }
        let verb = if self.dry_run { "would write" } else { "wrote" };
        for (path, bytes, what) in &self.files {
            files::line(format!("{verb} {} ({bytes} bytes): {what}", path.display()))?;
        }
        Ok(())
    }
}
