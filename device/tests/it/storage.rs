//! A disk that refuses writes, and later accepts them again, under a running daemon.
//!
//! A limit on file sizes simulates the full disk: it can be set on a running process and needs no
//! rights.

#![cfg(target_os = "linux")]

use std::process::Command;

use fmlora_device::Thing;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};

use crate::served::{CAMERA, Daemon, OPEN, configure, form, jpegs, until};
use crate::setting::{Setting, text};

/// Largest size of a file on the full disk in bytes: less than the state has.
const FULL: u64 = 16 << 10;

/// Starts a daemon that ignores the signal of the limit.
fn start(setting: &Setting, more: &str) -> Daemon {
    configure(setting, &format!("{CAMERA}{more}"));
    let path = setting.path("http.toml");
    let program = setting.command(&["--json", "run", "--config", text(&path)]);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
    command.arg(program.get_program()).args(program.get_args());
    for (key, value) in program.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    command.current_dir(setting.path("."));
    Daemon::start_command(setting, command)
}

/// Limits the size of the files that a daemon writes.
fn limit_files(daemon: &Daemon, bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).expect("a process"));
    let limit = Rlimit { current: bytes.or(maximum), maximum };
    prlimit(pid, Resource::Fsize, limit).expect("a limit on a process of our own");
}

fn metric(daemon: &mut Daemon, name: &str) -> String {
    let (_, metrics) = daemon.get("/metrics");
    let Value::String(metrics) = metrics else { panic!("no text: {metrics}") };
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}")).trim().to_owned()
}

fn shots(daemon: &mut Daemon) -> Value {
    daemon.get("/api/v1/classes").1["classes"][0]["shots"].clone()
}

#[test]
fn when_there_is_room_again_everything_goes_on_without_a_restart() {
    let setting = Setting::new();
    let mut daemon = start(&setting, OPEN);
    let picture = jpegs(Thing::Ball, 1, 1).remove(0);
    let shot = "/api/v1/classes/ball/shots";
    let password = json!({ "role": "viewer", "password": "long enough" });
    assert_eq!(daemon.post_picture(shot, &picture).0, 201);
    until("it is ready", || daemon.get("/readyz").0 == 200);
    assert_eq!(metric(&mut daemon, "fmlora_storage_writable"), "1");

    limit_files(&daemon, Some(FULL));
    for _ in 0..3 {
        let (status, problem) = daemon.post_picture(shot, &picture);
        assert_eq!(status, 507, "{problem}");
    }
    let (kind, task) = form(&[("mug", &picture), ("mug", &picture)]);
    assert_eq!(daemon.send("POST", "/api/v1/learn", &kind, &task).0, 507);
    assert_eq!(daemon.json("PUT", "/api/v1/password", &password).0, 507);
    let (status, ready) = daemon.get("/readyz");
    assert_eq!((status, &ready["state"]), (503, &json!(false)), "{ready}");
    let why = ready["state_trouble"].as_str().expect("a reason");
    assert!(why.contains("state.redb"), "{why}");
    let (_, info) = daemon.get("/api/v1/info");
    assert_eq!(info["state_writable"], false, "{info}");
    assert_eq!(info["state_trouble"], why, "{info}");
    assert_eq!(metric(&mut daemon, "fmlora_storage_writable"), "0");
    // Known classes stay in use, and the state can be read.
    let (status, answer) = daemon.post_picture("/api/v1/classify", &picture);
    assert_eq!((status, &answer["class"]), (200, &json!("ball")));
    assert_eq!(daemon.get("/api/v1/update").0, 200);
    let refused = setting.run(&["forget", "ball"]);
    assert!(refused.stderr.contains("in use by another"), "{}", refused.stderr);

    limit_files(&daemon, None);
    // Writes of all kinds succeed at once.
    assert_eq!(daemon.post_picture(shot, &picture).0, 201);
    assert_eq!(daemon.json("PUT", "/api/v1/password", &password).0, 204);
    assert_eq!(daemon.get("/readyz").0, 200);
    assert_eq!(metric(&mut daemon, "fmlora_storage_writable"), "1");
    assert_eq!(shots(&mut daemon), 2, "what was refused is not there");

    // Without a request, the state recovers by itself.
    limit_files(&daemon, Some(FULL));
    assert_eq!(daemon.post_picture(shot, &picture).0, 507);
    assert_eq!(daemon.get("/readyz").0, 503);
    limit_files(&daemon, None);
    until("it is ready again", || daemon.get("/readyz").0 == 200);
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    assert_eq!(setting.json(&["classes"])[0]["shots"], 2);
    let log = std::fs::read_to_string(setting.path("log")).expect("the log");
    assert_eq!(log.matches("cannot be written").count(), 2, "once each time:\n{log}");
    assert_eq!(log.matches("can be written again").count(), 2, "once each time:\n{log}");
}
