//! The benchmark on a small scale: every method on a toy network and synthetic pictures, resumed,
//! reported, drawn.

use std::path::Path;
use std::process::Command;

use image::{Rgb, RgbImage};
use serde_json::Value;

fn run(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_host-tools"));
    let output = command.current_dir(folder).args(arguments).output().expect("the program starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Draws stripes. Their width, direction and colour depend on the class, and they shift from
/// picture to picture; a domain inverts them.
fn picture(class: u32, number: u32, inverted: bool) -> RgbImage {
    RgbImage::from_fn(40, 40, |x, y| {
        let along = if class.is_multiple_of(2) { x } else { y };
        let on = (along + number) / (3 + 2 * (class / 2)) % 2 == u32::from(inverted);
        let noise = ((x * 31 + y * 17 + number * 7) % 40) as u8;
        let bright = if on { 200 } else { 20 };
        Rgb([bright + noise / 2, noise + 30 * (class as u8 % 3), bright / 2 + noise])
    })
}

/// Creates a toy base, eight classes in one domain under `classes`, and four in each of two under
/// `domains`.
fn setting() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let save = |path: String, class: u32, number: u32, inverted: bool| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        picture(class, number, inverted).save(path).expect("a picture");
    };
    for number in 0..15 {
        for class in 0..8 {
            save(format!("classes/class{class}/{number:02}.png"), class, number, false);
        }
        for class in 0..4 {
            save(format!("domains/one/class{class}/{number:02}.png"), class, number, false);
            save(format!("domains/two/class{class}/{number:02}.png"), class, number, true);
        }
    }
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
    let checkpoint = format!("{golden}/vit-layerscale/weights.safetensors");
    run(folder.path(), &["import-weights", &checkpoint, "--out", "toy.fmlb", "--heads", "3"]);
    folder
}

fn results(folder: &Path, out: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(out).join("results.json")).expect("results");
    serde_json::from_str::<Vec<Value>>(&text).expect("an array")
}

const SMALL: [&str; 8] =
    ["--epochs", "1", "--joint-epochs", "1", "--rank", "4", "--prompt-tokens", "2"];

#[test]
fn every_method_runs_and_a_second_start_has_nothing_left_to_do() {
    let folder = setting();
    let methods =
        "nearest-mean,ridge,ranpac-2000,fm-lora,sequential-lora,sd-lora,joint-lora,fm-lora-paper";
    let bench = ["bench", "--base", "toy.fmlb", "--data", "folder:classes", "--tasks", "2,4"];
    let rest = ["--orders", "1,2", "--methods", methods, "--out", "cil"];
    let arguments = [&bench[..], &rest, &SMALL].concat();
    let report = run(folder.path(), &arguments);
    let first = results(folder.path(), "cil");
    assert_eq!(first.len(), 8 * 2 * 2);
    for result in &first {
        for key in ["acc", "aaa", "forgetting", "bwt", "train_seconds"] {
            assert!(result[key].as_f64().is_some_and(f64::is_finite), "{key} of {result}");
        }
        assert!((0.0..=1.0).contains(&result["acc"].as_f64().expect("a number")), "{result}");
        let rows = result["matrix"].as_array().expect("rows");
        let tasks = result["tasks"].as_u64();
        let at_once = result["method"] == "joint-lora";
        assert_eq!(rows.len() as u64, if at_once { 1 } else { tasks.expect("a number") });
    }
    let of = |method: &'static str| {
        let runs = first.iter().filter(move |r| r["method"] == method);
        runs.map(|r| r["acc"].as_f64().expect("a number")).sum::<f64>()
    };
    // The purpose of the analytic head: it beats a softmax head trained task by task.
    assert!(of("fm-lora") > of("sequential-lora"), "{report}");
    for name in ["report.md", "trajectory.svg", "trajectory.png"] {
        let bytes = std::fs::metadata(folder.path().join("cil").join(name)).expect(name).len();
        assert!(bytes > 500, "{name} has {bytes} bytes");
    }
    assert!(report.contains("fm-lora-paper") && report.contains("2 orders"), "{report}");
    let again = run(folder.path(), &arguments);
    assert_eq!(first, results(folder.path(), "cil"), "nothing is run twice");
    assert_eq!(report, again);
}

#[test]
fn domains_add_up_and_parts_can_be_taken_away() {
    let folder = setting();
    let bench = ["bench", "--base", "toy.fmlb", "--data", "domains:domains", "--scenario", "dil"];
    let rest = ["--orders", "1", "--methods", "fm-lora,nearest-mean", "--ablate", "--out", "dil"];
    run(folder.path(), &[&bench[..], &rest, &SMALL].concat());
    let found = results(folder.path(), "dil");
    let ablations: Vec<&str> = found.iter().filter_map(|r| r["ablation"].as_str()).collect();
    for part in ["rank 0", "no DRS", "m=0", "m=16", "no L_orth", "no drift map", "a=0.3"] {
        assert!(ablations.contains(&part), "{part} is missing in {ablations:?}");
    }
    for result in &found {
        assert_eq!(result["matrix"].as_array().map(Vec::len), Some(2), "{result}");
    }
    assert!(folder.path().join("dil/ablation.svg").exists());
}

#[test]
fn a_part_is_taken_away_without_running_the_whole() {
    let folder = setting();
    let bench = ["bench", "--base", "toy.fmlb", "--data", "folder:classes", "--tasks", "2"];
    let rest =
        ["--orders", "1", "--methods", "nearest-mean", "--ablate", "rank 0", "--out", "rank0"];
    let report = run(folder.path(), &[&bench[..], &rest, &SMALL].concat());
    let found = results(folder.path(), "rank0");
    let mut rows: Vec<(&str, &str)> = found
        .iter()
        .map(|r| (r["method"].as_str().unwrap_or("?"), r["ablation"].as_str().unwrap_or("")))
        .collect();
    rows.sort_unstable();
    assert_eq!(rows, [("fm-lora", "rank 0"), ("nearest-mean", "")], "{report}");
}

#[test]
fn occasions_show_whether_answers_can_be_trusted() {
    let folder = setting();
    for class in 0..8 {
        for (set, numbers) in [("train/day1", 0..4), ("train/day2", 4..8), ("test", 8..12)] {
            let (set, day) = set.split_once('/').unwrap_or((set, "day3"));
            for number in numbers {
                let path = format!("days/{set}/class{class}/{day}/{number:02}.png");
                let path = folder.path().join(path);
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                picture(class, number, false).save(path).expect("a picture");
            }
        }
    }
    let bench = ["bench", "--base", "toy.fmlb", "--data", "folder:days", "--scenario", "occasions"];
    let methods = "nearest-mean,ridge,fm-lora,joint-lora";
    let rest = ["--orders", "1", "--methods", methods, "--ablate", "no views", "--out", "days"];
    let report = run(folder.path(), &[&bench[..], &rest, &SMALL].concat());
    let found = results(folder.path(), "days");
    assert_eq!(found.len(), 8, "four methods with views and without");
    for result in &found {
        let trust = &result["trust"];
        for key in ["expected", "confidence", "calibration_error"] {
            let value = trust[key].as_f64().unwrap_or(-1.0);
            assert!((0.0..=1.0).contains(&value), "{key} of {result}");
        }
        for key in ["false_alarms", "detected", "detected_at_5_percent", "auroc"] {
            let value = trust["strangers"][key].as_f64().unwrap_or(-1.0);
            assert!((0.0..=1.0).contains(&value), "{key} of {result}");
        }
        assert_eq!(trust["strangers"]["taught"], 4);
        let ours = result["method"] == "fm-lora";
        assert_eq!(trust["another_day"].is_number(), ours, "{result}");
        assert_eq!(result["test_images"], serde_json::json!([32]));
    }
    assert!(report.contains("| method | accuracy | expected: like the shots |"), "{report}");
    assert!(report.contains("| ridge, no views |"), "{report}");
}

#[test]
fn factory_bases_come_from_classes_that_the_run_does_not_use() {
    let folder = setting();
    let bench = ["bench", "--base", "toy.fmlb", "--data", "folder:classes", "--tasks", "2"];
    let rest = ["--orders", "1", "--methods", "fm-lora", "--factory-classes", "4", "--out", "out"];
    run(folder.path(), &[&bench[..], &rest, &SMALL].concat());
    let found = results(folder.path(), "out");
    assert_eq!((found.len(), found[0]["scenario"].as_str()), (1, Some("cil+factory4")));
    assert_eq!(
        found[0]["test_images"],
        serde_json::json!([6, 6]),
        "four classes of three test pictures"
    );
}

#[test]
fn left_out_files_and_too_small_classes_are_named() {
    let folder = setting();
    let path = |name: &str| folder.path().join("classes").join(name);
    std::fs::write(path("class0/x.heic"), b"\0\0\0\x18ftypheic").expect("a file");
    std::fs::write(path("notes.txt"), b"loose").expect("a file");
    std::fs::write(path("class0/.DS_Store"), b"for systems").expect("a file");
    std::fs::create_dir(path("class1/day2")).expect("a folder");
    std::fs::rename(path("class1/14.png"), path("class1/day2/14.png")).expect("moved");
    for number in 4..15 {
        std::fs::remove_file(path(&format!("class7/{number:02}.png"))).expect("a picture");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_host-tools"));
    command.current_dir(folder.path()).args(["probe", "--base", "toy.fmlb"]);
    command.args(["--data", "folder:classes", "--shots", "12"]);
    let output = command.output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let short = "class \"class7\" has 4 training pictures, but --shots asks for 12";
    let heic = "left out classes/class0/x.heic: HEIC is not read";
    for expected in [short, heic, "left out classes/notes.txt: it is in no class folder"] {
        assert!(said.contains(expected), "{expected:?} is not in:\n{said}");
    }
    assert_eq!(said.matches("left out").count(), 2, "{said}");
}

/// A prior belongs to the features of its base, and is removed when these change.
#[test]
fn a_base_gets_a_prior_and_loses_it_with_its_features() {
    let folder = setting();
    let here = folder.path();
    let estimate = ["estimate-prior", "--base", "toy.fmlb", "--data", "folder:classes"];
    run(here, &[&estimate[..], &["--out", "prior.fmlb"]].concat());
    let inspected = |file: &str| -> Value {
        serde_json::from_str(&run(here, &["inspect", file, "--json"])).expect("JSON")
    };
    let before = inspected("toy.fmlb");
    let after = inspected("prior.fmlb");
    assert_eq!(before["prior"], Value::Null);
    assert_eq!(after["prior"]["classes"], 8, "{after}");
    assert_ne!(before["base_id"], after["base_id"]);
    let pretrain = ["pretrain", "--base", "prior.fmlb", "--data", "folder:classes"];
    run(here, &[&pretrain[..], &["--epochs", "1", "--rank", "2", "--out", "bases.fmlb"]].concat());
    assert_eq!(inspected("bases.fmlb")["prior"], Value::Null);
    let mut command = Command::new(env!("CARGO_BIN_EXE_host-tools"));
    command.current_dir(here).args(["estimate-prior", "--base", "toy.fmlb", "--out", "few.fmlb"]);
    let output = command.args(["--data", "folder:classes?train=2"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("16 pictures in 8 classes of two or more, expected at least"), "{said}");
    assert!(!here.join("few.fmlb").exists());
}

/// Runs a command that must fail, and returns its errors.
fn refused(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_host-tools"));
    let output = command.current_dir(folder).args(arguments).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn extended_bases_keep_the_prior() {
    let folder = setting();
    let here = folder.path();
    let data = ["--data", "folder:classes", "--epochs", "1"];
    let bases = ["pretrain", "--base", "toy.fmlb", "--rank", "2", "--out", "bases.fmlb"];
    run(here, &[&bases[..], &data].concat());
    let prior = ["estimate-prior", "--base", "bases.fmlb", "--out", "prior.fmlb"];
    run(here, &[&prior[..], &data[..2]].concat());
    let recipe = ["--head", "cosine", "--views", "1", "--patch-share", "0.5"];
    let extend = |base: &'static str, rank: &'static str| {
        let start = ["pretrain", "--extend", "--base", base, "--rank", rank, "--out", "more.fmlb"];
        [&start[..], &data, &recipe].concat()
    };
    run(here, &extend("prior.fmlb", "4"));
    let inspected = |file: &str| -> Value {
        serde_json::from_str(&run(here, &["inspect", file, "--json"])).expect("JSON")
    };
    let before = inspected("prior.fmlb");
    let after = inspected("more.fmlb");
    assert_eq!(after["prior"]["classes"], 8, "{after}");
    assert_eq!(after["prior"], before["prior"]);
    assert_ne!(after["base_id"], before["base_id"]);
    for (base, rank, expected) in [
        ("toy.fmlb", "4", "the base has no bases to extend"),
        ("prior.fmlb", "2", "the bases have rank 2 already"),
        ("prior.fmlb", "100000", "--rank is 100000, expected 1 to"),
    ] {
        let said = refused(here, &extend(base, rank));
        assert!(said.contains(expected), "{expected:?} is not in: {said}");
    }
}
