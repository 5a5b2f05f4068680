//! Effects of an update and its rollback on what was taught: nothing is lost, and all that can be
//! exact is exact.

use fmlora_device::Thing;
use fmlora_learner::format::AdapterFile;
use serde_json::Value;

use super::scene::{Scene, applied};
use super::server::Fault;
use super::site::Listed;
use super::workshop::{BROUGHT, Workshop};
use crate::setting::text;

/// Number of shots taught of a thing at once.
const TAUGHT: u64 = 6;

fn taken(scene: &mut Scene, adapter: &AdapterFile) {
    let listed = Listed::of(adapter);
    let name = listed.name.clone();
    scene.site.publish(listed);
    scene.taken(&name);
}

fn moving(workshop: &Workshop) -> AdapterFile {
    workshop.moving("moving", 1, &[("tree", Thing::Tree)], 0.0)
}

fn names(scene: &Scene) -> Vec<String> {
    scene.classes().into_iter().map(|(name, _)| name).collect()
}

fn shots(scene: &Scene, class: &str) -> u64 {
    let classes = scene.classes();
    classes.into_iter().find(|(name, _)| name == class).expect("a class").1
}

/// Returns the share of fresh pictures of these things that are classified correctly.
fn accuracy(scene: &Scene, things: &[Thing]) -> f64 {
    let exam = scene.setting.class_folders("accuracy", things, 6, 4);
    let evaluated = scene.json(&["evaluate", text(&exam)]);
    std::fs::remove_dir_all(exam).expect("removed");
    evaluated["accuracy"].as_f64().expect("a number")
}

#[test]
fn what_was_taken_back_has_never_been() {
    let workshop = Workshop::toy();
    let rank_0 = workshop.rank_0("garden", 1, &[("tree", Thing::Tree)]);
    for adapter in [rank_0, moving(workshop)] {
        let mut scene = Scene::new(workshop);
        let before = scene.known();
        taken(&mut scene, &adapter);
        assert_eq!(names(&scene), ["ball", "mug", "tree"]);
        assert_eq!(shots(&scene, "tree"), u64::from(BROUGHT));
        assert_ne!(scene.known(), before);
        let answer = scene.json(&["rollback"]);
        assert_eq!(answer["rolled_back"], format!("{}-1.fmla", adapter.facts.name));
        assert_eq!(scene.known(), before);
        let again = scene.run(&["rollback"]);
        assert!(
            again.code == 1 && again.stderr.contains("no adapter is in use"),
            "{}",
            again.stderr
        );
        assert_eq!(applied(&scene.update()), "", "it is not tried again by itself");
    }
}

#[test]
fn a_class_taught_since_stays_and_the_others_are_what_they_were() {
    let workshop = Workshop::toy();
    let without = Scene::new(workshop);
    let before = without.exported();
    without.teach(Thing::Box);
    let with_box = without.exported();
    // The features did not change: the class `box` is the same as without the adapter.
    let mut scene = Scene::new(workshop);
    taken(&mut scene, &workshop.rank_0("garden", 1, &[("tree", Thing::Tree)]));
    scene.teach(Thing::Box);
    scene.json(&["rollback"]);
    assert_eq!(scene.exported(), with_box);
    // The features changed: the class `box` is moved back with all its shots.
    let mut scene = Scene::new(workshop);
    taken(&mut scene, &moving(workshop));
    scene.teach(Thing::Box);
    scene.json(&["rollback"]);
    assert_eq!(names(&scene), ["ball", "box", "mug"]);
    assert_eq!(shots(&scene, "box"), TAUGHT);
    scene.json(&["forget", "box"]);
    assert_eq!(scene.exported(), before);
}

#[test]
fn a_class_of_a_name_that_is_known_joins_it() {
    let mut scene = Scene::new(Workshop::toy());
    let before = scene.known();
    let adapter = scene.workshop.rank_0("garden", 1, &[("BALL", Thing::Ball)]);
    taken(&mut scene, &adapter);
    assert_eq!(names(&scene), ["ball", "mug"]);
    assert_eq!(shots(&scene, "ball"), TAUGHT + u64::from(BROUGHT));
    let other = scene.copy();
    scene.json(&["rollback"]);
    assert_eq!(scene.known(), before);
    // Taught since then: shots taught here stay, and shots of the adapter go.
    other.teach(Thing::Ball);
    other.json(&["rollback"]);
    let taught = Scene::new(Workshop::toy());
    taught.teach(Thing::Ball);
    assert_eq!(shots(&other, "ball"), 2 * TAUGHT);
    assert_eq!(other.exported(), taught.exported(), "to the bit");
}

#[test]
fn a_newer_release_takes_the_place_of_the_older() {
    let mut scene = Scene::updated(Workshop::toy());
    let first = scene.known();
    scene.offer(2);
    scene.taken("garden-2.fmla");
    let mut fresh = Scene::new(Workshop::toy());
    fresh.offer(2);
    fresh.taken("garden-2.fmla");
    assert_eq!(scene.exported(), fresh.exported(), "as if the older one had never been");
    assert_eq!(shots(&scene, "tree"), u64::from(BROUGHT));
    scene.json(&["rollback"]);
    assert_eq!(scene.known(), first, "the older one is in use again");
}

/// Of several releases in a repository that a device sees for the first time, the newest is
/// applied, and no older one after it.
#[test]
fn the_newest_release_is_taken() {
    let mut scene = Scene::new(Workshop::toy());
    for release in [3, 1, 2] {
        scene.offer(release);
    }
    scene.taken("garden-3.fmla");
    assert_eq!(applied(&scene.update()), "");
}

#[test]
fn a_round_says_what_waits_and_the_status_what_is_in_use() {
    let mut scene = Scene::new(Workshop::toy());
    scene.offer(1);
    let tools = scene.workshop.rank_0("tools", 2, &[("box", Thing::Box)]);
    scene.site.publish(Listed::of(&tools));
    let url = scene.server.url();
    let root = scene.setting.path("root.json");
    let look = scene.json(&["update", "--from", &url, "--root", text(&root), "--check"]);
    assert_eq!(look["waiting"], serde_json::json!(["garden-1.fmla", "tools-2.fmla"]));
    let round = scene.json(&["update", "--from", &url, "--root", text(&root)]);
    assert_eq!(round["applied"]["target"], "garden-1.fmla");
    assert_eq!(round["waiting"], serde_json::json!(["tools-2.fmla"]));
    let told = scene.json(&["status"]);
    let update = &told["update"];
    assert_eq!(
        (&update["in_use"][0]["name"], &update["phase"]),
        (&"garden".into(), &"committed".into())
    );
    assert!(update["device"].as_str().is_some_and(|id| id.len() == 32), "{told}");
    assert_eq!((&look["device"], &round["device"]), (&update["device"], &update["device"]));
    assert_eq!(told["state"]["feature_space"], round["feature_space"]);
    let words = scene.setting.run(&["--device", "cpu", "--base", "base.fmlb", "status"]).stdout;
    assert!(words.contains("in use: garden release 1 (garden-1.fmla)"), "{words}");
}

/// After a rollback, an older release that was never in use here is not applied.
#[test]
fn what_is_older_than_what_was_taken_back_needs_a_word() {
    let mut scene = Scene::new(Workshop::toy());
    let before = scene.known();
    scene.offer(2);
    scene.taken("garden-2.fmla");
    scene.offer(1);
    scene.json(&["rollback"]);
    scene.not_taken("release 2 of it was taken back, and this one is older");
    assert_eq!(scene.known(), before);
    // A release that is named is tried alone, even if a newer one could be.
    let url = scene.server.url();
    let again = |target: &str| {
        let answer = scene.json(&["update", "--from", &url, "--again", target]);
        answer["applied"]["target"].as_str().map(str::to_owned)
    };
    assert_eq!(again("other-1.fmla"), None);
    assert_eq!(again("garden-1.fmla").as_deref(), Some("garden-1.fmla"));
    scene.json(&["rollback"]);
    let all = scene.json(&["update", "--from", &url, "--again"]);
    assert_eq!(all["applied"]["target"], "garden-2.fmla");
}

#[test]
fn each_roll_back_leads_one_update_further_back() {
    let mut scene = Scene::new(Workshop::toy());
    let mut known = vec![scene.known()];
    for release in [1, 2] {
        scene.offer(release);
        scene.taken(&format!("garden-{release}.fmla"));
        known.push(scene.known());
    }
    let tools = |release| Workshop::toy().rank_0("tools", release, &[("box", Thing::Box)]);
    taken(&mut scene, &tools(3));
    known.push(scene.known());
    // A release beneath another adapter, then a release of that adapter itself.
    scene.offer(4);
    scene.taken("garden-4.fmla");
    known.push(scene.known());
    taken(&mut scene, &tools(5));
    for before in known.into_iter().rev() {
        scene.json(&["rollback"]);
        assert_eq!(scene.known(), before);
    }
    let end = scene.run(&["rollback"]);
    assert!(end.code == 1 && end.stderr.contains("no adapter is in use"), "{}", end.stderr);
}

#[test]
fn one_that_cannot_be_used_keeps_no_other_away() {
    let mut scene = Scene::new(Workshop::toy());
    let loses = AdapterFile { drift: None, ..moving(scene.workshop) };
    scene.site.publish(Listed::of(&loses));
    let tools = scene.workshop.rank_0("tools", 2, &[("box", Thing::Box)]);
    scene.site.publish(Listed::of(&tools));
    let missing = scene.site.listed[1].path();
    scene.server.fail(&missing, Fault::Status(404));
    scene.offer(3);
    scene.taken("garden-3.fmla");
    // The first reason is reported if no other adapter can be applied.
    scene.not_taken("moving-1.fmla changes the features and carries no drift map");
    scene.server.heal();
    scene.taken("tools-2.fmla");
}

#[test]
fn an_import_does_not_change_the_network_under_updates() {
    let mut other = Scene::new(Workshop::toy());
    let adapter = moving(other.workshop);
    taken(&mut other, &adapter);
    let scene = Scene::updated(Workshop::toy());
    std::fs::write(scene.setting.path("other.fmls"), other.exported()).expect("a file");
    for class in names(&scene) {
        scene.json(&["forget", &class]);
    }
    let run = scene.run(&["import", "other.fmls"]);
    assert!(run.code == 1 && run.stderr.contains("take them back first"), "{}", run.stderr);
    scene.json(&["rollback"]);
    scene.json(&["import", "other.fmls"]);
    assert_eq!(scene.exported(), other.exported());
}

/// On the embedded base, which has meaningful features.
#[test]
fn an_adapter_that_changes_features_takes_what_was_taught_along() {
    let mut scene = Scene::new(Workshop::embedded());
    let before = scene.exported();
    let adapter = moving(scene.workshop);
    taken(&mut scene, &adapter);
    assert_ne!(scene.exported(), before);
    scene.teach(Thing::Star);
    let brought = u64::from(BROUGHT);
    let shots = [("ball", TAUGHT), ("mug", TAUGHT), ("star", TAUGHT), ("tree", brought)];
    assert_eq!(scene.classes(), shots.map(|(name, shots)| (name.to_owned(), shots)));
    let after = accuracy(&scene, &[Thing::Ball, Thing::Mug, Thing::Tree, Thing::Star]);
    assert!(after > 0.9, "{after}");
    scene.json(&["rollback"]);
    let back = accuracy(&scene, &[Thing::Ball, Thing::Mug, Thing::Star]);
    assert!(back > 0.9, "what was taught in other features is told: {back}");
    scene.json(&["forget", "star"]);
    assert_eq!(scene.exported(), before);
}

#[test]
fn classes_are_lost_only_by_the_word_of_the_operator() {
    let mut scene = Scene::new(Workshop::toy());
    let before = scene.known();
    let adapter = AdapterFile { drift: None, ..moving(scene.workshop) };
    scene.site.publish(Listed::of(&adapter));
    let asked = scene.update();
    assert!(
        asked.code == 1 && asked.stderr.contains("ball, mug would be lost"),
        "{}",
        asked.stderr
    );
    assert_eq!(scene.known(), before);
    let url = scene.server.url();
    let lose = ["update", "--from", &url, "--lose-classes"];
    assert_eq!(scene.json(&lose)["applied"]["target"], "moving-1.fmla");
    assert_eq!(names(&scene), ["tree"]);
    scene.json(&["rollback"]);
    assert_eq!(scene.known(), before, "even so they are not gone for good");
}

#[test]
fn a_look_changes_nothing_and_a_stick_is_as_good_as_a_server() {
    let mut scene = Scene::new(Workshop::toy());
    let before = scene.exported();
    scene.offer(1);
    let untrusted = scene.run(&["update", "--from", &scene.server.url()]);
    assert_eq!(untrusted.code, 1);
    assert!(untrusted.stderr.contains("no repository is trusted yet"), "{}", untrusted.stderr);
    let stick = text(scene.site.folder()).to_owned();
    let root = text(&scene.site.first_root()).to_owned();
    let update = ["update", "--from", &stick, "--root", &root];
    let look = scene.json(&[&update[..], &["--check"]].concat());
    assert_eq!(look["adapters"][0]["target"], "garden-1.fmla");
    assert_eq!(
        (&look["adapters"][0]["not_for_us"], &look["applied"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(scene.exported(), before);
    let untrusted = scene.run(&update[..3]);
    assert!(untrusted.stderr.contains("no repository is trusted yet"), "not the root either");
    assert_eq!(scene.json(&update)["applied"]["target"], "garden-1.fmla");
    let by_stick = scene.exported();
    // The root is trusted from now on. It need not be named again.
    scene.offer(2);
    assert_eq!(scene.json(&update[..3])["applied"]["target"], "garden-2.fmla");
    assert_eq!(Scene::updated(Workshop::toy()).exported(), by_stick);
}
