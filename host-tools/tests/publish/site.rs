//! A repository in a temporary folder, written by the program and read by tough.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use fmlora_learner::format::{
    AdapterFacts, AdapterFile, AdapterName, DaemonVersion, encode_adapter,
};
use fmlora_learner::{
    AdapterTask, BaseId, Class, ClassName, Complexity, FeatureSpaceId, KnownAnswer, Matrix,
    TaskFactors, TaskSummary, TaskUpdate,
};
use fmlora_models::{Place, Site as Layer};
use serde_json::Value;
use tempfile::TempDir;
use tough::schema::RoleType;
use tough::{FilesystemTransport, IntoVec, Repository, RepositoryLoader, TargetName};
use url::Url;

/// Result of a command.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Asserts that the command succeeded.
    #[track_caller]
    pub(crate) fn done(&self) {
        assert_eq!(self.code, 0, "{}", self.stderr);
    }

    /// Asserts that the command failed, with all of `words` in its error.
    #[track_caller]
    pub(crate) fn refused(&self, words: &[&str]) {
        assert_eq!(self.code, 1, "{words:?}: {}", self.stdout);
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing: {}", self.stderr);
        }
    }
}

/// A temporary folder: `site` is the repository, `keys` has its keys.
pub(crate) struct Site {
    folder: TempDir,
}

impl Site {
    /// Creates an empty folder.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Creates an empty repository.
    pub(crate) fn ready() -> Self {
        let site = Self::new();
        site.run(&["init"]).done();
        site
    }

    /// Creates a repository with an adapter for 5 % of all devices.
    pub(crate) fn with_birds() -> Self {
        let site = Self::ready();
        site.adapter("birds-1.fmla", "birds", 1);
        site.run(&["add", "birds-1.fmla", "--percent", "5"]).done();
        site
    }

    /// Copies all files into a new folder.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        for (path, bytes) in self.all_files() {
            let path = copy.folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, bytes).expect("written");
        }
        copy
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("a file")
    }

    /// Returns all files with their bytes.
    pub(crate) fn all_files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(self.folder.path()).expect("below").to_owned();
                    files.insert(name, std::fs::read(&path).expect("a file"));
                }
            }
        }
        files
    }

    /// Runs `publish` with unencrypted keys.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(&[arguments, &["--unencrypted"]].concat(), &[])
    }

    /// Runs `publish` with environment variables.
    pub(crate) fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
        let place = ["--repo", "site", "--keys", "keys"];
        let all = [&["publish"], arguments, &place].concat();
        self.command(&all, environment)
    }

    /// Runs `publish` with unencrypted keys and a clock that is `days` days ahead.
    pub(crate) fn run_in_days(&self, days: i64, arguments: &[&str]) -> Run {
        self.run_by_clock(days * 24 * 60 * 60, arguments)
    }

    /// Runs `publish` with unencrypted keys and a clock that is `seconds` seconds ahead.
    pub(crate) fn run_by_clock(&self, seconds: i64, arguments: &[&str]) -> Run {
        let clock = format!("publish-clock=return({seconds})");
        self.run_with(&[arguments, &["--unencrypted"]].concat(), &[("FAILPOINTS", &clock)])
    }

    /// Runs any command.
    pub(crate) fn host_tools(&self, arguments: &[&str]) -> Run {
        self.command(arguments, &[])
    }

    /// Returns the exit code of `publish status`, and its output as JSON.
    pub(crate) fn status(&self, more: &[&str]) -> (i32, Value) {
        let done =
            self.host_tools(&[&["--json", "publish", "status", "--repo", "site"], more].concat());
        let all = serde_json::from_str(&done.stdout);
        (done.code, all.unwrap_or_else(|_| panic!("no JSON: {} {}", done.stdout, done.stderr)))
    }

    /// Returns a command for the program in the folder, without inherited settings of `publish`.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_host-tools"));
        command.env_remove("FMLORA_KEY_PASSPHRASE").env_remove("FMLORA_KEYS");
        command.env_remove("FAILPOINTS").current_dir(self.folder.path());
        command
    }

    fn command(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
        let mut command = self.program();
        let output = command.envs(environment.iter().copied()).args(arguments).output();
        let output = output.expect("the program starts");
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Writes an adapter with statistics only.
    pub(crate) fn adapter(&self, file: &str, name: &str, release: u64) {
        let base_id = BaseId::new([7; 32]);
        self.adapter_for(file, name, release, base_id.feature_space());
    }

    /// Writes an adapter for devices with these features.
    pub(crate) fn adapter_for(&self, file: &str, name: &str, release: u64, space: FeatureSpaceId) {
        self.adapter_of(file, name, release, [space, space], "robin");
    }

    /// Writes an adapter that leads from one feature space to another, or keeps it, and brings a
    /// class.
    pub(crate) fn adapter_of(
        &self,
        file: &str,
        name: &str,
        release: u64,
        [before, after]: [FeatureSpaceId; 2],
        class: &str,
    ) {
        let base_id = BaseId::new([7; 32]);
        let shots: Vec<Vec<f32>> =
            (0..6).map(|s| (0..8).map(|i| ((s * 8 + i) as f32).sin()).collect()).collect();
        let class = ClassName::new(class).expect("a sound name");
        let class = Arc::new(Class::from_shots(class, &shots).expect("sound shots"));
        let moves = before != after;
        let adapter = AdapterFile {
            facts: AdapterFacts {
                name: AdapterName::new(name).expect("a sound name"),
                base_id,
                space_before: before,
                space_after: after,
                release,
                min_daemon: DaemonVersion { major: 0, minor: 1, patch: 0 },
            },
            task: moves.then(task),
            drift: None,
            summary: TaskSummary::of(&[class], 4).expect("a sound class"),
            complexity: Complexity { difficulty: 0.5, novelty: 1.0, evidence: 0.1 },
            rank: u32::from(moves),
            accuracy: None,
            known_answer: KnownAnswer::of(&[0.5; 8]).expect("finite numbers"),
        };
        let bytes = encode_adapter(&adapter).expect("a sound adapter");
        std::fs::write(self.path(file), bytes).expect("written");
    }

    /// Loads the repository as a device that trusts the first root.
    pub(crate) fn load(&self) -> Result<Repository, Box<tough::error::Error>> {
        let url = |folder: &Path| Url::from_directory_path(folder).expect("an absolute path");
        let metadata = self.path("site/metadata");
        let targets = self.path("site/targets");
        let root = self.read("site/metadata/1.root.json");
        let loader = RepositoryLoader::new(&root, url(&metadata), url(&targets));
        block_on(loader.transport(FilesystemTransport).load()).map_err(Box::new)
    }

    /// Returns the `custom` object of a target, and its bytes.
    pub(crate) fn target(&self, name: &str) -> (Value, Vec<u8>) {
        let repository = self.load().expect("a repository");
        let name = TargetName::new(name).expect("a sound name");
        let target = &repository.targets().signed.targets[&name];
        let custom = serde_json::to_value(&target.custom).expect("JSON");
        let bytes = block_on(async {
            let stream = repository.read_target(&name).await.expect("a target");
            stream.expect("it is listed").into_vec().await.expect("whole")
        });
        (custom, bytes)
    }

    /// Returns the versions of root, targets, snapshot and timestamp.
    pub(crate) fn versions(&self) -> [u64; 4] {
        let found = self.load().expect("a repository");
        [
            found.root().signed.version.get(),
            found.targets().signed.version.get(),
            found.snapshot().signed.version.get(),
            found.timestamp().signed.version.get(),
        ]
    }

    /// Returns the beginning of the ids of a role's keys.
    pub(crate) fn key_ids(&self, role: &str) -> Vec<String> {
        let repository = self.load().expect("a repository");
        let role: RoleType = role.parse().expect("a role");
        let ids = &repository.root().signed.roles[&role].keyids;
        let text =
            |id| serde_json::to_value(id).expect("JSON").as_str().expect("a text")[..8].to_owned();
        ids.iter().map(text).collect()
    }
}

/// Creates a task of rank 1 in one layer.
fn task() -> AdapterTask {
    let place = Place { block: 0, site: Layer::Query };
    let factor = || Matrix::from_fn(2, 1, |i, _| i as f32);
    let factors = BTreeMap::from([(place, TaskFactors { m: factor(), n: factor() })]);
    let grams = BTreeMap::from([(place, Matrix::identity(2))]);
    let update = TaskUpdate { rank: 1, factors, prompt_step: None };
    AdapterTask { update, weight: 0.5, grams, n_pictures: 6 }
}

/// Runs a future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}
