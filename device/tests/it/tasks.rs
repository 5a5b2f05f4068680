//! Tasks on a base with shared bases: the answer, the training after it, undo, and export and
//! import of the result.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::process::{Command, Stdio};

use burn::tensor::Device;
use fmlora_device::Thing;
use fmlora_learner::format::{Base, Provenance, encode_base};
use fmlora_learner::{AdapterConfig, Examples, TaskHead, TokenCache, TrainingConfig, train_bases};
use fmlora_models::{Backbone, BackboneConfig, VitConfig, VitWeights};
use serde_json::{Value, json};

use crate::setting::{Setting, finish};

/// Returns a toy base with shared bases of rank 16, trained on two kinds of noise.
pub(crate) fn base_with_bases() -> Vec<u8> {
    let config = VitConfig {
        image_size: 32,
        patch_size: 16,
        d_model: 32,
        depth: 2,
        n_heads: 2,
        d_mlp: 32,
        n_registers: 0,
        n_prefix_positions: 1,
        layer_scale: false,
    };
    let weights = VitWeights::random(config.clone(), 1).expect("a possible network");
    let backbone = BackboneConfig::of(&config);
    let network = Backbone::new(&weights, backbone.clone(), &Device::flex()).expect("a network");
    let mut tokens = TokenCache::new(config.n_tokens(), config.d_model);
    let numbers = |seed: usize| {
        (0..config.n_tokens() * config.d_model).map(move |i| ((i * seed) as f32).sin())
    };
    let rows: Vec<usize> = (0..12).collect();
    let labels: Vec<usize> = rows.iter().map(|row| row % 2).collect();
    for row in &rows {
        tokens.push(&numbers(row + 3).collect::<Vec<_>>()).expect("whole pictures");
    }
    let examples = Examples::new(&tokens, &rows, &labels).expect("a label a row");
    let layers = AdapterConfig::default();
    let training = TrainingConfig { epochs: 2, ..TrainingConfig::default() };
    let mut watch = |_| ControlFlow::Continue(());
    let trained =
        train_bases(&network, &examples, TaskHead::Own(2), &layers, &training, &mut watch);
    let adapter = Some(trained.expect("trained").adapter);
    let provenance = Provenance { name: "toy".to_owned(), ..Provenance::default() };
    encode_base(&Base { provenance, backbone, adapter, prior: None, weights })
        .expect("a sound base")
}

/// Returns a box that was taught a ball and a mug, and has pictures of three things to learn.
fn taught() -> Setting {
    let setting = Setting::new();
    std::fs::write(setting.path("toy.fmlb"), base_with_bases()).expect("a file");
    for (name, thing) in [("ball", Thing::ALL[0]), ("mug", Thing::ALL[1])] {
        setting.pictures(name, thing, 6, 1);
        setting.json(&["--base", "toy.fmlb", "teach", "--class", name, name]);
    }
    for (name, thing) in [("a", Thing::ALL[2]), ("b", Thing::ALL[3]), ("c", Thing::ALL[4])] {
        setting.pictures(&format!("task/{name}"), thing, 40, 2);
    }
    setting
}

/// Fail point: every task is trained, and the result is kept.
pub(crate) const KEPT: &str = "training-margin=return(-inf)";

/// Fail point: every task is trained, and the result is judged not better.
pub(crate) const REFUSED: &str = "training-margin=return(inf)";

/// Runs a command with `--json` on the toy base, with fail points.
fn run(setting: &Setting, failures: &str, arguments: &[&str]) -> Value {
    let mut command = setting.command(&[&["--json", "--base", "toy.fmlb"], arguments].concat());
    let run = finish(command.env("FAILPOINTS", failures));
    assert_eq!(run.code, 0, "{arguments:?}: {}", run.stderr);
    // Every command prints exactly one document.
    serde_json::from_str(&run.stdout).expect("JSON")
}

/// Returns the exported state.
fn exported(setting: &Setting) -> Vec<u8> {
    run(setting, "", &["export", "state.fmls"]);
    std::fs::read(setting.path("state.fmls")).expect("the file")
}

/// Undoes operations, and returns their titles.
fn undo(setting: &Setting, count: &str) -> Value {
    run(setting, "", &["undo", "--count", count])["undone"].take()
}

#[test]
fn drs_has_a_task_of_many_shots_trained() {
    let setting = taught();
    let before = exported(&setting);
    let report = run(&setting, "", &["learn", "task"]);
    assert_eq!(report["shots"], 120);
    assert!(report["rank"].as_u64() > Some(0), "{report}");
    assert!(report["trained_seconds"].as_f64() > Some(0.0), "{report}");
    assert!(report["answered_seconds"].as_f64() < report["total_seconds"].as_f64(), "{report}");
    let h = report["complexity"].as_f64().expect("a number");
    assert!((0.0..=1.0).contains(&h), "{report}");
    assert!(report["held_out_after"].is_f64() && report["kept"].is_boolean(), "{report}");
    let operations = if report["training"] == "kept" { "2" } else { "1" };
    undo(&setting, operations);
    assert!(exported(&setting) == before);
}

#[test]
fn a_training_that_is_kept_is_an_operation_of_its_own_and_undone_to_the_bit() {
    let setting = taught();
    let before = exported(&setting);
    let report = run(&setting, REFUSED, &["learn", "task"]);
    let told = (report["training"].as_str(), report["rank"].as_u64(), report["kept"].as_bool());
    assert_eq!(told, (Some("not_better"), Some(2), Some(false)), "{report}");
    let answered = exported(&setting);
    assert_eq!(undo(&setting, "1"), json!(["learn a, b, c"]));
    assert!(exported(&setting) == before);

    let report = run(&setting, KEPT, &["learn", "task"]);
    assert_eq!(report["training"], "kept", "{report}");
    assert_eq!((&report["kept"], &report["rank"]), (&json!(true), &json!(2)), "{report}");
    let trained = exported(&setting);
    assert!(trained != answered);
    assert_eq!(undo(&setting, "1"), json!(["train the network (5 classes)"]));
    assert!(exported(&setting) == answered, "the classes are known by their statistics alone");
    assert_eq!(undo(&setting, "1"), json!(["learn a, b, c"]));
    assert!(exported(&setting) == before);
    // An empty box imports both the classes and the network.
    let fresh = Setting::new();
    std::fs::copy(setting.path("toy.fmlb"), fresh.path("toy.fmlb")).expect("a copy");
    std::fs::write(fresh.path("trained.fmls"), &trained).expect("a file");
    run(&fresh, "", &["import", "trained.fmls"]);
    assert!(exported(&fresh) == trained);
}

#[test]
fn a_second_task_is_trained_on_what_the_first_one_left() {
    let setting = taught();
    run(&setting, KEPT, &["learn", "task"]);
    let first = exported(&setting);
    for (name, thing) in [("d", Thing::ALL[0]), ("a", Thing::ALL[2])] {
        setting.pictures(&format!("more/{name}"), thing, 6, 3);
    }
    let report = run(&setting, KEPT, &["learn", "more"]);
    assert_eq!(report["training"], "kept", "{report}");
    let classes = run(&setting, "", &["classes"]);
    let shots = |name: &str| {
        let mut classes = classes.as_array().expect("classes").iter();
        classes.find(|class| class["name"] == name).and_then(|class| class["shots"].as_u64())
    };
    assert_eq!([shots("a"), shots("d"), shots("ball")], [Some(46), Some(6), Some(6)]);
    let titles = ["train the network (6 classes)", "learn a, d"];
    assert_eq!(undo(&setting, "2"), json!(titles));
    assert!(exported(&setting) == first);
}

#[test]
fn a_budget_that_runs_out_leaves_the_classes_learned_without_training() {
    let setting = taught();
    let report = run(&setting, "", &["learn", "task", "--budget", "0"]);
    let told = (report["training"].as_str(), report["rank"].as_u64(), report["kept"].as_bool());
    assert_eq!(told, (Some("ended"), Some(0), Some(false)), "{report}");
    assert_eq!(run(&setting, "", &["status"])["state"]["classes"], 5);
}

#[test]
fn a_budget_is_a_number_of_seconds() {
    let setting = Setting::new();
    for budget in ["nan", "-1", "soon", ""] {
        let run = finish(&mut setting.command(&["learn", "task", &format!("--budget={budget}")]));
        assert_eq!(run.code, 2, "{budget}: {}", run.stderr);
    }
}

#[test]
fn a_training_that_crashes_leaves_the_classes_and_their_report() {
    let setting = taught();
    let report = run(&setting, "training-step=panic", &["learn", "task"]);
    let told = (report["training"].as_str(), report["kept"].as_bool());
    assert_eq!(told, (Some("failed"), Some(false)), "{report}");
    assert_eq!(run(&setting, "", &["status"])["state"]["classes"], 5);
}

/// A flush fails: the report says what is on disk, whichever flush it was.
#[test]
fn a_take_over_that_reached_the_disk_all_the_same_is_reported_as_kept() {
    let setting = taught();
    let mut ends = BTreeSet::new();
    for flush in 0..12 {
        let failures = format!("{KEPT};storage-sync={flush}*off->1*return->off");
        let arguments = ["--json", "--base", "toy.fmlb", "learn", "task"];
        let learned = finish(setting.command(&arguments).env("FAILPOINTS", failures));
        let undo = run(&setting, "", &["status"])["undo"].take();
        let titles: Vec<&str> =
            undo.as_array().expect("titles").iter().filter_map(Value::as_str).collect();
        let trained = titles.first().is_some_and(|title| title.starts_with("train the network"));
        if learned.code == 0 {
            let report: Value = serde_json::from_str(&learned.stdout).expect("JSON");
            assert_eq!(report["training"] == "kept", trained, "flush {flush}: {report}");
            ends.insert(report["training"].as_str().expect("an end").to_owned());
        }
        let of_task = |title: &&&str| title.starts_with("train") || title.starts_with("learn");
        let surplus = titles.iter().take_while(of_task).count();
        if surplus > 0 {
            run(&setting, "", &["undo", "--count", &surplus.to_string()]);
        }
    }
    assert!(ends.contains("kept") && ends.contains("failed"), "{ends:?}");
}

#[test]
fn ctrl_c_after_the_answer_ends_the_training_alone() {
    let setting = taught();
    let mut command = setting.command(&["--base", "toy.fmlb", "learn", "task"]);
    command.env("FAILPOINTS", format!("{KEPT};training-step=sleep(500)"));
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let answer = lines.next().expect("a line").expect("text");
    assert!(answer.starts_with("learned 3 classes from 120 pictures"), "{answer}");
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status();
    assert!(sent.expect("kill").success());
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().expect("an end").code(), Some(0));
    let last = rest.last().expect("a last line");
    assert!(last.starts_with("the training was ended after"), "{rest:?}");
    assert_eq!(run(&setting, "", &["status"])["state"]["classes"], 5);
    assert_eq!(undo(&setting, "1"), json!(["learn a, b, c"]));
}
