//! A taught device, a repository, the server between them, and the checks after an attack.

use std::path::Path;

use fmlora_device::Thing;
use redb::ReadableDatabase;
use serde_json::Value;

use super::server::Server;
use super::site::{Listed, Site};
use super::workshop::Workshop;
use crate::setting::{Run, Setting, finish, text};

/// A device and the repository that it trusts.
pub(crate) struct Scene {
    pub(crate) setting: Setting,
    pub(crate) site: Site,
    pub(crate) server: Server,
    pub(crate) workshop: &'static Workshop,
    /// Fail points for the commands that follow: failures, and the time.
    pub(crate) failpoints: String,
}

/// State, predictions and files of a device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    exported: Vec<u8>,
    predictions: String,
    files: Vec<String>,
}

/// A hostile or broken action, and a part of the device's message about it.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) says: &'static str,
    pub(crate) make: fn(&mut Scene),
}

impl Scene {
    /// Makes a device with a ball and a mug taught, and an empty repository.
    pub(crate) fn new(workshop: &'static Workshop) -> Self {
        let setting = Setting::new();
        let site = Site::new();
        if let Some(base) = workshop.file {
            std::fs::write(setting.path("base.fmlb"), base).expect("a file");
        }
        std::fs::copy(site.first_root(), setting.path("root.json")).expect("a copy");
        let server = Server::start(site.folder());
        let scene = Self { setting, site, server, workshop, failpoints: String::new() };
        for thing in [Thing::Ball, Thing::Mug] {
            scene.teach(thing);
            scene.setting.pictures("exam", thing, 2, 3);
        }
        scene
    }

    /// Makes a device with release 1 of `garden` in use, which brought a tree.
    pub(crate) fn updated(workshop: &'static Workshop) -> Self {
        let mut scene = Self::new(workshop);
        scene.offer(1);
        scene.taken("garden-1.fmla");
        scene
    }

    /// Makes another device in the same state, with a copy of the repository.
    pub(crate) fn copy(&self) -> Self {
        let setting = Setting::new();
        let site = self.site.copy();
        copy_folder(&self.setting.path(""), &setting.path(""));
        let server = Server::start(site.folder());
        let failpoints = self.failpoints.clone();
        Self { setting, site, server, workshop: self.workshop, failpoints }
    }

    /// Publishes a release of `garden` with a tree, and later ones also with a star.
    pub(crate) fn offer(&mut self, release: u64) {
        let lessons = [("tree", Thing::Tree), ("star", Thing::Star)];
        let n = if release == 1 { 1 } else { 2 };
        self.site.publish(Listed::of(&self.workshop.rank_0("garden", release, &lessons[..n])));
    }

    pub(crate) fn teach(&self, thing: Thing) {
        let folder = format!("shots-{}", thing.name());
        self.setting.pictures(&folder, thing, 6, 1);
        let taught = self.run(&["teach", "--class", thing.name(), &folder]);
        assert_eq!(taught.code, 0, "{}", taught.stderr);
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let mut all = vec!["--json", "--device", "cpu"];
        if self.workshop.file.is_some() {
            all.extend(["--base", "base.fmlb"]);
        }
        let mut command = self.setting.command(&[&all[..], arguments].concat());
        // Temporary files that are left behind are found here.
        let temporary = self.setting.path("temporary");
        std::fs::create_dir_all(&temporary).expect("a folder");
        command.env("TMPDIR", temporary).env("FAILPOINTS", &self.failpoints);
        finish(&mut command)
    }

    /// Returns the output of a command that must succeed.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {}", run.stderr);
        let line = run.stdout.lines().next().expect("a line of JSON");
        serde_json::from_str(line).expect("JSON")
    }

    /// Runs one round of updates.
    pub(crate) fn update(&self) -> Run {
        let root = self.setting.path("root.json");
        self.run(&["update", "--from", &self.server.url(), "--root", text(&root)])
    }

    /// Runs one round that must apply this adapter.
    pub(crate) fn taken(&self, target: &str) {
        let run = self.update();
        assert_eq!(run.code, 0, "{target}: {}", run.stderr);
        assert_eq!(applied(&run), target, "{}", run.stdout);
    }

    /// Returns the names and shots of all classes.
    pub(crate) fn classes(&self) -> Vec<(String, u64)> {
        let classes = self.json(&["classes"]);
        let class = |class: &Value| {
            let name = class["name"].as_str().expect("a name").to_owned();
            (name, class["shots"].as_u64().expect("a number"))
        };
        classes.as_array().expect("a list").iter().map(class).collect()
    }

    /// Exports the state, and returns its bytes.
    pub(crate) fn exported(&self) -> Vec<u8> {
        self.json(&["export", "exported.fmls"]);
        std::fs::read(self.setting.path("exported.fmls")).expect("the exported file")
    }

    pub(crate) fn known(&self) -> Known {
        let exam = self.run(&["classify", "exam"]);
        assert_eq!(exam.code, 0, "{}", exam.stderr);
        Known { exported: self.exported(), predictions: exam.stdout, files: self.files() }
    }

    /// Reads a value of the table `meta` in the state, without the checksum that follows it.
    pub(crate) fn remembered(&self, key: &str) -> Option<Vec<u8>> {
        let state = self.setting.path("state/state.redb");
        let database = redb::Database::open(state).expect("the state");
        let read = database.begin_read().expect("a transaction");
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
        let meta = read.open_table(meta).expect("a table");
        let stored = meta.get(key).expect("read")?.value().to_vec();
        let (value, _) = stored.split_last_chunk::<32>().expect("a checksum");
        Some(value.to_vec())
    }

    /// Runs one round that must apply nothing, with this message.
    pub(crate) fn not_taken(&self, says: &str) {
        let run = self.update();
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(applied(&run).is_empty() && said.contains(says), "{says}: {said}");
    }

    /// Lists the files in the state directory and among the temporary ones.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        for folder in ["state", "temporary"] {
            let entries = std::fs::read_dir(self.setting.path(folder)).expect("a folder");
            let name = |name: std::ffi::OsString| format!("{folder}/{}", name.to_string_lossy());
            files.extend(entries.flatten().map(|entry| name(entry.file_name())));
        }
        files.sort();
        files
    }

    /// Makes an attack. Returns the fault in the device's response, or in its state after the
    /// attack.
    fn repels(&mut self, attack: &Attack, before: &Known) -> Result<(), String> {
        (attack.make)(self);
        let run = self.update();
        let said = format!("{}{}", run.stdout, run.stderr);
        if !applied(&run).is_empty() {
            return Err(format!("taken: {said}"));
        }
        if !said.contains(attack.says) || said.contains("repository.invalid") {
            return Err(format!("says: {said}"));
        }
        if ![0, 1].contains(&run.code) {
            return Err(format!("ends with {}: {said}", run.code));
        }
        let mut after = self.known();
        // A partial download is kept for the next try, which may be of another file.
        after.files.retain(|file| file != "state/update.part");
        if after != *before {
            return Err(format!("changed: {:?} {:?}", before.files, after.files));
        }
        // The next good update must be applied as usual.
        self.server.heal();
        self.failpoints.clear();
        self.offer(50);
        let run = self.update();
        if applied(&run) != "garden-50.fmla" {
            return Err(format!("the next good update: {}{}", run.stdout, run.stderr));
        }
        let files = self.files();
        if files != before.files {
            return Err(format!("left behind: {files:?}"));
        }
        Ok(())
    }
}

/// Returns the target that a round applied; empty if none.
pub(crate) fn applied(run: &Run) -> String {
    let answer: Value = serde_json::from_str(run.stdout.trim()).unwrap_or_default();
    answer["applied"]["target"].as_str().unwrap_or_default().to_owned()
}

/// Makes every attack on a device of its own, and reports all that were not repelled.
pub(crate) fn repelled(attacks: &[Attack]) {
    let ground = Scene::updated(Workshop::toy());
    let before = ground.known();
    let mut wrong = Vec::new();
    for attack in attacks {
        if let Err(why) = ground.copy().repels(attack, &before) {
            wrong.push(format!("{}: {why}", attack.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let from = entry.path();
        let to = to.join(entry.file_name());
        if from.is_dir() {
            copy_folder(&from, &to);
        } else {
            std::fs::copy(from, to).expect("a copy");
        }
    }
}
