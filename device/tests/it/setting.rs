//! A state directory, pictures of things, and the program to run on them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fmlora_device::{SyntheticCamera, Thing};
use serde_json::Value;
use tempfile::TempDir;

/// A temporary folder with everything that a test needs.
pub(crate) struct Setting {
    folder: TempDir,
}

/// Result of a run.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Setting {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `n` frames of a thing as JPEG files into `folder`, and returns their paths.
    pub(crate) fn pictures(&self, folder: &str, thing: Thing, n: usize, seed: u64) -> Vec<PathBuf> {
        let folder = self.path(folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut camera = SyntheticCamera::new(seed ^ thing.name().len() as u64);
        let write = |i: usize| {
            let path = folder.join(format!("{}{seed}-{i}.jpg", thing.name()));
            camera.frame(thing).save(&path).expect("a JPEG file");
            path
        };
        (0..n).map(write).collect()
    }

    /// Writes class folders of the things, with `n` pictures each.
    pub(crate) fn class_folders(
        &self,
        folder: &str,
        things: &[Thing],
        n: usize,
        seed: u64,
    ) -> PathBuf {
        for thing in things {
            self.pictures(&format!("{folder}/{}", thing.name()), *thing, n, seed);
        }
        self.path(folder)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fmlora-edge"));
        command.current_dir(self.folder.path()).arg("--state").arg(self.path("state"));
        command.args(arguments).env_remove("FMLORA_BASE").env_remove("FMLORA_STATE");
        // The servers of tests are local: a proxy must not be used.
        for proxy in ["http_proxy", "https_proxy", "all_proxy"] {
            command.env_remove(proxy).env_remove(proxy.to_uppercase());
        }
        // Tests run in parallel: each daemon takes a free port.
        command.env("FMLORA_HTTP_LISTEN", "127.0.0.1:0");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        finish(&mut self.command(arguments))
    }

    /// Runs with `--json`, expects success, and returns the first line.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let run = self.run(&[&["--json"], arguments].concat());
        assert_eq!(run.code, 0, "{arguments:?}: {}", run.stderr);
        let line = run.stdout.lines().next().expect("a line of JSON");
        serde_json::from_str(line).expect("JSON")
    }

    /// Teaches `n` shots of a thing under its name.
    pub(crate) fn teach(&self, thing: Thing, n: usize) {
        let folder = format!("shots-{}", thing.name());
        self.pictures(&folder, thing, n, 1);
        self.json(&["teach", "--class", thing.name(), &folder]);
    }

    /// Exports the classes of the state, and returns the bytes.
    pub(crate) fn exported(&self) -> Vec<u8> {
        self.json(&["export", "exported.fmls"]);
        std::fs::read(self.path("exported.fmls")).expect("the exported file")
    }
}

pub(crate) fn finish(command: &mut Command) -> Run {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    Run {
        code: status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// Returns a path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}
