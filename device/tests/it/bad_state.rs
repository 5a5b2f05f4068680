//! Wrong bases, damaged states and failing disks: a clear error, and no data is lost.

use std::process::Command;

use fmlora_device::Thing;
use fmlora_learner::format::{Base, HEADER_BYTES, Provenance, encode_base};
use fmlora_models::{BackboneConfig, VitConfig, VitWeights};

use crate::setting::{Setting, finish, text};

fn toy_base() -> Vec<u8> {
    let config = VitConfig {
        image_size: 32,
        patch_size: 16,
        d_model: 16,
        depth: 2,
        n_heads: 2,
        d_mlp: 32,
        n_registers: 0,
        n_prefix_positions: 1,
        layer_scale: false,
    };
    let weights = VitWeights::random(config.clone(), 1).expect("a possible network");
    let provenance = Provenance { name: "toy".to_owned(), ..Provenance::default() };
    let base = Base {
        provenance,
        backbone: BackboneConfig::of(&config),
        adapter: None,
        prior: None,
        weights,
    };
    encode_base(&base).expect("a sound base")
}

#[test]
fn a_base_that_is_not_whole_is_refused() {
    let setting = Setting::new();
    let sound = toy_base();
    let mut newer = sound.clone();
    newer[4] = 9;
    let mut flipped = sound.clone();
    flipped[HEADER_BYTES + 500] ^= 0x10;
    let cases: [(&str, &[u8], &str); 5] = [
        ("cut.fmlb", &sound[..sound.len() - 7], "cut off"),
        ("newer.fmlb", &newer, "format version 9, but this program reads versions up to 4"),
        ("flipped.fmlb", &flipped, "the checksum does not match"),
        ("empty.fmlb", b"", "not a base"),
        ("text.fmlb", b"hello, world", "begins with \"hell\""),
    ];
    for (name, bytes, words) in cases {
        std::fs::write(setting.path(name), bytes).expect("a file");
        let run = setting.run(&["--base", name, "status"]);
        assert_eq!(run.code, 1, "{name}: {}", run.stderr);
        assert!(run.stderr.contains(name) && run.stderr.contains(words), "{name}: {}", run.stderr);
    }
    let absent = setting.run(&["--base", "absent.fmlb", "status"]);
    assert!(absent.code == 1 && absent.stderr.contains("absent.fmlb"), "{}", absent.stderr);
}

#[test]
fn a_state_belongs_to_its_base() {
    let setting = Setting::new();
    std::fs::write(setting.path("toy.fmlb"), toy_base()).expect("a file");
    setting.pictures("balls", Thing::Ball, 2, 1);
    setting.json(&["--base", "toy.fmlb", "teach", "--class", "ball", "balls"]);
    setting.json(&["--base", "toy.fmlb", "export", "toy.fmls"]);
    let other = setting.run(&["classes"]);
    assert_eq!(other.code, 1);
    assert!(other.stderr.contains("taught with base"), "{}", other.stderr);
    let fresh = Setting::new();
    let import = fresh.run(&["import", text(&setting.path("toy.fmls"))]);
    assert_eq!(import.code, 1);
    assert!(import.stderr.contains("taught with base"), "{}", import.stderr);
    assert_eq!(fresh.json(&["status"])["state"]["classes"], 0);
}

#[test]
fn a_state_that_is_damaged_is_not_trusted() {
    let setting = Setting::new();
    setting.teach(Thing::Ball, 2);
    setting.json(&["export", "sound.fmls"]);
    let sound = std::fs::read(setting.path("sound.fmls")).expect("the file");
    std::fs::write(setting.path("cut.fmls"), &sound[..sound.len() / 2]).expect("a file");
    let cut = setting.run(&["import", "cut.fmls"]);
    assert!(cut.code == 1 && cut.stderr.contains("cut off"), "{}", cut.stderr);

    let file = setting.path("state/state.redb");
    let sound = std::fs::read(&file).expect("the state");
    let config = setting.path("fmlora.toml");
    std::fs::write(&config, "[camera]\nsource = \"synthetic://\"\n").expect("a file");
    let zeros = vec![0; sound.len()];
    let damaged: [(&str, &[u8]); 4] = [
        ("empty", b""),
        ("of zeros", &zeros),
        ("of another kind", b"no database"),
        ("cut off", &sound[..sound.len() / 2]),
    ];
    let commands: [&[&str]; 6] = [
        &["classes"],
        &["teach", "--class", "mug", "shots-ball"],
        &["import", "sound.fmls"],
        &["password"],
        &["run", "--config", text(&config), "--seconds", "1"],
        &["check", "--config", text(&config)],
    ];
    for (how, bytes) in damaged {
        for arguments in commands {
            std::fs::write(&file, bytes).expect("the state file");
            let run = setting.run(arguments);
            assert_eq!(run.code, 1, "{how}, {arguments:?}: {}", run.stdout);
            for word in ["state.redb", "damaged", "restore a backup"] {
                assert!(run.stderr.contains(word), "{how}, {arguments:?}: {}", run.stderr);
            }
            assert!(!run.stderr.contains("panicked"), "{how}, {arguments:?}: {}", run.stderr);
            assert!(!run.stdout.contains("password"), "{how}: no new password: {}", run.stdout);
            assert_eq!(std::fs::read(&file).expect("the file"), bytes, "{how}, {arguments:?}");
        }
    }
    std::fs::write(&file, &sound).expect("the backup");
    assert_eq!(setting.json(&["classes"])[0]["name"], "ball");
}

/// The case of a removed stick that holds the state.
#[test]
#[cfg(unix)]
fn a_link_to_a_state_that_is_away_is_no_new_state() {
    let setting = Setting::new();
    setting.pictures("balls", Thing::Ball, 2, 1);
    let state = setting.path("state");
    let away = setting.path("stick/state.redb");
    std::fs::create_dir(&state).expect("a folder");
    std::os::unix::fs::symlink(&away, state.join("state.redb")).expect("a link");
    let config = setting.path("fmlora.toml");
    std::fs::write(&config, "[camera]\nsource = \"synthetic://\"\n").expect("a file");
    let commands: [&[&str]; 3] = [
        &["teach", "--class", "ball", "balls"],
        &["classes"],
        &["check", "--config", text(&config)],
    ];
    for arguments in commands {
        let run = setting.run(arguments);
        assert_eq!(run.code, 1, "{arguments:?}: {}", run.stdout);
        assert!(run.stderr.contains("a link to a file that is not there"), "{}", run.stderr);
    }
    std::fs::create_dir(setting.path("stick")).expect("a folder");
    assert!(!away.exists());
}

#[test]
fn a_second_owner_is_told_so() {
    let setting = Setting::new();
    setting.teach(Thing::Ball, 2);
    let database = redb::Database::open(setting.path("state/state.redb")).expect("the state file");
    for arguments in [["forget", "ball"], ["rename", "ball"]].map(|a| a.to_vec()) {
        let arguments =
            if arguments[0] == "rename" { vec!["rename", "ball", "cup"] } else { arguments };
        let run = setting.run(&arguments);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains("in use by another fmlora-edge"), "{}", run.stderr);
    }
    drop(database);
    assert_eq!(setting.run(&["forget", "ball"]).code, 0);
}

/// `/sys` refuses new folders, even from root, which ignores permissions.
#[test]
#[cfg(target_os = "linux")]
fn a_read_only_place_is_told() {
    let setting = Setting::new();
    setting.pictures("balls", Thing::Ball, 1, 1);
    let mut command = Command::new(env!("CARGO_BIN_EXE_fmlora-edge"));
    command.args(["--state", "/sys/fmlora-test", "teach", "--class", "ball"]);
    let run = finish(command.arg(setting.path("balls")));
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("/sys/fmlora-test: cannot be created"), "{}", run.stderr);
}

/// After a first operation that failed half-way, the next one must succeed.
#[test]
#[cfg(unix)]
fn a_disk_that_is_full_from_the_start_can_be_used_later() {
    let setting = Setting::new();
    setting.pictures("balls", Thing::Ball, 2, 1);
    for blocks in [0, 8, 100] {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_fmlora-edge"), "--state"]);
        command.arg(setting.path("state")).args(["teach", "--class", "ball"]);
        let run = finish(command.arg(setting.path("balls")));
        assert_eq!(run.code, 1, "{blocks} blocks: {}", run.stderr);
        assert_eq!(setting.json(&["status"])["state"]["classes"], 0);
    }
    setting.teach(Thing::Ball, 2);
}

/// A limit on file sizes simulates a full disk: the write fails in the middle of an operation.
#[test]
#[cfg(unix)]
fn a_full_disk_loses_nothing() {
    let setting = Setting::new();
    setting.teach(Thing::Ball, 3);
    let before = setting.exported();
    setting.pictures("mugs", Thing::Mug, 8, 1);
    let size = std::fs::metadata(setting.path("state/state.redb")).expect("the state").len();
    // The limit is in blocks of 512 bytes. Its signal is ignored, so writes fail as they do on a
    // full disk.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", size / 512);
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_fmlora-edge"), "--state"]);
    command.arg(setting.path("state")).args(["teach", "--class", "mug"]);
    let run = finish(command.arg(setting.path("mugs")));
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("state.redb"), "{}", run.stderr);
    assert_eq!(setting.exported(), before);
    setting.teach(Thing::Mug, 3);
}
