//! Teach, learn, classify, evaluate, forget, rename, undo, export, import.

use fmlora_device::Thing;

use crate::setting::{Setting, text};

const THINGS: [Thing; 3] = [Thing::Ball, Thing::Tree, Thing::Mug];

fn class_names(setting: &Setting) -> Vec<String> {
    let classes = setting.json(&["classes"]);
    let names = classes.as_array().expect("a list").iter();
    names.map(|c| c["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_box_learns_what_it_is_shown() {
    let setting = Setting::new();
    let lessons = setting.class_folders("lessons", &THINGS, 6, 1);
    let learned = setting.json(&["learn", text(&lessons)]);
    assert_eq!(learned["shots"], 18);
    assert_eq!(learned["rank"], 0);
    assert_eq!(learned["kept"], true);
    assert_eq!(learned["skipped"].as_array().map(Vec::len), Some(0));
    for key in
        ["task", "classes", "complexity", "trained_seconds", "total_seconds", "accuracy_before"]
    {
        assert!(learned.get(key).is_some(), "the contract has {key}");
    }
    assert!(learned["accuracy_after"].as_f64().expect("an estimate") > 0.7);

    let exam = setting.class_folders("exam", &THINGS, 5, 2);
    let evaluated = setting.json(&["evaluate", text(&exam)]);
    assert_eq!(evaluated["images"], 15);
    let accuracy = evaluated["accuracy"].as_f64().expect("a number");
    assert!(accuracy >= 0.8, "accuracy {accuracy} on fresh pictures of three plain things");
    for key in ["per_class", "confusion", "seconds"] {
        assert!(evaluated.get(key).is_some(), "the contract has {key}");
    }

    let picture = setting.pictures("one", Thing::Mug, 1, 3);
    let said = setting.json(&["classify", text(&picture[0])]);
    assert_eq!(said["class"], "mug");
    assert_eq!(said["top"].as_array().map(Vec::len), Some(3));
    assert!(said["confidence"].as_f64() > Some(0.3) && said["unknown"].is_boolean());
}

#[test]
fn forget_is_exact_and_undo_brings_it_back() {
    let setting = Setting::new();
    setting.teach(Thing::Ball, 3);
    setting.teach(Thing::Mug, 3);
    let without = setting.exported();
    setting.teach(Thing::Tree, 3);
    let with = setting.exported();
    assert_ne!(with, without);
    setting.json(&["forget", "TREE"]);
    assert_eq!(setting.exported(), without, "the state equals one that never saw the tree");
    setting.json(&["undo"]);
    assert_eq!(setting.exported(), with);
    setting.json(&["rename", "ball", "Tomato"]);
    assert_eq!(class_names(&setting), ["mug", "Tomato", "tree"]);
    let undone = setting.json(&["undo", "--count", "2"]);
    assert_eq!(undone["undone"].as_array().map(Vec::len), Some(2), "{undone}");
    assert_eq!(setting.exported(), without);
    let too_many = setting.run(&["undo", "--count", "9"]);
    assert_eq!(too_many.code, 1);
    assert!(too_many.stderr.contains("only 2 are kept"), "{}", too_many.stderr);
}

#[test]
fn teaching_shot_by_shot_adds_up() {
    let setting = Setting::new();
    let shots = setting.pictures("shots", Thing::Star, 3, 1);
    for (i, shot) in shots.iter().enumerate() {
        let taught = setting.json(&["teach", "--class", "star", text(shot)]);
        assert_eq!(taught["shots"], i + 1);
        assert!(taught["estimate"].is_null(), "one class cannot be confused");
    }
    setting.pictures("balls", Thing::Ball, 3, 1);
    let taught = setting.json(&["teach", "--class", "ball", "balls"]);
    assert!(taught["estimate"]["accuracy"].is_number());
    assert!(taught["estimate"]["advice"].is_string());
}

#[test]
fn classes_travel_to_another_box() {
    let one = Setting::new();
    let other = Setting::new();
    one.teach(Thing::Ball, 3);
    one.teach(Thing::Mug, 3);
    let file = one.path("classes.fmls");
    one.json(&["export", text(&file)]);
    other.teach(Thing::Mug, 2);
    let before = other.exported();
    let clash = other.run(&["import", text(&file)]);
    assert_eq!(clash.code, 1);
    assert!(clash.stderr.contains("\"mug\" exists already"), "{}", clash.stderr);
    assert_eq!(other.exported(), before);
    other.json(&["import", "--replace", text(&file)]);
    assert_eq!(other.exported(), one.exported());
    other.json(&["undo"]);
    assert_eq!(other.exported(), before);
}

#[test]
fn status_and_demo_tell_what_happens() {
    let setting = Setting::new();
    let empty = setting.json(&["status"]);
    assert_eq!(empty["state"]["classes"], 0);
    assert!(!setting.path("state").exists(), "looking makes no state");
    let demo = setting.json(&["demo", "--headless", "--shots", "4", "--seed", "3"]);
    assert_eq!(demo["undo_exact"], true);
    assert_eq!(demo["rows"].as_array().map(Vec::len), Some(5));
    let forgotten = demo["forgot"].as_str().expect("a name");
    for row in demo["rows"].as_array().expect("rows") {
        assert_eq!(row["taught"], row["after_undo"]);
        if row["thing"] == forgotten {
            assert_eq!(row["after_forget"], 0.0, "a forgotten thing is never named");
        }
    }
    assert!(demo["accuracy"].as_f64() > Some(0.8), "{demo}");
}

#[test]
fn twenty_operations_can_be_undone_and_new_ones_follow() {
    let setting = Setting::new();
    setting.teach(Thing::Ball, 2);
    let taught = setting.exported();
    for i in 0..21 {
        let old = if i == 0 { "ball".to_owned() } else { format!("n{i}") };
        let new = format!("n{}", i + 1);
        setting.json(&["rename", &old, &new]);
    }
    assert_eq!(setting.run(&["undo", "--count", "21"]).code, 1, "the journal keeps 20");
    setting.json(&["undo", "--count", "20"]);
    assert_eq!(class_names(&setting), ["n1"]);
    setting.json(&["rename", "n1", "ball"]);
    assert_eq!(setting.exported(), taught);
    setting.json(&["undo"]);
    assert_eq!(class_names(&setting), ["n1"]);
    assert_eq!(setting.run(&["undo"]).code, 1, "older operations are not kept");
}

/// An operation is done when it is written. A lost report does not make it fail, or a script would
/// do it again.
#[test]
#[cfg(target_os = "linux")]
fn a_lost_report_is_no_failure() {
    let setting = Setting::new();
    setting.pictures("balls", Thing::Ball, 2, 1);
    let full = std::fs::File::create("/dev/full").expect("the full device");
    let mut command = setting.command(&["--json", "teach", "--class", "ball", "balls"]);
    let child = command.stdout(full).stderr(std::process::Stdio::piped()).spawn();
    let output = child.and_then(std::process::Child::wait_with_output).expect("the program runs");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("the report cannot be written"));
    assert_eq!(class_names(&setting), ["ball"]);
}

/// Two things under one name give a class two modes; one thing shown twice gives one mode.
#[test]
fn a_class_of_two_things_has_two_modes() {
    let setting = Setting::new();
    for (folder, thing, seed) in
        [("balls", Thing::ALL[0], 1), ("more-balls", Thing::ALL[0], 2), ("mugs", Thing::ALL[4], 3)]
    {
        setting.pictures(folder, thing, 12, seed);
    }
    let modes = || setting.json(&["classes"])[0]["modes"].clone();
    let mut found = Vec::new();
    for folder in ["balls", "more-balls", "mugs"] {
        setting.json(&["teach", "--class", "toy", folder]);
        found.push(modes());
    }
    assert_eq!(found, [1, 1, 2]);
    assert_eq!(setting.json(&["classes"])[0]["shots"], 36);
    setting.json(&["undo"]);
    assert_eq!(modes(), 1);
}
