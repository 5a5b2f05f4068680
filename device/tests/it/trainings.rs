//! Trainings of the daemon, which follow its answers.

use fmlora_device::Thing;
use serde_json::{Value, json};

use crate::served::{CAMERA, Daemon, OPEN, form, jpegs};
use crate::setting::{Setting, text};
use crate::tasks::{KEPT, REFUSED, base_with_bases};

/// Returns a box with the toy base that was taught a ball and a mug.
fn taught() -> Setting {
    let setting = Setting::new();
    std::fs::write(setting.path("toy.fmlb"), base_with_bases()).expect("a file");
    for (name, thing) in [("ball", Thing::ALL[0]), ("mug", Thing::ALL[1])] {
        setting.pictures(name, thing, 4, 1);
        setting.json(&["--base", "toy.fmlb", "teach", "--class", name, name]);
    }
    setting
}

fn start(setting: &Setting, failures: &str) -> Daemon {
    let base = setting.path("toy.fmlb");
    let environment = [("FMLORA_BASE", text(&base)), ("FAILPOINTS", failures)];
    Daemon::start_with(setting, &format!("{CAMERA}{OPEN}"), &environment)
}

/// Posts a task of two classes.
fn learn(daemon: &mut Daemon, names: [&str; 2]) -> Value {
    let pictures: Vec<(&str, Vec<u8>)> = names
        .into_iter()
        .zip([Thing::ALL[2], Thing::ALL[3]])
        .flat_map(|(name, thing)| jpegs(thing, 8, 5).into_iter().map(move |jpeg| (name, jpeg)))
        .collect();
    let parts: Vec<(&str, &[u8])> =
        pictures.iter().map(|(name, jpeg)| (*name, jpeg.as_slice())).collect();
    let (kind, body) = form(&parts);
    let (status, learned) = daemon.send("POST", "/api/v1/learn", &kind, &body);
    assert_eq!(status, 200, "{learned}");
    assert_eq!(learned["classes"], json!(names));
    assert_eq!(learned["training"], true, "{learned}");
    learned
}

fn known(daemon: &mut Daemon) -> (Vec<String>, Value) {
    let (_, mut known) = daemon.get("/api/v1/classes");
    let classes = known["classes"].as_array().expect("classes");
    let name = |class: &Value| class["name"].as_str().expect("a name").to_owned();
    (classes.iter().map(name).collect(), known["undo"].take())
}

fn end(mut daemon: Daemon) {
    daemon.signal("TERM");
    assert!(daemon.wait().success());
}

fn exported(setting: &Setting) -> Vec<u8> {
    setting.json(&["--base", "toy.fmlb", "export", "state.fmls"]);
    std::fs::read(setting.path("state.fmls")).expect("the file")
}

#[test]
fn the_answer_is_there_while_the_training_goes_on() {
    let setting = taught();
    let mut daemon = start(&setting, &format!("{KEPT};training-step=pause"));
    assert_eq!(daemon.get("/api/v1/info").1["training"], Value::Null);
    let learned = learn(&mut daemon, ["a", "b"]);
    assert!(learned["answered_seconds"].as_f64() > Some(0.0), "{learned}");
    assert_eq!(daemon.get("/api/v1/info").1["training"], json!({ "step": 0, "of": 0 }));
    let (classes, undo) = known(&mut daemon);
    assert_eq!(classes, ["a", "b", "ball", "mug"]);
    assert_eq!(undo[0], "learn a, b");
    let picture = jpegs(Thing::ALL[2], 1, 9).remove(0);
    assert_eq!(daemon.post_picture("/api/v1/classify", &picture).0, 200);
    assert_eq!(daemon.post_picture("/api/v1/classes/a/shots", &picture).0, 201);
    // The shutdown does not wait for a step that hangs.
    end(daemon);
    assert_eq!(setting.json(&["--base", "toy.fmlb", "status"])["state"]["classes"], 4);
}

#[test]
fn a_training_that_is_kept_takes_over_and_is_undone_to_the_bit() {
    let setting = taught();
    let before = exported(&setting);
    let mut daemon = start(&setting, REFUSED);
    learn(&mut daemon, ["a", "b"]);
    assert_eq!(daemon.line("training"), "not_better");
    assert_eq!(known(&mut daemon).1[0], "learn a, b");
    end(daemon);
    let answered = exported(&setting);
    setting.json(&["--base", "toy.fmlb", "undo"]);
    assert!(exported(&setting) == before);

    let mut daemon = start(&setting, KEPT);
    let learned = learn(&mut daemon, ["a", "b"]);
    let trained = loop {
        let line = daemon.any_line().expect("a line");
        if line["type"] == "trained" {
            break line;
        }
    };
    assert_eq!((&trained["training"], &trained["task"]), (&json!("kept"), &learned["task"]));
    assert!(trained["trained_seconds"].as_f64() > Some(0.0), "{trained}");
    assert_eq!(daemon.get("/api/v1/info").1["training"], Value::Null);
    assert_eq!(known(&mut daemon).1[0], "train the network (4 classes)");
    let picture = jpegs(Thing::ALL[2], 1, 9).remove(0);
    assert_eq!(daemon.post_picture("/api/v1/classify", &picture).0, 200);
    assert_eq!(daemon.json("POST", "/api/v1/undo", &json!({ "count": 1 })).0, 200);
    assert_eq!(known(&mut daemon).1[0], "learn a, b");
    end(daemon);
    assert!(exported(&setting) == answered, "the classes are known by their statistics alone");
    setting.json(&["--base", "toy.fmlb", "undo"]);
    assert!(exported(&setting) == before);
}

#[test]
fn what_is_taught_meanwhile_counts_and_the_training_is_dropped() {
    // In the first case the training notices it after a step, in the second case the thread that
    // takes the result over.
    for heard in ["", ";publish=2*off->1*return->off"] {
        let setting = taught();
        let failures = format!("{KEPT};training-step=1*sleep(4000)->off{heard}");
        let mut daemon = start(&setting, &failures);
        learn(&mut daemon, ["a", "b"]);
        let picture = jpegs(Thing::ALL[2], 1, 9).remove(0);
        assert_eq!(daemon.post_picture("/api/v1/classes/mug/shots", &picture).0, 201);
        assert_eq!(daemon.line("training"), "overtaken", "{failures}");
        end(daemon);
        let undone = setting.json(&["--base", "toy.fmlb", "undo", "--count", "2"]);
        assert_eq!(undone["undone"], json!(["teach mug", "learn a, b"]), "{failures}");
    }
}

#[test]
fn the_newest_task_is_trained_and_the_end_of_the_daemon_waits_for_none() {
    let setting = taught();
    let mut daemon = start(&setting, &format!("{KEPT};training-step=2*sleep(4000)->pause"));
    let tasks = [["a", "b"], ["c", "d"], ["e", "f"]].map(|names| learn(&mut daemon, names));
    // The first one ends after its step; the second one is replaced in the queue, or ends after its
    // step.
    let mut overtaken = Vec::new();
    while overtaken.len() < 2 {
        let line = daemon.any_line().expect("a line");
        if line["type"] == "trained" {
            assert_eq!(line["training"], "overtaken", "{line}");
            overtaken.push(line["task"].clone());
        }
    }
    overtaken.sort_by_key(Value::as_u64);
    assert_eq!(overtaken, [tasks[0]["task"].clone(), tasks[1]["task"].clone()]);
    assert!(daemon.get("/api/v1/info").1["training"].is_object());
    end(daemon);
    assert_eq!(setting.json(&["--base", "toy.fmlb", "status"])["state"]["classes"], 8);
}

#[test]
fn a_training_that_crashes_takes_nothing_with_it() {
    let setting = taught();
    let mut daemon = start(&setting, &format!("{KEPT};training-step=1*panic->off"));
    learn(&mut daemon, ["a", "b"]);
    assert_eq!(daemon.line("training"), "failed");
    assert_eq!(known(&mut daemon).0, ["a", "b", "ball", "mug"]);
    learn(&mut daemon, ["c", "d"]);
    assert_eq!(daemon.line("training"), "kept", "the next one is trained");
    end(daemon);
}
