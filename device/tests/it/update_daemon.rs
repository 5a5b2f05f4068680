//! Updates of a daemon: automatic, by its administrator, and rolled back.

use std::io::{BufRead, BufReader};

use fmlora_device::Thing;
use fmlora_learner::format::AdapterFile;
use serde_json::{Value, json};

use crate::served::{Daemon, OPEN, configure, jpegs, until};
use crate::setting::text;
use crate::update::scene::Scene;
use crate::update::server::Fault;
use crate::update::site::Listed;
use crate::update::workshop::Workshop;

pub(crate) const CAMERA: &str = "source = \"synthetic://?seed=3&fps=10\"";

/// Returns a configuration with updates from the scene's repository.
pub(crate) fn config(scene: &Scene, camera: &str, update: &str) -> String {
    let root = scene.setting.path("root.json");
    let url = scene.server.url();
    format!(
        "base = \"base.fmlb\"\ndevice = \"cpu\"\n[camera]\n{camera}\n{OPEN}[update]\nfrom = \"{url}\"\nroot = \"{}\"\n{update}",
        text(&root)
    )
}

pub(crate) fn start(scene: &Scene, update: &str) -> Daemon {
    Daemon::start_with(&scene.setting, &config(scene, CAMERA, update), &[])
}

/// Settings without automatic updates and without polls.
pub(crate) const BY_HAND: &str = "automatic = false\npoll_seconds = 0\n";

pub(crate) fn status(daemon: &mut Daemon) -> Value {
    let (code, status) = daemon.get("/api/v1/update");
    assert_eq!(code, 200, "{status}");
    status
}

pub(crate) fn wait_for(daemon: &mut Daemon, phase: &str) -> Value {
    let mut last = Value::Null;
    until(phase, || {
        last = status(daemon);
        // The status is read from the state; metrics follow once the classes do.
        last["phase"] == phase
            && metric(daemon, &format!("fmlora_update_phase{{phase=\"{phase}\"}}")) == 1
    });
    last
}

/// Posts a request, and repeats it while a poll is under way.
pub(crate) fn post(daemon: &mut Daemon, what: &str, body: &Value) -> (u16, Value) {
    let mut answer = (0, Value::Null);
    until(what, || {
        answer = daemon.json("POST", &format!("/api/v1/update/{what}"), body);
        answer.0 != 503
    });
    answer
}

/// Waits until another frame is answered.
pub(crate) fn answers(daemon: &mut Daemon) {
    let answered = |daemon: &mut Daemon| daemon.get("/api/v1/info").1["answered"].as_u64();
    let before = answered(daemon);
    until("a frame", || answered(daemon) > before);
}

pub(crate) fn names(daemon: &mut Daemon) -> Vec<String> {
    let (_, known) = daemon.get("/api/v1/classes");
    let classes = known["classes"].as_array().expect("a list");
    classes.iter().map(|class| class["name"].as_str().expect("a name").to_owned()).collect()
}

pub(crate) fn metric(daemon: &mut Daemon, name: &str) -> u64 {
    let (_, metrics) = daemon.get("/metrics");
    let metrics = metrics.as_str().expect("text").to_owned();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().expect("a number")
}

#[test]
fn an_update_comes_by_itself_proves_itself_and_stays() {
    let mut scene = Scene::new(Workshop::toy());
    scene.offer(1);
    let mut daemon = start(&scene, "poll_seconds = 1\ntrial_seconds = 2\n");
    let events = daemon.write(&daemon.get_head("/api/v1/events"));
    let trial = wait_for(&mut daemon, "trial");
    assert!(trial["trial_seconds_left"].as_u64().is_some_and(|left| left <= 2), "{trial}");
    let stays = wait_for(&mut daemon, "committed");
    assert_eq!(stays["in_use"][0]["name"], "garden");
    assert_eq!(stays["in_use"][0]["release"], 1);
    assert_eq!((&stays["why"], &stays["trouble"]), (&Value::Null, &Value::Null));
    assert_eq!(stays["last_look"]["error"], Value::Null, "{stays}");
    assert_eq!(names(&mut daemon), ["ball", "mug", "tree"]);
    for (name, expected) in [
        ("fmlora_update_phase{phase=\"committed\"}", 1),
        ("fmlora_update_phase{phase=\"trial\"}", 0),
        ("fmlora_update_adapters", 1),
        ("fmlora_update_release", 1),
        ("fmlora_update_refused", 0),
    ] {
        assert_eq!(metric(&mut daemon, name), expected, "{name}");
    }
    assert!(metric(&mut daemon, "fmlora_update_last_look_timestamp_seconds") > 1_000_000_000);
    // The event stream reports the steps.
    let mut told = Vec::new();
    for line in BufReader::new(events).lines().map_while(Result::ok) {
        let Some(data) = line.strip_prefix("data: {\"type\":\"update\",") else { continue };
        let status: Value = serde_json::from_str(&format!("{{{data}")).expect("JSON");
        told.push(status["phase"].as_str().expect("a phase").to_owned());
        if told.last().is_some_and(|phase| phase == "committed") {
            break;
        }
    }
    assert!(told.contains(&"trial".to_owned()), "{told:?}");
    // It is not applied again, and a restart keeps it.
    daemon.kill();
    let mut daemon = start(&scene, BY_HAND);
    assert_eq!(status(&mut daemon)["phase"], "committed");
    assert_eq!(post(&mut daemon, "apply", &json!({})).0, 404);
    assert_eq!(names(&mut daemon), ["ball", "mug", "tree"]);
}

#[test]
fn one_adapter_comes_after_the_other() {
    let mut scene = Scene::new(Workshop::toy());
    scene.offer(1);
    let moving = scene.workshop.moving("moving", 2, &[("box", Thing::Box)], 0.0);
    scene.site.publish(Listed::of(&moving));
    let mut daemon = start(&scene, "poll_seconds = 1\ntrial_seconds = 1\n");
    until("both", || {
        let status = status(&mut daemon);
        status["phase"] == "committed" && status["in_use"].as_array().is_some_and(|u| u.len() == 2)
    });
    assert_eq!(names(&mut daemon), ["ball", "box", "mug", "tree"]);
    // Both are rolled back, the last one first.
    for left in [vec!["ball", "mug", "tree"], vec!["ball", "mug"]] {
        assert_eq!(post(&mut daemon, "rollback", &json!({})).0, 200);
        assert_eq!(names(&mut daemon), left);
    }
    assert_eq!(post(&mut daemon, "rollback", &json!({})).0, 409);
    answers(&mut daemon);
}

/// A device with changed features refuses adapters for those of the base, and reports this.
#[test]
fn the_feature_space_and_a_refusal_are_reported() {
    let mut scene = Scene::new(Workshop::toy());
    let moving = scene.workshop.moving("moving", 1, &[("tree", Thing::Tree)], 0.0);
    scene.site.publish(Listed::of(&moving));
    scene.taken("moving-1.fmla");
    scene.offer(2);
    let mut daemon = start(&scene, BY_HAND);
    let space = moving.facts.space_after.to_string();
    assert_eq!(status(&mut daemon)["feature_space"], space);
    assert_eq!(post(&mut daemon, "check", &json!({})).0, 200);
    let told = status(&mut daemon);
    let refusal = &told["last_refusal"];
    assert_eq!(
        (&told["phase"], &refusal["target"]),
        (&json!("committed"), &json!("garden-2.fmla"))
    );
    let why = refusal["why"].as_str().expect("a reason");
    assert!(why.contains("made for other features than this box has now"), "{told}");
    assert_eq!(metric(&mut daemon, "fmlora_update_unusable"), 1);
    for name in [
        format!("fmlora_feature_space_info{{feature_space=\"{space}\"}}"),
        format!("fmlora_update_refusal_info{{target=\"garden-2.fmla\",reason=\"{why}\"}}"),
    ] {
        assert_eq!(metric(&mut daemon, &name), 1, "{name}");
    }
    let log = std::fs::read_to_string(scene.setting.path("log")).expect("the log");
    assert!(log.contains("garden-2.fmla is not used"), "{log}");
}

#[test]
fn the_reason_of_a_refusal_is_reported_though_another_adapter_is_in_use() {
    let mut scene = Scene::new(Workshop::toy());
    let moving = scene.workshop.moving("moving", 1, &[("tree", Thing::Tree)], 0.0);
    scene.site.publish(Listed::of(&AdapterFile { drift: None, ..moving }));
    scene.offer(2);
    let mut daemon = start(&scene, "poll_seconds = 1\ntrial_seconds = 1\n");
    until("another one", || status(&mut daemon)["in_use"][0]["name"] == "garden");
    // The reason is known when the look is over, just after the adapter is in use.
    until("the reason", || {
        let told = status(&mut daemon);
        let trouble = told["trouble"].as_str().unwrap_or_default();
        trouble.contains("moving-1.fmla changes the features")
    });
}

#[test]
fn classes_are_lost_only_where_the_administrator_says_so() {
    let mut scene = Scene::new(Workshop::toy());
    let adapter = scene.workshop.moving("moving", 1, &[("tree", Thing::Tree)], 0.0);
    scene.site.publish(Listed::of(&AdapterFile { drift: None, ..adapter }));
    let mut daemon = start(&scene, "automatic = true\npoll_seconds = 1\ntrial_seconds = 600\n");
    // It is not applied automatically, and the status gives the reason.
    until("a reason", || status(&mut daemon)["trouble"].is_string());
    let (code, problem) = post(&mut daemon, "apply", &json!({}));
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(code == 409 && detail.contains("ball, mug would be lost"), "{problem}");
    assert!(detail.contains("lose_classes"), "{problem}");
    assert_eq!(names(&mut daemon), ["ball", "mug"]);
    assert_eq!(post(&mut daemon, "apply", &json!({ "lose_classes": true })).0, 200);
    assert_eq!(names(&mut daemon), ["tree"]);
    // Classes that were taught in the new features cannot be moved back.
    let picture = jpegs(Thing::Star, 1, 1).remove(0);
    assert_eq!(daemon.post_picture("/api/v1/classes/star/shots", &picture).0, 201);
    let (code, problem) = post(&mut daemon, "rollback", &json!({}));
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(code == 409 && detail.contains("star would be lost"), "{problem}");
    assert_eq!(post(&mut daemon, "rollback", &json!({ "lose_classes": true })).0, 200);
    assert_eq!(names(&mut daemon), ["ball", "mug"]);
}

#[test]
fn a_repository_that_is_not_to_be_believed_stops_nothing() {
    let mut scene = Scene::new(Workshop::toy());
    scene.offer(1);
    let url = scene.server.url();
    scene.server.fail("metadata/timestamp.json", Fault::Status(500));
    let mut daemon = start(&scene, BY_HAND);
    let told = status(&mut daemon);
    assert_eq!((&told["from"], &told["phase"]), (&json!(url), &json!("idle")), "{told}");
    for what in ["check", "apply"] {
        let (code, problem) = post(&mut daemon, what, &json!({}));
        assert_eq!(code, 502, "{what}: {problem}");
    }
    assert!(status(&mut daemon)["last_look"]["error"].is_string());
    assert_eq!(metric(&mut daemon, "fmlora_update_last_look_timestamp_seconds"), 0);
    // The configuration is reloaded: it enables polls of a repository that works again.
    scene.server.heal();
    let polls = config(&scene, CAMERA, "automatic = false\npoll_seconds = 1\n");
    configure(&scene.setting, &polls);
    daemon.signal("HUP");
    until("a look", || {
        status(&mut daemon)["last_look"]["adapters"][0]["not_for_us"].is_null()
            && status(&mut daemon)["last_look"]["adapters"][0]["target"] == "garden-1.fmla"
    });
    assert_eq!(status(&mut daemon)["phase"], "idle", "nobody said that it is to be installed");
    // An unreadable root is reported as an error of the look.
    let root = scene.setting.path("root.json");
    std::fs::remove_file(&root).expect("removed");
    until("a look that fails", || {
        let error = status(&mut daemon)["last_look"]["error"].clone();
        error.as_str().is_some_and(|error| error.contains("root.json: cannot read the root"))
    });
    for body in [json!({ "lose": true }), json!(3)] {
        assert_eq!(post(&mut daemon, "apply", &body).0, 422, "{body}");
    }
}

#[test]
fn without_a_repository_there_are_no_updates() {
    let scene = Scene::new(Workshop::toy());
    let config = format!("base = \"base.fmlb\"\ndevice = \"cpu\"\n[camera]\n{CAMERA}\n{OPEN}");
    let mut daemon = Daemon::start_with(&scene.setting, &config, &[]);
    let told = status(&mut daemon);
    assert_eq!((&told["from"], &told["phase"]), (&Value::Null, &json!("idle")), "{told}");
    for (what, says) in [
        ("check", "update.from is not set"),
        ("apply", "update.from is not set"),
        ("rollback", "no adapter is in use"),
    ] {
        let (code, problem) = post(&mut daemon, what, &json!({}));
        assert_eq!(code, 409, "{what}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|d| d.contains(says)), "{problem}");
    }
}

#[test]
fn a_check_tries_the_repository() {
    let scene = Scene::new(Workshop::toy());
    let check = |config: &str| {
        configure(&scene.setting, config);
        let path = scene.setting.path("http.toml");
        scene.setting.run(&["check", "--config", text(&path)])
    };
    let sound = config(&scene, CAMERA, "");
    let run = check(&sound);
    assert_eq!(run.code, 0, "{}", run.stderr);
    scene.server.fail("metadata/timestamp.json", Fault::Status(404));
    let run = check(&sound);
    assert!(run.code == 1 && run.stderr.contains("update.from: "), "{}", run.stderr);
    std::fs::write(scene.setting.path("root.json"), b"{}").expect("a file");
    let run = check(&sound);
    assert!(run.code == 1 && run.stderr.contains("update.root: "), "{}", run.stderr);
    let wrong = sound.replace("http://", "ftp://");
    let wrong = format!("{wrong}channel = \"\"\npoll_seconds = 100000000\n");
    let run = check(&wrong);
    for key in ["update.from", "update.root", "update.channel", "update.poll_seconds"] {
        assert!(run.stderr.contains(key), "{key}: {}", run.stderr);
    }
}
