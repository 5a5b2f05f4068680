//! Compute devices: selected, listed, and given up when they fail. The processor, tensor by tensor,
//! stands for a graphics adapter: it takes the same path and is checked in the same way.

use fmlora_device::Thing;

use crate::setting::{Run, Setting, finish};

/// Creates a setting with pictures of two things to learn.
fn with_task() -> Setting {
    let setting = Setting::new();
    setting.class_folders("task", &[Thing::ALL[0], Thing::ALL[1]], 20, 1);
    setting
}

/// Learns the task on the stand-in, with failures by fail points.
fn learn(setting: &Setting, failures: &str) -> Run {
    let mut command = setting.command(&["--json", "--device", "flex", "learn", "task"]);
    finish(command.env("FAILPOINTS", failures))
}

#[test]
fn a_device_that_fails_at_once_leaves_what_the_processor_would_have_left() {
    let failed = with_task();
    let processor = with_task();
    let run = learn(&failed, "device=return");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("the processor is used from here on"), "{}", run.stderr);
    processor.json(&["--device", "cpu", "learn", "task"]);
    assert_eq!(failed.exported(), processor.exported());
}

#[test]
fn a_device_that_fails_half_way_costs_nothing_but_time() {
    let setting = with_task();
    // The first call folds the learned state; of three batches, the second fails.
    let run = learn(&setting, "device=2*off->return");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stderr.matches("the processor is used from here on").count(), 1);
    let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(report["shots"], 40, "{report}");
    let processor = with_task();
    processor.json(&["--device", "cpu", "learn", "task"]);
    let tests = [Thing::ALL[0], Thing::ALL[1]];
    let accuracy = |setting: &Setting| {
        setting.class_folders("test", &tests, 20, 2);
        setting.json(&["--device", "cpu", "evaluate", "test"])["accuracy"].clone()
    };
    assert_eq!(accuracy(&setting), accuracy(&processor));
}

#[test]
fn status_says_where_the_network_computes_and_how_well() {
    let setting = with_task();
    let device = |name: &str| setting.json(&["--device", name, "status"])["device"].clone();
    assert!(device("cpu")["parity"].is_null());
    let checked = device("flex");
    assert_eq!(checked["network"], "cpu, tensor by tensor", "{checked}");
    let forward = checked["parity"]["forward"].as_f64().expect("a number");
    assert!(forward > 0.0 && forward < 1e-4, "{checked}");
}

#[test]
fn a_device_that_is_not_there_is_said_with_those_that_are() {
    let setting = Setting::new();
    let run = setting.run(&["--device", "gpu:99", "status"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("gpu:99"), "{}", run.stderr);
    assert_eq!(setting.run(&["--device", "gpu:first", "status"]).code, 2, "wrong usage");
    assert!(setting.json(&["devices"]).is_array());
}
