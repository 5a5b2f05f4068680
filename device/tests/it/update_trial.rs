//! Trials of adapters in a running daemon: commits, rollbacks, and events that do not count.

use fmlora_device::Thing;
use serde_json::{Value, json};

use crate::served::{Daemon, configure, jpegs, status_of, until};
use crate::setting::text;
use crate::update::scene::Scene;
use crate::update::server::{Asked, Fault};
use crate::update::site::Listed;
use crate::update::workshop::Workshop;
use crate::update_daemon::{
    BY_HAND, CAMERA, answers, config, metric, names, post, start, status, wait_for,
};

#[test]
fn without_frames_a_trial_ends_in_going_back() {
    let mut scene = Scene::new(Workshop::toy());
    let before = scene.exported();
    scene.offer(1);
    let picture = scene.setting.path("frame.jpg");
    std::fs::write(&picture, jpegs(Thing::Ball, 1, 1).remove(0)).expect("a file");
    // One frame, and then none.
    let script = format!("cat {}; exec sleep 1000", text(&picture));
    let camera = format!(
        "source = \"exec:\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\ntimeout_seconds = 300"
    );
    let config = config(&scene, &camera, &format!("{BY_HAND}trial_seconds = 2\n"));
    let mut daemon = Daemon::start_with(&scene.setting, &config, &[]);
    until("a frame", || daemon.get("/api/v1/info").1["answered"] == 1);
    let (code, applied) = post(&mut daemon, "apply", &json!({}));
    assert_eq!((code, &applied["phase"]), (200, &json!("trial")), "{applied}");
    let back = wait_for(&mut daemon, "rolled_back");
    assert!(
        back["why"].as_str().is_some_and(|why| why.contains("no frame was answered")),
        "{back}"
    );
    assert_eq!(back["quarantine"][0]["target"], "garden-1.fmla");
    assert_eq!(back["in_use"], json!([]));
    assert_eq!(metric(&mut daemon, "fmlora_update_refused"), 1);
    assert_eq!(names(&mut daemon), ["ball", "mug"]);
    // It is not retried automatically, but on request of the administrator.
    assert_eq!(post(&mut daemon, "apply", &json!({})).0, 404);
    assert_eq!(status(&mut daemon)["last_look"]["adapters"][0]["quarantined"], true);
    assert_eq!(post(&mut daemon, "apply", &json!({ "again": "garden-2.fmla" })).0, 404);
    assert_eq!(post(&mut daemon, "apply", &json!({ "again": "garden-1.fmla" })).0, 200);
    assert_eq!(post(&mut daemon, "rollback", &json!({})).0, 200);
    assert_eq!(post(&mut daemon, "apply", &json!({ "again": true })).0, 200);
    assert_eq!(post(&mut daemon, "rollback", &json!({})).0, 200);
    daemon.kill();
    assert_eq!(scene.exported(), before);
}

/// Power cuts and requested stops do not count, however many there are.
#[test]
fn only_crashes_count_against_an_adapter_on_trial() {
    let mut scene = Scene::new(Workshop::toy());
    scene.offer(1);
    let config = config(&scene, CAMERA, &format!("{BY_HAND}trial_seconds = 600\n"));
    let run = |boot: &str| {
        let boot = format!("update-boot=return({boot})");
        Daemon::start_with(&scene.setting, &config, &[("FAILPOINTS", &boot)])
    };
    let mut daemon = run("0");
    assert_eq!(post(&mut daemon, "apply", &json!({})).0, 200);
    for start in 1..4 {
        answers(&mut daemon);
        daemon.kill();
        daemon = run(&start.to_string());
        assert_eq!(status(&mut daemon)["phase"], "trial", "power cut {start}");
    }
    for start in 0..3 {
        answers(&mut daemon);
        daemon.signal("TERM");
        assert!(daemon.wait().success());
        daemon = run("3");
        assert_eq!(status(&mut daemon)["phase"], "trial", "told to stop, {start}");
    }
    for expected in ["trial", "rolled_back"] {
        answers(&mut daemon);
        daemon.kill();
        daemon = run("3");
        assert_eq!(status(&mut daemon)["phase"], expected);
    }
    let refused = status(&mut daemon)["quarantine"][0].clone();
    assert!(refused["tried_again"].is_string(), "{refused}");
}

#[test]
fn the_second_start_in_a_trial_goes_back() {
    let mut scene = Scene::new(Workshop::toy());
    let before = scene.exported();
    scene.offer(1);
    let long = format!("{BY_HAND}trial_seconds = 600\n");
    let mut daemon = start(&scene, &long);
    assert_eq!(post(&mut daemon, "apply", &json!({})).0, 200);
    answers(&mut daemon);
    // A second update during a trial is refused.
    scene.offer(2);
    let (code, problem) = post(&mut daemon, "apply", &json!({}));
    assert!(
        code == 409 && problem["detail"].as_str().is_some_and(|d| d.contains("on trial")),
        "{problem}"
    );
    daemon.kill();
    let mut daemon = start(&scene, &long);
    assert_eq!(status(&mut daemon)["phase"], "trial", "the first could be a power cut");
    assert_eq!(names(&mut daemon), ["ball", "mug", "tree"]);
    answers(&mut daemon);
    daemon.kill();
    let mut daemon = start(&scene, &long);
    let back = status(&mut daemon);
    assert_eq!(back["phase"], "rolled_back", "{back}");
    assert!(back["why"].as_str().is_some_and(|why| why.contains("ended twice")), "{back}");
    assert_eq!(names(&mut daemon), ["ball", "mug"]);
    // A newer release is not in quarantine.
    assert_eq!(post(&mut daemon, "apply", &json!({})).0, 200);
    assert_eq!(post(&mut daemon, "rollback", &json!({})).0, 200);
    daemon.kill();
    assert_eq!(scene.exported(), before);
}

/// A service manager restarts a daemon without frames, again and again.
#[test]
fn a_camera_that_is_away_is_no_fault_of_an_adapter() {
    const AWAY: &str = "source = \"http://127.0.0.1:9/\"";
    let mut scene = Scene::new(Workshop::toy());
    scene.offer(1);
    let short = format!("{BY_HAND}trial_seconds = 1\n");
    let away = config(&scene, AWAY, &short);
    let mut daemon = Daemon::start_with(&scene.setting, &away, &[]);
    assert_eq!(post(&mut daemon, "apply", &json!({})).0, 200);
    for night in 0..3 {
        until("a trial that waits", || status(&mut daemon)["trial_waits"] == true);
        let told = status(&mut daemon);
        assert_eq!((&told["phase"], &told["trial_seconds_left"]), (&json!("trial"), &json!(1)));
        daemon.kill();
        daemon = Daemon::start_with(&scene.setting, &away, &[]);
        assert_eq!(status(&mut daemon)["phase"], "trial", "after {night} others");
    }
    // The camera is back.
    configure(&scene.setting, &config(&scene, CAMERA, &short));
    daemon.signal("HUP");
    assert_eq!(wait_for(&mut daemon, "committed")["trial_waits"], false);
    assert_eq!(names(&mut daemon), ["ball", "mug", "tree"]);
}

#[test]
fn without_a_camera_nothing_is_put_to_use_by_itself() {
    const AWAY: &str = "source = \"http://127.0.0.1:9/\"";
    let mut scene = Scene::new(Workshop::toy());
    scene.offer(1);
    let polls = "poll_seconds = 1\ntrial_seconds = 1\n";
    let mut daemon = Daemon::start_with(&scene.setting, &config(&scene, AWAY, polls), &[]);
    let looks = |daemon: &mut Daemon| status(daemon)["last_look"]["at"].clone();
    until("a look", || !looks(&mut daemon).is_null());
    let first = looks(&mut daemon);
    until("another look", || looks(&mut daemon) != first);
    let told = status(&mut daemon);
    assert_eq!(told["last_look"]["adapters"][0]["not_for_us"], Value::Null, "{told}");
    assert_eq!(told["phase"], "idle", "{told}");
    configure(&scene.setting, &config(&scene, CAMERA, polls));
    daemon.signal("HUP");
    wait_for(&mut daemon, "committed");
}

/// A manual look during a trial neither commits the adapter nor applies another one.
#[test]
fn a_look_by_hand_leaves_a_trial_alone() {
    let mut scene = Scene::new(Workshop::toy());
    scene.offer(1);
    let long = format!("{BY_HAND}trial_seconds = 600\n");
    let mut daemon = start(&scene, &long);
    assert_eq!(post(&mut daemon, "apply", &json!({})).0, 200);
    daemon.kill();
    let url = scene.server.url();
    let looked = scene.run(&["update", "--from", &url, "--check"]);
    assert!(looked.code == 0 && looked.stderr.contains("on trial"), "{}", looked.stderr);
    assert_eq!(scene.update().code, 0, "there is nothing else");
    scene.offer(2);
    let refused = scene.update();
    assert!(refused.code == 1 && refused.stderr.contains("on trial"), "{}", refused.stderr);
    let mut daemon = start(&scene, &long);
    assert_eq!(status(&mut daemon)["phase"], "trial", "the first end that counts");
    daemon.kill();
}

#[test]
fn an_adapter_that_cannot_answer_is_rolled_back_at_once() {
    let mut scene = Scene::new(Workshop::toy());
    let moving = scene.workshop.moving("moving", 1, &[("tree", Thing::Tree)], 0.0);
    scene.site.publish(Listed::of(&moving));
    let config = config(&scene, CAMERA, &format!("{BY_HAND}trial_seconds = 600\n"));
    // The first publish, at the start, succeeds; the next one fails.
    let fails = [("FAILPOINTS", "publish=1*off->1*return->off")];
    let mut daemon = Daemon::start_with(&scene.setting, &config, &fails);
    answers(&mut daemon);
    let (code, problem) = post(&mut daemon, "apply", &json!({}));
    assert_eq!(code, 422, "{problem}");
    let back = status(&mut daemon);
    assert_eq!((&back["phase"], &back["in_use"]), (&json!("rolled_back"), &json!([])), "{back}");
    assert_eq!(names(&mut daemon), ["ball", "mug"]);
    answers(&mut daemon);
}

/// A rollback does not wait for a server.
#[test]
fn a_roll_back_does_not_wait_for_a_look() {
    let mut scene = Scene::new(Workshop::toy());
    scene.offer(1);
    let config = config(&scene, CAMERA, &format!("{BY_HAND}trial_seconds = 600\n"));
    let patient = [("FAILPOINTS", "update-patience=return(600000)")];
    let mut daemon = Daemon::start_with(&scene.setting, &config, &patient);
    assert_eq!(post(&mut daemon, "apply", &json!({})).0, 200);
    scene.server.asked();
    scene.server.fail("metadata/timestamp.json", Fault::Silent);
    let look = "POST /api/v1/update/check HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let _hangs = daemon.write(look);
    let silent = |asked: &Asked| asked.path == "metadata/timestamp.json";
    until("a look that hangs", || scene.server.asked().iter().any(silent));
    let (code, back) = daemon.json("POST", "/api/v1/update/rollback", &json!({}));
    assert_eq!((code, &back["phase"]), (200, &json!("rolled_back")), "{back}");
    assert_eq!(names(&mut daemon), ["ball", "mug"]);
}

#[test]
fn an_adapter_chosen_before_a_rollback_is_not_applied() {
    let mut scene = Scene::updated(Workshop::toy());
    scene.offer(2);
    let path = scene.site.listed[1].path();
    scene.server.fail(&path, Fault::Waits);
    scene.server.asked();
    let mut daemon = start(&scene, BY_HAND);
    let apply = daemon.write(
        "POST /api/v1/update/apply HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
    until("a fetch", || scene.server.asked().iter().any(|asked| asked.path == path));
    let (code, back) = daemon.json("POST", "/api/v1/update/rollback", &json!({}));
    assert_eq!((code, &back["in_use"]), (200, &json!([])), "{back}");
    scene.server.heal();
    assert_eq!(status_of(apply), "503");
    let told = status(&mut daemon);
    assert!(told["trouble"].as_str().is_some_and(|why| why.contains("taken back meanwhile")));
    assert_eq!(
        (&told["in_use"], names(&mut daemon)),
        (&json!([]), vec!["ball".into(), "mug".into()])
    );
    // The next request applies it.
    assert_eq!(post(&mut daemon, "apply", &json!({})).0, 200);
}

#[test]
fn an_adapter_stays_though_the_power_goes_when_it_is_to_stay() {
    let mut scene = Scene::new(Workshop::toy());
    scene.offer(1);
    let config = config(&scene, CAMERA, &format!("{BY_HAND}trial_seconds = 1\n"));
    let ends = [("FAILPOINTS", "update-committed=return")];
    let mut daemon = Daemon::start_with(&scene.setting, &config, &ends);
    assert_eq!(post(&mut daemon, "apply", &json!({})).0, 200);
    assert!(!daemon.wait().success());
    let mut daemon = start(&scene, BY_HAND);
    assert_eq!(status(&mut daemon)["phase"], "committed");
    assert_eq!(names(&mut daemon), ["ball", "mug", "tree"]);
}
