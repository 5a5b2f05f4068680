//! Adapters that their publisher has withdrawn: they are taken out, and what was taught here stays.

use fmlora_device::Thing;
use fmlora_learner::format::{AdapterFacts, AdapterFile};
use serde_json::{Value, json};

use super::scene::{Scene, applied};
use super::site::Listed;
use super::workshop::{BROUGHT, Workshop};
use crate::served::{Daemon, until};
use crate::update_daemon::{BY_HAND, config, names, post, start, status, wait_for};

const REASON: &str = "takes a mug for a tree";

/// Publishes the withdrawal of this target, like `publish withdraw`.
fn withdraw(scene: &mut Scene, target: &str) {
    let listed = scene.site.listed.iter_mut().find(|listed| listed.name == target);
    let custom = &mut listed.expect("a target").custom;
    custom["rollout"]["percent"] = 0.into();
    custom["withdrawn"] = json!({ "reason": REASON });
    let next = scene.site.next();
    scene.site.write(&next);
}

fn publish(scene: &mut Scene, adapter: &AdapterFile) -> String {
    let listed = Listed::of(adapter);
    let name = listed.name.clone();
    scene.site.publish(listed);
    name
}

fn update(scene: &Scene) -> Value {
    let run = scene.update();
    assert_eq!(run.code, 0, "{}", run.stderr);
    serde_json::from_str(run.stdout.trim()).expect("JSON")
}

fn known_names(scene: &Scene) -> Vec<String> {
    scene.classes().into_iter().map(|(name, _)| name).collect()
}

/// Makes an adapter of classes alone, for devices with the adapter `beneath`.
fn on_top_of(workshop: &Workshop, beneath: &AdapterFile, name: &str, release: u64) -> AdapterFile {
    let facts = AdapterFacts {
        space_before: beneath.facts.space_after,
        ..workshop.rank_0(name, release, &[("box", Thing::Box)]).facts
    };
    AdapterFile {
        facts: AdapterFacts { space_after: beneath.facts.space_after, ..facts },
        known_answer: beneath.known_answer.clone(),
        ..workshop.rank_0(name, release, &[("box", Thing::Box)])
    }
}

#[test]
fn what_is_withdrawn_has_never_been() {
    let workshop = Workshop::toy();
    let rank_0 = workshop.rank_0("garden", 1, &[("tree", Thing::Tree)]);
    let moving = workshop.moving("moving", 1, &[("tree", Thing::Tree)], 0.0);
    for adapter in [rank_0, moving] {
        let mut scene = Scene::new(workshop);
        let before = scene.known();
        let target = publish(&mut scene, &adapter);
        scene.taken(&target);
        withdraw(&mut scene, &target);
        // A look alone changes nothing, and reports the withdrawal.
        let url = scene.server.url();
        let looked = scene.json(&["update", "--from", &url, "--check"]);
        let order = json!([{ "target": target, "reason": REASON, "in_use": true }]);
        assert_eq!((&looked["withdrawn"], &looked["taken_out"]), (&order, &json!([])));
        let told = update(&scene);
        assert_eq!((&told["taken_out"], &told["classes"]), (&json!([target]), &json!(2)));
        assert_eq!(scene.known(), before);
        scene.not_taken(&format!("withdrawn by its publisher: {REASON}"));
        let again = scene.json(&["update", "--from", &url, "--again", &target]);
        assert_eq!(again["applied"], Value::Null, "not even by the word of the operator");
        let back = scene.run(&["rollback"]);
        assert!(back.stderr.contains("no adapter is in use"), "{}", back.stderr);
    }
}

/// The newest release that is left of the same line is applied next.
#[test]
fn the_release_before_comes_in_its_place() {
    let mut scene = Scene::updated(Workshop::toy());
    let first = scene.exported();
    scene.offer(2);
    scene.taken("garden-2.fmla");
    withdraw(&mut scene, "garden-2.fmla");
    let told = update(&scene);
    assert_eq!(told["taken_out"], json!(["garden-2.fmla"]));
    assert_eq!(told["applied"]["target"], "garden-1.fmla");
    assert_eq!(scene.exported(), first);
    scene.offer(3);
    scene.taken("garden-3.fmla");
}

#[test]
fn what_lies_on_it_and_what_was_taught_stays() {
    let workshop = Workshop::toy();
    let mut without = Scene::new(workshop);
    let mut scene = Scene::updated(workshop);
    let tools = workshop.rank_0("tools", 2, &[("box", Thing::Box)]);
    for scene in [&mut without, &mut scene] {
        let target = publish(scene, &tools);
        scene.taken(&target);
        scene.teach(Thing::Star);
        scene.teach(Thing::Box);
    }
    scene.teach(Thing::Tree);
    scene.json(&["undo"]);
    withdraw(&mut scene, "garden-1.fmla");
    assert_eq!(update(&scene)["taken_out"], json!(["garden-1.fmla"]));
    assert_eq!(scene.exported(), without.exported(), "to the bit");
    // A rollback skips the withdrawn adapter.
    scene.json(&["rollback"]);
    assert_eq!(known_names(&scene), ["ball", "box", "mug", "star"]);
    without.json(&["rollback"]);
    assert_eq!(scene.exported(), without.exported());
}

/// Adapters that continue removed features are taken out with them.
#[test]
fn a_network_that_was_changed_goes_back_to_the_base() {
    let workshop = Workshop::toy();
    let moving = workshop.moving("moving", 1, &[("tree", Thing::Tree)], 0.0);
    let mut scene = Scene::new(workshop);
    let before = scene.known();
    let target = publish(&mut scene, &moving);
    scene.taken(&target);
    let top = publish(&mut scene, &on_top_of(workshop, &moving, "top", 2));
    scene.taken(&top);
    // An adapter for the base's features cannot be used, although it is newer.
    scene.offer(3);
    scene.not_taken("made for other features than this box has now");
    withdraw(&mut scene, &target);
    let told = update(&scene);
    assert_eq!(told["taken_out"], json!([target, top]));
    assert_eq!(told["applied"]["target"], "garden-3.fmla", "it can be used again");
    scene.json(&["rollback"]);
    assert_eq!(scene.known(), before);
}

#[test]
fn a_roll_back_brings_nothing_back_that_is_withdrawn() {
    let workshop = Workshop::toy();
    let mut scene = Scene::new(workshop);
    scene.offer(1);
    scene.taken("garden-1.fmla");
    let tools = publish(&mut scene, &workshop.rank_0("tools", 2, &[("box", Thing::Box)]));
    scene.taken(&tools);
    // It replaces a release beneath another adapter. A rollback would restore both.
    scene.offer(3);
    scene.taken("garden-3.fmla");
    withdraw(&mut scene, &tools);
    assert_eq!(update(&scene)["taken_out"], json!([tools]));
    let back = scene.run(&["rollback"]);
    assert!(back.code == 1 && back.stderr.contains("no adapter is in use"), "{}", back.stderr);
    assert_eq!(known_names(&scene), ["ball", "mug", "star", "tree"]);
}

#[test]
fn classes_that_would_be_lost_keep_it_until_the_operator_says_so() {
    let workshop = Workshop::toy();
    let mut scene = Scene::new(workshop);
    let moving = workshop.moving("moving", 1, &[("tree", Thing::Tree)], 0.0);
    let target = publish(&mut scene, &AdapterFile { drift: None, ..moving });
    let url = scene.server.url();
    let root = scene.setting.path("root.json");
    let root = root.to_str().expect("text");
    let lose = ["update", "--from", &url, "--root", root, "--lose-classes"];
    assert_eq!(scene.json(&lose)["applied"]["target"], *target);
    scene.teach(Thing::Star);
    withdraw(&mut scene, &target);
    let asked = scene.update();
    assert!(asked.code == 1 && asked.stderr.contains("star would be lost"), "{}", asked.stderr);
    assert_eq!(known_names(&scene), ["star", "tree"]);
    assert_eq!(scene.json(&lose)["taken_out"], json!([target]));
    assert_eq!(known_names(&scene), ["ball", "mug"]);
}

#[test]
fn an_order_that_cannot_be_read_changes_nothing() {
    let mut scene = Scene::updated(Workshop::toy());
    let before = scene.known();
    let long = "x".repeat(201);
    for wrong in [json!(true), json!({}), json!({ "reason": 3 }), json!({ "reason": long })] {
        scene.site.publish_wrong(|next| next.listed[0].custom["withdrawn"] = wrong.clone());
        let run = scene.update();
        assert!(run.stdout.contains("withdrawn: "), "{wrong}: {}", run.stdout);
        assert_eq!(applied(&run), "");
        assert_eq!(scene.known(), before, "{wrong}");
    }
}

#[test]
fn a_daemon_obeys_without_a_camera_and_in_a_trial() {
    const AWAY: &str = "source = \"http://127.0.0.1:9/\"";
    let mut scene = Scene::updated(Workshop::toy());
    let polls = "poll_seconds = 1\ntrial_seconds = 600\n";
    let mut daemon = Daemon::start_with(&scene.setting, &config(&scene, AWAY, polls), &[]);
    assert_eq!(names(&mut daemon), ["ball", "mug", "tree"]);
    withdraw(&mut scene, "garden-1.fmla");
    let told = wait_for(&mut daemon, "rolled_back");
    assert!(told["why"].as_str().is_some_and(|why| why.contains(REASON)), "{told}");
    assert_eq!((&told["in_use"], names(&mut daemon).len()), (&json!([]), 2), "{told}");
    drop(daemon);
    // An adapter on trial is taken out as well, and a newer one is applied.
    scene.offer(2);
    let mut daemon = start(&scene, polls);
    wait_for(&mut daemon, "trial");
    withdraw(&mut scene, "garden-2.fmla");
    wait_for(&mut daemon, "rolled_back");
    scene.offer(3);
    until("the next one", || status(&mut daemon)["in_use"][0]["target"] == "garden-3.fmla");
}

#[test]
fn where_updates_are_by_hand_so_is_a_withdrawal() {
    let mut scene = Scene::updated(Workshop::toy());
    let mut daemon = start(&scene, BY_HAND);
    withdraw(&mut scene, "garden-1.fmla");
    assert_eq!(post(&mut daemon, "check", &json!({})).0, 200);
    let told = status(&mut daemon);
    assert_eq!(told["in_use"][0]["withdrawn"], REASON, "{told}");
    assert_eq!(names(&mut daemon).len(), 3);
    let (code, told) = post(&mut daemon, "apply", &json!({}));
    assert_eq!((code, &told["in_use"]), (200, &json!([])), "{told}");
    assert_eq!(names(&mut daemon), ["ball", "mug"]);
}

/// Shots that an adapter brings to a class that is taught here as well are counted once, in any
/// order.
#[test]
fn the_next_release_takes_the_place_of_the_shots_of_the_last() {
    let brings_ball =
        |scene: &Scene, release| scene.workshop.rank_0("garden", release, &[("BALL", Thing::Tree)]);
    let mut scene = Scene::new(Workshop::toy());
    let first = brings_ball(&scene, 1);
    let target = publish(&mut scene, &first);
    scene.taken(&target);
    scene.teach(Thing::Ball);
    let mut fresh = Scene::new(Workshop::toy());
    fresh.teach(Thing::Ball);
    let taught = fresh.exported();
    for release in [2, 3] {
        for scene in [&mut scene, &mut fresh] {
            let next = brings_ball(scene, release);
            let target = publish(scene, &next);
            scene.taken(&target);
        }
        let shots = scene.classes()[0].clone();
        assert_eq!(shots, ("ball".to_owned(), 12 + u64::from(BROUGHT)));
        assert_eq!(scene.exported(), fresh.exported(), "release {release}");
    }
    // Forgetting, undoing and renaming keep the parts of a class.
    scene.json(&["forget", "ball"]);
    scene.json(&["undo"]);
    scene.json(&["rename", "ball", "globe"]);
    scene.json(&["rename", "globe", "ball"]);
    for release in 1..=3 {
        withdraw(&mut scene, &format!("garden-{release}.fmla"));
    }
    assert_eq!(update(&scene)["taken_out"], json!(["garden-3.fmla"]));
    assert_eq!(scene.exported(), taught);
}

/// Shots that an older program mixed stay mixed, and everything else works as usual.
#[test]
fn a_state_of_an_older_program_goes_on() {
    let workshop = Workshop::toy();
    let mut scene = Scene::new(workshop);
    let brings_ball = |release| workshop.rank_0("garden", release, &[("ball", Thing::Ball)]);
    let target = publish(&mut scene, &brings_ball(1));
    scene.taken(&target);
    scene.teach(Thing::Ball);
    let mixed = scene.exported();
    let state = redb::Database::open(scene.setting.path("state/state.redb")).expect("the state");
    let write = state.begin_write().expect("a transaction");
    {
        let names = redb::TableDefinition::<&str, &[u8]>::new("parts");
        write.delete_table(names).expect("deleted");
        let numbers = redb::TableDefinition::<u64, &[u8]>::new("journal-parts");
        write.delete_table(numbers).expect("deleted");
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
        let mut meta = write.open_table(meta).expect("a table");
        for key in ["update-parts", "update-runs"] {
            meta.remove(key).expect("removed");
        }
    }
    write.commit().expect("written");
    drop(state);
    assert_eq!(scene.exported(), mixed);
    let target = publish(&mut scene, &brings_ball(2));
    scene.taken(&target);
    let taught = 12;
    let brought = u64::from(BROUGHT);
    assert_eq!(scene.classes()[0], ("ball".to_owned(), taught + 2 * brought));
    // From now on, the shots are kept apart.
    scene.teach(Thing::Ball);
    let target = publish(&mut scene, &brings_ball(3));
    scene.taken(&target);
    assert_eq!(scene.classes()[0], ("ball".to_owned(), taught + 6 + 2 * brought));
}
