//! Tests of the `host-tools` program: import, export, inspect, and errors.

use std::path::Path;
use std::process::Command;

struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

fn run(folder: &Path, arguments: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_host-tools"));
    let output = command.current_dir(folder).args(arguments).output().expect("the program starts");
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn a_checkpoint_becomes_a_base() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
    let checkpoint = format!("{golden}/vit-layerscale/weights.safetensors");
    let import = ["import-weights", &checkpoint, "--out", "vit.fmlb", "--heads", "3"];
    let done = run(folder.path(), &import);
    assert_eq!(done.code, 0, "{}", done.stderr);
    for out in ["a.fmlb", "b.fmlb"] {
        let export = ["export-bases", "--from", "vit.fmlb", "--out", out, "--name", "toy"];
        let done = run(folder.path(), &export);
        assert_eq!(done.code, 0, "{}", done.stderr);
    }
    let read = |name| std::fs::read(folder.path().join(name)).expect("a base");
    assert!(read("a.fmlb") == read("b.fmlb"), "the same input gives the same bytes");
    let inspected = run(folder.path(), &["--json", "inspect", "a.fmlb"]);
    let about: serde_json::Value = serde_json::from_str(&inspected.stdout).expect("JSON");
    assert_eq!(about["config"]["d_model"], 48);
    assert_eq!(about["config"]["layer_scale"], true);
    assert_eq!(about["provenance"]["name"], "toy");
    assert_eq!(about["features"], 4 * 48);
    let text = run(folder.path(), &["inspect", "a.fmlb"]).stdout;
    assert!(text.contains(about["base_id"].as_str().expect("an id")), "{text}");
}

#[test]
fn an_error_is_reported_and_writes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("text.safetensors"), b"no weights").expect("a file");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
    let checkpoint = format!("{golden}/vit-plain/weights.safetensors");
    let cases: [(&[&str], i32, &str); 7] = [
        (&["import-weights", &checkpoint, "--out", "x.fmlb"], 1, "--heads"),
        (&["import-weights", "absent.safetensors", "--out", "x.fmlb"], 1, "absent.safetensors"),
        (&["import-weights", "text.safetensors", "--out", "x.fmlb"], 1, "text.safetensors"),
        (&["export-bases", "--from", "text.safetensors", "--out", "x.fmlb"], 1, "not a base"),
        (&["inspect", "text.safetensors"], 1, "none of our files"),
        (&["probe", "--base", "x.fmlb", "--data", "cifar10:d"], 2, "cifar100:DIR"),
        (&["inspect"], 2, "FILE"),
    ];
    for (arguments, code, words) in cases {
        let done = run(folder.path(), arguments);
        assert_eq!(done.code, code, "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains(words), "{arguments:?} should say {words:?}: {}", done.stderr);
    }
    assert!(!folder.path().join("x.fmlb").exists());
    let told = run(folder.path(), &["--json", "inspect", "text.safetensors"]).stderr;
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert!(told["error"].as_str().is_some_and(|why| why.contains("none of our files")), "{told}");
}
