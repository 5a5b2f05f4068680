//! Power cuts at every step of an update, a rollback and a withdrawal.

use std::collections::BTreeSet;
use std::path::Path;

use fmlora_device::Thing;
use serde_json::json;

use super::scene::{Scene, applied};
use super::site::Listed;
use super::workshop::Workshop;

/// Fail points at which the program ends during an update.
const UPDATING: [&str; 5] =
    ["update-downloaded", "update-fetched", "update-trying", "update-staged", "update-switched"];

/// Fail points at which it ends during a rollback.
const ROLLING_BACK: [&str; 2] = ["update-rolling-back", "update-rolled-back"];

/// Other fail points in the sources. The first one is met by a daemon alone.
const HOOKS: [&str; 6] = [
    "update-committed",
    "update-clock",
    "update-boot",
    "update-patience",
    "update-whole",
    "update-slow",
];

/// Fail points at which it ends while a withdrawn adapter is taken out.
const WITHDRAWING: [&str; 2] = ["update-withdrawing", "update-withdrawn"];

fn offer_moving(scene: &mut Scene) {
    let adapter = scene.workshop.moving("moving", 2, &[("box", Thing::Box)], 0.0);
    scene.site.publish(Listed::of(&adapter));
}

/// Runs a command that aborts at a fail point.
fn crash(scene: &mut Scene, point: &str, run: impl FnOnce(&Scene) -> i32) {
    scene.failpoints = format!("{point}=return");
    let code = run(scene);
    // A signal leaves no code.
    assert_eq!(code, -1, "{point} was not met");
    scene.failpoints.clear();
}

/// Crashes at every step, and then runs rounds until the end.
fn survives(offer: impl Fn(&mut Scene), target: &str) {
    let mut ground = Scene::updated(Workshop::toy());
    let old = ground.exported();
    offer(&mut ground);
    let sound = ground.copy();
    sound.taken(target);
    let new = sound.exported();
    assert_ne!(old, new);
    for point in UPDATING {
        let mut scene = ground.copy();
        crash(&mut scene, point, |scene| scene.update().code);
        let found = scene.exported();
        assert!(found == old || found == new, "{point}: neither the old state nor the new one");
        // The first round ends in the new adapter. The others find nothing, and roll nothing back.
        for round in 0..3 {
            let run = scene.update();
            assert_eq!(run.code, 0, "{point}, round {round}: {}", run.stderr);
            let expected = if round == 0 && found == old { target } else { "" };
            assert_eq!(applied(&run), expected, "{point}, round {round}: {}", run.stdout);
            assert_eq!(scene.exported(), new, "{point}, round {round}");
        }
        let files = scene.files();
        assert!(!files.contains(&"state/update.part".to_owned()), "{point}: {files:?}");
        scene.json(&["rollback"]);
        assert_eq!(scene.exported(), old, "{point}: taken back");
    }
}

#[test]
fn an_update_to_a_newer_release_survives_a_crash_at_every_step() {
    survives(|scene| scene.offer(2), "garden-2.fmla");
}

#[test]
fn an_update_that_changes_features_survives_a_crash_at_every_step() {
    survives(offer_moving, "moving-2.fmla");
}

#[test]
fn taking_back_survives_a_crash_at_every_step() {
    let offers: [fn(&mut Scene); 2] = [offer_moving, |scene| scene.offer(2)];
    for offer in offers {
        let mut ground = Scene::updated(Workshop::toy());
        let old = ground.exported();
        offer(&mut ground);
        assert_eq!(ground.update().code, 0);
        let new = ground.exported();
        assert_ne!(old, new);
        for point in ROLLING_BACK {
            let mut scene = ground.copy();
            crash(&mut scene, point, |scene| scene.run(&["rollback"]).code);
            let found = scene.exported();
            assert!(found == old || found == new, "{point}: neither the old state nor the new one");
            if found == new {
                scene.json(&["rollback"]);
            }
            assert_eq!(scene.exported(), old, "{point}");
            // The adapter that was rolled back is not retried; a newer release is applied.
            let run = scene.update();
            assert_eq!((run.code, applied(&run)), (0, String::new()), "{point}: {}", run.stderr);
            scene.offer(9);
            scene.taken("garden-9.fmla");
        }
    }
}

#[test]
fn taking_out_what_is_withdrawn_survives_a_crash_at_every_step() {
    let mut ground = Scene::new(Workshop::toy());
    let old = ground.exported();
    offer_moving(&mut ground);
    ground.taken("moving-2.fmla");
    let new = ground.exported();
    ground.site.listed[0].custom["withdrawn"] = json!({ "reason": "" });
    let next = ground.site.next();
    ground.site.write(&next);
    for point in WITHDRAWING {
        let mut scene = ground.copy();
        crash(&mut scene, point, |scene| scene.update().code);
        let found = scene.exported();
        assert!(found == old || found == new, "{point}: neither the old state nor the new one");
        for _ in 0..2 {
            assert_eq!(scene.update().code, 0, "{point}");
            assert_eq!(scene.exported(), old, "{point}");
        }
    }
}

/// A power cut in the middle of a try does not count against the adapter.
#[test]
fn a_power_cut_does_not_count_as_a_try() {
    let mut scene = Scene::updated(Workshop::toy());
    offer_moving(&mut scene);
    for start in 0..5 {
        scene.failpoints = format!("update-trying=return;update-boot=return({start})");
        assert_eq!(scene.update().code, -1, "it was not met");
    }
    scene.failpoints = "update-boot=return(last)".to_owned();
    scene.taken("moving-2.fmla");
}

/// An adapter that crashes the program is retried after a day, and after two if it crashes it
/// again.
#[test]
fn what_crashed_the_program_is_tried_again_after_a_time() {
    let mut scene = Scene::updated(Workshop::toy());
    offer_moving(&mut scene);
    let now = jiff::Timestamp::now().as_second();
    let at = |hours: i64| {
        let time = jiff::Timestamp::from_second(now + hours * 3600).expect("a time");
        format!("update-clock=return({time})")
    };
    let crash_at = |scene: &mut Scene, hours: i64| {
        for _ in 0..3 {
            scene.failpoints = format!("update-trying=return;{}", at(hours));
            assert_eq!(scene.update().code, -1, "it was not met");
        }
        scene.failpoints = at(hours);
        scene.not_taken("the program ended each time");
    };
    crash_at(&mut scene, 0);
    scene.failpoints = at(23);
    scene.not_taken("it is tried again from");
    crash_at(&mut scene, 25);
    scene.failpoints = at(25 + 47);
    scene.not_taken("it is tried again from");
    scene.failpoints = at(25 + 49);
    scene.taken("moving-2.fmla");
}

/// An adapter that ends the program at each try is not tried for ever, and does not block a newer
/// one.
#[test]
fn an_adapter_that_ends_the_program_is_refused_at_the_fourth_time() {
    let mut scene = Scene::updated(Workshop::toy());
    offer_moving(&mut scene);
    for _ in 0..3 {
        crash(&mut scene, "update-trying", |scene| scene.update().code);
    }
    let run = scene.update();
    let says = "moving-2.fmla was refused and is not tried again: the program ended each time";
    assert!(run.code == 1 && run.stderr.contains(says), "{}", run.stderr);
    assert_eq!(scene.remembered("update-file"), Some(vec![0]), "its file is dropped");
    scene.offer(3);
    scene.taken("garden-3.fmla");
}

#[test]
fn an_adapter_that_takes_too_long_is_refused_at_the_third_time() {
    let mut scene = Scene::updated(Workshop::toy());
    scene.offer(2);
    scene.failpoints = "update-slow=return".to_owned();
    for says in ["was not put to use this time", "was not put to use this time", "was refused"] {
        let run = scene.update();
        assert!(run.code == 1 && run.stderr.contains(says), "{says}: {}", run.stderr);
    }
    scene.failpoints.clear();
    assert_eq!(applied(&scene.update()), "", "it is not tried again");
}

/// Every fail point in the update client must be listed above.
#[test]
fn no_step_is_left_out() {
    let mut found = BTreeSet::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![src.join("update.rs")];
    for entry in std::fs::read_dir(src.join("update")).expect("sources") {
        files.push(entry.expect("an entry").path());
    }
    for file in files {
        let text = std::fs::read_to_string(file).expect("text");
        let names = text.split("fail_point!(").skip(1).filter_map(|rest| rest.split('"').nth(1));
        found.extend(names.map(str::to_owned));
    }
    let known = UPDATING.into_iter().chain(ROLLING_BACK).chain(WITHDRAWING).chain(HOOKS);
    let known = known.map(str::to_owned);
    assert_eq!(found, known.collect());
}
