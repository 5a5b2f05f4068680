//! Estimates of accuracy, and "have I done enough?", on the embedded base.

use fmlora_device::Thing;
use serde_json::Value;

use crate::setting::{Setting, text};

fn names(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().filter_map(Value::as_str).collect()
}

/// One burst of each thing gives two estimates, and is never enough. The same pictures again are no
/// new occasion, and are recognised.
#[test]
fn one_occasion_is_never_enough() {
    let setting = Setting::new();
    let things = setting.class_folders("things", &[Thing::Ball, Thing::Mug, Thing::Tree], 6, 1);
    let mut estimate = Value::Null;
    for _ in 0..2 {
        estimate = setting.json(&["learn", text(&things)])["estimate"].clone();
        let alike = &estimate["accuracy"];
        let another = &estimate["another_day"];
        let [alike, another] = [alike, another].map(|share| share.as_f64().expect("a share"));
        assert!((0.0..=1.0).contains(&alike) && (0.0..=1.0).contains(&another), "{estimate}");
        assert_eq!(estimate["enough"], false, "{estimate}");
    }
    assert_eq!(names(&estimate["one_occasion"]), ["ball", "mug", "tree"], "{estimate}");
    let told = setting.json(&["evaluate", text(&things)]);
    let unknown = told["unknown"].as_f64().expect("a share");
    assert!(unknown <= 0.2, "{unknown} of the pictures that were taught are unknown: {told}");
    assert!(told["calibration_error"].as_f64().is_some_and(|error| error <= 1.0), "{told}");
    let text = setting.run(&["learn", text(&things)]).stdout;
    for words in ["on pictures like these:", "on another day: about", "enough? "] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

/// Subfolders of a class are its occasions: learned at once, they give the same estimate as learned
/// one after the other.
#[test]
fn folders_below_a_class_are_its_occasions() {
    let things = [Thing::Ball, Thing::Mug, Thing::Tree];
    let setting = Setting::new();
    let [first, second] = [1, 2].map(|seed| {
        setting.class_folders(&format!("day{seed}"), &things, 5, seed);
        setting.path(&format!("day{seed}"))
    });
    setting.json(&["learn", text(&first)]);
    let one_by_one = setting.json(&["learn", text(&second)])["estimate"].clone();
    let both = Setting::new();
    for (day, folder) in [("1", &first), ("2", &second)] {
        for class in std::fs::read_dir(folder).expect("the classes") {
            let class = class.expect("a class").path();
            let below = both.path("days").join(class.file_name().expect("a name"));
            std::fs::create_dir_all(&below).expect("a folder");
            std::fs::rename(&class, below.join(day)).expect("moved");
        }
    }
    let at_once = both.json(&["learn", text(&both.path("days"))])["estimate"].clone();
    for key in ["another_day", "per_class_another_day", "one_occasion"] {
        assert_eq!(at_once[key], one_by_one[key], "{key}");
    }
}
