//! Plan of the files that a command writes, in an order that may be interrupted at any step.
//!
//! Every file is written atomically. Of the files that devices read, only `timestamp.json` is
//! replaced, and the next root appears under a new name. All other files are new, or were left by
//! an interrupted command, and no device reads them until one of these two leads to them. So after
//! an interruption, devices find the old state of the repository or the new one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::warn;
use super::writing::{Readers, remove_file, write_file};
use crate::files;

/// Files to write, in order.
#[derive(Default)]
pub(super) struct Plan {
    steps: Vec<Step>,
    /// Existing keys that are used, each with a description.
    taken_up: Vec<(PathBuf, String)>,
}

struct Step {
    path: PathBuf,
    content: Content,
    what: String,
}

enum Content {
    Public(Vec<u8>),
    /// A key: readable by its owner only. It never replaces a file.
    Secret(Zeroizing<String>),
    /// A record for the next command in case this one is interrupted. It is not reported.
    Note(Vec<u8>),
    /// Removal of a note that is no longer needed.
    NoteRemoved,
}

impl Content {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Public(bytes) | Self::Note(bytes) => bytes,
            Self::Secret(text) => text.as_bytes(),
            Self::NoteRemoved => &[],
        }
    }
}

impl Plan {
    /// Adds a file that all users may read.
    pub(super) fn add(&mut self, path: &Path, bytes: Vec<u8>, what: impl Into<String>) {
        self.step(path, Content::Public(bytes), what);
    }

    /// Adds a key file.
    pub(super) fn add_secret(
        &mut self,
        path: &Path,
        text: Zeroizing<String>,
        what: impl Into<String>,
    ) {
        self.step(path, Content::Secret(text), what);
    }

    /// Adds a note for the next command.
    pub(super) fn add_note(&mut self, path: &Path, bytes: Vec<u8>) {
        self.step(path, Content::Note(bytes), "");
    }

    /// Adds the removal of the note.
    pub(super) fn remove_note(&mut self, path: &Path) {
        self.step(path, Content::NoteRemoved, "");
    }

    fn step(&mut self, path: &Path, content: Content, what: impl Into<String>) {
        self.steps.push(Step { path: path.to_owned(), content, what: what.into() });
    }

    /// Records the use of an existing key file.
    pub(super) fn take_up(&mut self, path: &Path, what: impl Into<String>) {
        self.taken_up.push((path.to_owned(), what.into()));
    }

    /// Appends the steps of another plan.
    pub(super) fn append(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.taken_up.extend(other.taken_up);
    }

    /// Writes all files, or lists them in a dry run. Existing files with the same bytes are not
    /// written.
    pub(super) fn carry_out(self, dry_run: bool) -> Result<Done> {
        self.check_secrets()?;
        let mut written = Vec::new();
        for Step { path, content, what } in self.steps {
            let here = std::fs::read(&path).is_ok_and(|old| old == content.bytes());
            if here && !matches!(content, Content::NoteRemoved) {
                continue;
            }
            if !dry_run {
                write(&path, &content).with_context(|| path.display().to_string())?;
            }
            if matches!(content, Content::Public(_) | Content::Secret(_)) {
                written.push(Written { path, bytes: content.bytes().len(), what });
            }
        }
        Ok(Done { dry_run, taken_up: self.taken_up, written })
    }

    /// Checks that no key replaces a file, and that no two keys have the same path.
    fn check_secrets(&self) -> Result<()> {
        let mut paths = BTreeSet::new();
        for step in self.steps.iter().filter(|step| matches!(step.content, Content::Secret(_))) {
            let path = step.path.display();
            ensure!(
                !step.path.exists(),
                "{path}: there is a file already, and a key replaces none"
            );
            ensure!(paths.insert(&step.path), "{path}: named for two keys, expected a file a key");
        }
        Ok(())
    }
}

fn write(path: &Path, content: &Content) -> Result<()> {
    let readers = match content {
        Content::NoteRemoved => return remove_file(path),
        Content::Secret(_) => Readers::Owner,
        Content::Public(_) | Content::Note(_) => Readers::Everybody,
    };
    write_file(path, content.bytes(), readers)
}

/// A file that was written, or would be in a dry run.
struct Written {
    path: PathBuf,
    bytes: usize,
    what: String,
}

/// Result of a plan: the files that were written, or would be in a dry run.
pub(super) struct Done {
    dry_run: bool,
    taken_up: Vec<(PathBuf, String)>,
    written: Vec<Written>,
}

impl Done {
    /// Prints the files, then `lines`; as JSON the files and `more`.
    ///
    /// After a completed write, an output error is only a warning: a script that saw a failure
    /// would run the command again.
    pub(super) fn print(&self, as_json: bool, more: Value, lines: &[String]) -> Result<()> {
        let printed = self.try_print(as_json, more, lines);
        match printed {
            Err(error) if !self.dry_run => {
                warn(&format!("done, but the report cannot be written: {error:#}"));
                Ok(())
            }
            printed => printed,
        }
    }

    fn try_print(&self, as_json: bool, more: Value, lines: &[String]) -> Result<()> {
        if as_json {
            let taken_up: Vec<String> =
                self.taken_up.iter().map(|(path, _)| path.display().to_string()).collect();
            let files: Vec<Value> = self.written.iter().map(Written::json).collect();
            let mut all = json!({ "dry_run": self.dry_run, "taken_up": taken_up, "files": files });
            if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
                all.extend(more);
            }
            return files::line(all);
        }
        for (path, what) in &self.taken_up {
            files::line(format!("takes up {}: {what}", path.display()))?;
        }
        let verb = if self.dry_run { "would write" } else { "wrote" };
        for Written { path, bytes, what } in &self.written {
            files::line(format!("{verb} {} ({bytes} bytes): {what}", path.display()))?;
        }
        lines.iter().try_for_each(files::line)
    }
}

impl Written {
    fn json(&self) -> Value {
        json!({ "path": self.path.display().to_string(), "bytes": self.bytes, "what": self.what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys are refused before anything is written, with and without `dry_run`.
    #[test]
    fn a_key_replaces_no_file_and_has_a_place_of_its_own() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("old.pem"), "old").expect("written");
        for (places, says) in [
            (["new.pem", "old.pem"], "a key replaces none"),
            (["new.pem", "new.pem"], "named for two keys"),
        ] {
            for dry_run in [true, false] {
                let mut plan = Plan::default();
                for place in places {
                    plan.add_secret(&path(place), Zeroizing::new("key".to_owned()), "key");
                }
                let error = plan.carry_out(dry_run).err().expect("refused");
                assert!(format!("{error:#}").contains(says), "{error:#}");
                assert!(!path("new.pem").exists());
                assert_eq!(std::fs::read(path("old.pem")).expect("a file"), b"old");
            }
        }
    }
}
