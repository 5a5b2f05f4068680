//! Tasks on a base with shared bases: training, undoing, and taking the result elsewhere.

use std::ops::ControlFlow;

use burn::tensor::Device;
use fmlora_device::Thing;
use fmlora_learner::format::{Base, Provenance, encode_base};
use fmlora_learner::{AdapterConfig, Examples, TaskHead, TokenCache, TrainingConfig, train_bases};
use fmlora_models::{Backbone, BackboneConfig, VitConfig, VitWeights};

use crate::setting::Setting;

/// A toy network with bases of rank 16, trained on noise of two kinds.
fn base_with_bases() -> Vec<u8> {
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

/// A box that knows a ball and a mug, and pictures of three things to learn.
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

#[test]
fn a_task_is_trained_and_can_be_taken_back_to_the_bit() {
    let setting = taught();
    let base = ["--base", "toy.fmlb"];
    let run = |rest: &[&str]| setting.json(&[&base, rest].concat());
    run(&["export", "before.fmls"]);
    let report = run(&["learn", "task"]);
    assert_eq!(report["shots"], 120);
    assert!(report["rank"].as_u64() > Some(0), "{report}");
    assert!(report["trained_seconds"].as_f64() > Some(0.0), "{report}");
    let h = report["complexity"].as_f64().expect("a number");
    assert!((0.0..=1.0).contains(&h), "{report}");
    assert!(report["held_out_after"].is_f64() && report["kept"].is_boolean(), "{report}");
    run(&["export", "after.fmls"]);
    run(&["undo"]);
    run(&["export", "again.fmls"]);
    let read = |name: &str| std::fs::read(setting.path(name)).expect("the file");
    assert_eq!(read("before.fmls"), read("again.fmls"));
    // A box that knows nothing takes over classes and network alike.
    let fresh = Setting::new();
    std::fs::copy(setting.path("toy.fmlb"), fresh.path("toy.fmlb")).expect("a copy");
    std::fs::copy(setting.path("after.fmls"), fresh.path("after.fmls")).expect("a copy");
    fresh.json(&["--base", "toy.fmlb", "import", "after.fmls"]);
    fresh.json(&["--base", "toy.fmlb", "export", "copy.fmls"]);
    assert_eq!(std::fs::read(fresh.path("copy.fmls")).expect("the file"), read("after.fmls"));
}

#[test]
fn a_budget_that_runs_out_leaves_the_classes_learned_without_training() {
    let setting = taught();
    let report = setting.json(&["--base", "toy.fmlb", "learn", "task", "--budget", "0"]);
    assert_eq!(
        (report["rank"].as_u64(), report["kept"].as_bool()),
        (Some(0), Some(true)),
        "{report}"
    );
    assert_eq!(setting.json(&["--base", "toy.fmlb", "status"])["state"]["classes"], 5);
}
