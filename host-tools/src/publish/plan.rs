//! What a command writes, in an order in which it may end anywhere.
//!
//! Every file appears whole or not at all. Nothing that devices read is changed but `timestamp.json` and, by a name that did
//! not exist before, the next root; all else is new, or was left by a command that ended early, until one of these two leads
//! to it. So whatever was written when a command ended early, the repository is what it was before or what it was to become.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::warn;
use super::writing::{Readers, remove_file, write_file};
use crate::files;

/// Files to write, in their order.
#[derive(Default)]
pub(super) struct Plan {
    steps: Vec<Step>,
    /// Keys that are there already and are used, each with a word on it.
    taken_up: Vec<(PathBuf, String)>,
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
    /// What a command writes down for the next one, should it end early; nobody else is told of it.
    Note(Vec<u8>),
    /// A note that has done its work goes.
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
    /// A file for everybody.
    pub(super) fn add(&mut self, path: &Path, bytes: Vec<u8>, what: impl Into<String>) {
        self.step(path, Content::Public(bytes), what);
    }

    /// A key.
    pub(super) fn add_secret(
        &mut self,
        path: &Path,
        text: Zeroizing<String>,
        what: impl Into<String>,
    ) {
        self.step(path, Content::Secret(text), what);
    }

    /// A note for the next command.
    pub(super) fn add_note(&mut self, path: &Path, bytes: Vec<u8>) {
        self.step(path, Content::Note(bytes), "");
    }

    /// The note goes.
    pub(super) fn remove_note(&mut self, path: &Path) {
        self.step(path, Content::NoteRemoved, "");
    }

    fn step(&mut self, path: &Path, content: Content, what: impl Into<String>) {
        self.steps.push(Step { path: path.to_owned(), content, what: what.into() });
    }

    /// Says that a file is used which is there already.
    pub(super) fn take_up(&mut self, path: &Path, what: impl Into<String>) {
        self.taken_up.push((path.to_owned(), what.into()));
    }

    /// Takes the steps of another plan behind these.
    pub(super) fn append(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.taken_up.extend(other.taken_up);
    }

    /// Writes everything, or only says so. Files that are there with the same bytes are left alone.
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

    /// No key replaces a file, and no two of them have one place.
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

/// A file that was written, or would be.
struct Written {
    path: PathBuf,
    bytes: usize,
    what: String,
}

/// What was written, or would be.
pub(super) struct Done {
    dry_run: bool,
    taken_up: Vec<(PathBuf, String)>,
    written: Vec<Written>,
}

impl Done {
    /// Prints the files, then `lines`; as JSON the files and `more`.
    ///
    /// Once everything is written, a terminal that is gone is no failure: a script would do the same once more.
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

    /// Whether a run is dry or not, it is refused before anything is written.
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
