//! `train-adapter` as its user runs it: a small network, classes that are waves of different directions.

use std::path::Path;
use std::process::Command;

use fmlora_learner::format::{Ground, decode_adapter, decode_base};
use image::{Rgb, RgbImage};
use serde_json::Value;

fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_host-tools"));
    let output = command.current_dir(folder).args(["--json", "--device", "cpu"]).args(arguments);
    let output = output.output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let (code, stdout, stderr) = run(folder, arguments);
    assert_eq!(code, 0, "{arguments:?}: {stderr}");
    serde_json::from_str(&stdout).expect("JSON")
}

/// Pictures of some classes, 12 of each: waves across the picture, each class its own direction and colour.
fn pictures(folder: &Path, name: &str, classes: std::ops::Range<usize>) {
    for class in classes {
        let place = folder.join(name).join(format!("wave {class}"));
        std::fs::create_dir_all(&place).expect("a folder");
        let angle = class as f32 * 0.6;
        for shot in 0..12 {
            let picture = RgbImage::from_fn(32, 32, |x, y| {
                let along = x as f32 * angle.cos() + y as f32 * angle.sin();
                let noise = ((x * 31 + y * 17 + shot * 101 + class as u32) % 13) as f32;
                let value = 120.0 + 90.0 * (along * 0.7 + shot as f32).sin() + 3.0 * noise;
                let tint = |c: usize| (value * if class % 3 == c { 1.0 } else { 0.6 }) as u8;
                Rgb([tint(0), tint(1), tint(2)])
            });
            picture.save(place.join(format!("{shot:02}.png"))).expect("a picture");
        }
    }
}

#[test]
fn a_chain_of_adapters_is_trained_and_each_fits_what_the_one_before_left() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
    let checkpoint = format!("{golden}/vit-layerscale/weights.safetensors");
    json(folder, &["import-weights", &checkpoint, "--out", "vit.fmlb", "--heads", "3"]);
    pictures(folder, "broad", 0..4);
    pictures(folder, "first", 4..7);
    pictures(folder, "second", 7..10);
    let pretrain =
        ["pretrain", "--base", "vit.fmlb", "--data", "folder:broad", "--out", "base.fmlb"];
    json(
        folder,
        &[&pretrain[..], &["--epochs", "1", "--rank", "4", "--prompt-tokens", "2"]].concat(),
    );
    // Statistics alone: DRS grants so few shots no rank.
    let train = |data: &str, out: &str, more: &[&str]| {
        let always = ["train-adapter", "--base", "base.fmlb", "--data", data, "--out", out];
        json(folder, &[&always[..], more].concat())
    };
    let first = train("folder:first", "first-1.fmla", &[]);
    assert_eq!((&first["kept"], &first["rank"]), (&false.into(), &0.into()));
    assert_eq!(first["feature_space_before"], first["feature_space_after"]);
    assert_eq!((&first["name"], &first["release"]), (&"first".into(), &1.into()));
    // Trained, and kept whatever it is worth.
    let keep = ["--rank", "2", "--epochs", "1", "--margin", "-1e9", "--release", "2"];
    let after = ["--after", "first-1.fmla", "--measure", "folder:first", "--name", "waves"];
    let second = train("folder:second", "second.fmla", &[&keep[..], &after].concat());
    assert_eq!((&second["kept"], &second["rank"]), (&true.into(), &2.into()));
    assert_eq!(second["feature_space_before"], first["feature_space_after"]);
    assert_ne!(second["feature_space_before"], second["feature_space_after"]);
    assert_eq!((&second["known_classes"], &second["classes"]), (&3.into(), &3.into()));
    // Two test pictures of each of six classes.
    assert_eq!(second["test_pictures"], 12);
    let third =
        train("folder:broad", "third.fmla", &["--after", "first-1.fmla", "--after", "second.fmla"]);
    assert_eq!(third["feature_space_before"], second["feature_space_after"]);
    assert_eq!(third["known_classes"], 6);
    // As a device does it.
    let base = std::fs::read(folder.join("base.fmlb")).expect("the base");
    let (base, base_id) = decode_base(&base).expect("a sound base");
    let file = std::fs::read(folder.join("second.fmla")).expect("the adapter");
    assert_eq!(second["bytes"], file.len());
    let (file, _) = decode_adapter(&file).expect("a sound adapter");
    let d_feature = base.backbone.feature.d_feature(base.weights.config());
    let adapter = base.adapter.as_ref();
    let ground = Ground { base_id, adapter, state: None, d_feature, classes: &[] };
    let applied = file.apply(&ground).expect("it fits");
    assert_eq!(applied.space.to_string(), second["feature_space_after"].as_str().expect("an id"));
    assert_eq!(applied.brought.len(), 3);
    let about = json(folder, &["inspect", "second.fmla"]);
    assert_eq!((&about["kind"], &about["name"]), (&"adapter".into(), &"waves".into()));
    assert_eq!(
        (&about["layers"], &about["prompt_tokens"]),
        (&second_layers(&base).into(), &2.into())
    );
    assert_eq!(about["classes"][0]["name"], "wave 7");
    assert_eq!(about["feature_space_after"], second["feature_space_after"]);
    // The same input gives the same bytes.
    train("folder:first", "again.fmla", &["--name", "first"]);
    let read = |name| std::fs::read(folder.join(name)).expect("an adapter");
    assert!(read("again.fmla") == read("first-1.fmla"));
    // Out of order it is refused, and nothing is written.
    let wrong =
        ["train-adapter", "--base", "base.fmlb", "--data", "folder:broad", "--out", "x.fmla"];
    let twice = ["--after", "second.fmla", "--after", "second.fmla"];
    let (code, _, stderr) = run(folder, &[&wrong[..], &twice].concat());
    assert!(code == 1 && stderr.contains("this device has"), "{stderr}");
    assert!(!folder.join("x.fmla").exists());
}

/// What is wrong with the command is found before a picture is trained on: all of its training pictures are broken here, and
/// none of them is named.
#[test]
fn cheap_mistakes_are_found_before_the_training() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
    let checkpoint = format!("{golden}/vit-layerscale/weights.safetensors");
    json(folder, &["import-weights", &checkpoint, "--out", "vit.fmlb", "--heads", "3"]);
    json(folder, &["export-bases", "--from", "vit.fmlb", "--out", "base.fmlb"]);
    pictures(folder, "mixed/test", 0..1);
    for place in ["mixed/train/wave 0", "exam/wave 1"] {
        std::fs::create_dir_all(folder.join(place)).expect("a folder");
        for shot in 0..5 {
            std::fs::write(folder.join(place).join(format!("{shot}.png")), "none")
                .expect("written");
        }
    }
    let train = ["train-adapter", "--base", "base.fmlb", "--data", "folder:mixed"];
    for (more, says) in [
        (&["--out", "a name.fmla"][..], "--name says what an adapter is called"),
        (&["--out", "absent/x.fmla"], "absent/x.fmla: there is no folder absent"),
        (&["--out", "exam", "--name", "x"], "exam: a folder"),
        (&["--out", "x.fmla", "--measure", "folder:absent"], "absent: cannot be read"),
        // The last fifth is for tests.
        (&["--out", "x.fmla", "--measure", "folder:exam"], "exam/wave 1/4.png"),
        // So far, all was well.
        (&["--out", "x.fmla"], "mixed/train/wave 0"),
    ] {
        let (code, _, stderr) = run(folder, &[&train[..], more].concat());
        assert!(code == 1 && stderr.contains(says), "{more:?}: {stderr}");
        assert!(!folder.join("x.fmla").exists());
    }
}

fn second_layers(base: &fmlora_learner::format::Base<'_>) -> usize {
    base.adapter.as_ref().map_or(0, |adapter| adapter.bases().by_place().len())
}

/// The commands of docs/updates.md that train and publish, run as they stand there.
#[test]
fn the_documented_steps_make_releases_of_one_adapter() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
    let checkpoint = format!("{golden}/vit-layerscale/weights.safetensors");
    json(folder, &["import-weights", &checkpoint, "--out", "vit.fmlb", "--heads", "3"]);
    json(folder, &["export-bases", "--from", "vit.fmlb", "--out", "base.fmlb"]);
    pictures(folder, "birds", 0..2);
    std::fs::write(folder.join("pass"), "a long passphrase\n").expect("written");
    let keys = ["--keys", "keys", "--passphrase-file", "pass"];
    json(folder, &[&["publish", "init", "--repo", "site"][..], &keys].concat());
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/updates.md");
    let docs = std::fs::read_to_string(docs).expect("the documentation");
    let mut ran = Vec::new();
    for line in docs.lines() {
        let command = line.split(" #").next().unwrap_or(line).trim();
        let Some(arguments) = command.strip_prefix("host-tools ") else { continue };
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let is_meant =
            matches!(arguments[..], ["train-adapter", ..] | ["publish", "add" | "promote", ..]);
        if is_meant {
            let (code, _, stderr) = run(folder, &arguments);
            assert!(code == 0 && !stderr.contains("warning"), "{command}: {stderr}");
            ran.push(arguments[..2].join(" "));
        }
    }
    assert!(ran.len() >= 6, "{ran:?}");
    let status = json(folder, &["publish", "status", "--repo", "site"]);
    let targets = status["targets"].as_array().expect("a list").iter();
    let published: Vec<(&Value, &Value)> =
        targets.map(|t| (&t["custom"]["name"], &t["custom"]["release"])).collect();
    let birds = Value::from("birds");
    assert_eq!(published, [(&birds, &1.into()), (&birds, &2.into())]);
    assert_eq!(status["warnings"], serde_json::json!([]));
}
