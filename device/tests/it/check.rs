//! `check` finds all mistakes that would keep `run` from running, and reports them at once.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::served::{Daemon, configure};
use crate::setting::{Run, Setting, finish, text};
use crate::tls::certificate;

const CAMERA: &str = "device = \"cpu\"\n[camera]\nsource = \"synthetic://\"\n";

/// Checks a configuration.
fn check(setting: &Setting, config: &str, listen: &str) -> (Run, Value) {
    configure(setting, config);
    let path = setting.path("http.toml");
    let mut command = setting.command(&["--json", "check", "--config", text(&path)]);
    let run = finish(command.env("FMLORA_HTTP_LISTEN", listen));
    let told = serde_json::from_str(&run.stdout).unwrap_or_default();
    (run, told)
}

/// Returns the keys that are reported under `list`.
fn places(told: &Value, list: &str) -> Vec<String> {
    let all = told[list].as_array().expect("a list").iter();
    all.map(|one| one["place"].as_str().expect("a place").to_owned()).collect()
}

#[test]
fn a_full_disk_is_a_mistake_also_beside_a_running_daemon() {
    let setting = Setting::new();
    let told = |setting: &Setting| {
        let path = setting.path("http.toml");
        let mut command = setting.command(&["check", "--config", text(&path)]);
        finish(command.env("FAILPOINTS", "storage-left=return(1000)"))
    };
    let daemon = Daemon::start_with(&setting, CAMERA, &[]);
    for run in [told(&setting), {
        drop(daemon);
        told(&setting)
    }] {
        assert_eq!(run.code, 1, "{}", run.stdout);
        assert!(run.stderr.contains("the disk is full: 0 KiB are left"), "{}", run.stderr);
    }
}

#[test]
fn everything_that_run_needs_is_tried_in_one_round() {
    let setting = Setting::new();
    // A file in the place of the state's folder.
    std::fs::write(setting.path("state"), "no folder").expect("a file");
    certificate(&setting);
    std::fs::copy(setting.path("key.pem"), setting.path("first.pem")).expect("a copy");
    certificate(&setting);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("an address").to_string();
    let chain = setting.path("certificate.pem");
    let key = setting.path("first.pem");
    let config = format!(
        "{CAMERA}[http]\ncertificate = \"{}\"\nkey = \"{}\"\n[login]\npassword_hash = \"none\"\n\
         [mqtt]\nbroker = \"mqtt://127.0.0.1:9\"\n",
        text(&chain),
        text(&key)
    );
    let (run, told) = check(&setting, &config, &listen);
    assert_eq!(run.code, 1);
    let mut found = places(&told, "mistakes");
    found.sort();
    let expected =
        ["http.certificate", "http.listen", "login.password_hash", "mqtt.broker", "state"];
    assert_eq!(found, expected, "{told}");
    assert!(told["frame"].is_object(), "the camera was tried too: {told}");
    for mistake in told["mistakes"].as_array().expect("a list") {
        let what = mistake["what"].as_str().expect("a text");
        assert!(!what.contains('\n'), "a line each: {what}");
    }
}

#[test]
fn a_state_that_is_only_to_be_made_is_tried_and_not_made() {
    let setting = Setting::new();
    let (run, told) = check(&setting, CAMERA, "127.0.0.1:0");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(told["mistakes"], json!([]));
    let mut left: Vec<_> = std::fs::read_dir(setting.path(""))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["http.toml"], "nothing is left behind");
}

#[test]
fn a_repository_without_a_trusted_root_is_a_mistake() {
    let setting = Setting::new();
    let config = format!("{CAMERA}[update]\nfrom = \"https://updates.example/fleet\"\n");
    let (run, told) = check(&setting, &config, "127.0.0.1:0");
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert_eq!(places(&told, "mistakes"), ["update.root"], "{told}");
}

#[test]
fn a_running_daemon_of_the_same_configuration_is_no_mistake() {
    let setting = Setting::new();
    let daemon = Daemon::start_with(&setting, CAMERA, &[]);
    let (run, told) = check(&setting, CAMERA, daemon.address());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(places(&told, "notes"), ["state", "http.listen"], "{told}");
    // Other mistakes are still found.
    let config = format!("{CAMERA}[mqtt]\nbroker = \"mqtt://127.0.0.1:9\"\n");
    let (run, told) = check(&setting, &config, daemon.address());
    assert_eq!(run.code, 1);
    assert_eq!(places(&told, "mistakes"), ["mqtt.broker"], "{told}");
}
