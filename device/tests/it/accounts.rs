//! Passwords and tokens of the configuration, for many devices at once.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::served::{Daemon, configure, until};
use crate::setting::{Run, Setting, text};

const CAMERA: &str = "device = \"cpu\"\n[camera]\nsource = \"synthetic://?fps=10\"\n";

/// Runs `password --hash` with a password on its input.
fn hash(setting: &Setting, password: &str) -> Run {
    let mut command = setting.command(&["password", "--hash"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("its input");
    writeln!(stdin, "{password}").expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("an end");
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn login(user: &str, password: &str) -> Value {
    json!({ "user": user, "password": password })
}

/// Stops the daemon. Returns true if it printed a password.
fn told_password(daemon: &mut Daemon) -> bool {
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    loop {
        let Some(line) = daemon.any_line() else { return false };
        if line["login"].is_object() {
            return true;
        }
    }
}

#[test]
fn passwords_and_tokens_come_with_the_configuration() {
    let setting = Setting::new();
    let admin = hash(&setting, "password of all boxes");
    let viewer = hash(&setting, "viewers only");
    assert_eq!(admin.code, 0, "{}", admin.stderr);
    assert!(admin.stdout.starts_with("$argon2id$"), "{}", admin.stdout);
    assert!(!setting.path("state").exists(), "nothing was changed");
    let token = setting.json(&["password", "--token", "viewer"]);
    let secret = token["token"].as_str().expect("a token");
    let sha256 = token["sha256"].as_str().expect("a hash");
    std::fs::write(setting.path("viewer.hash"), format!("{}\n", viewer.stdout)).expect("a file");
    let config = format!(
        "{CAMERA}[login]\npassword_hash = \"{}\"\nviewer_password_hash_file = \"{}\"\n\
         tokens = [{{ name = \"fleet\", role = \"viewer\", sha256 = \"{sha256}\" }}]\n",
        admin.stdout,
        text(&setting.path("viewer.hash")),
    );
    let mut daemon = Daemon::start_with(&setting, &config, &[]);
    let (status, told) = daemon.json("POST", "/api/v1/login", &login("viewer", "viewers only"));
    assert_eq!((status, told["role"].as_str()), (200, Some("viewer")), "{told}");
    let (status, _) =
        daemon.json("POST", "/api/v1/login", &login("admin", "password of all boxes"));
    assert_eq!(status, 200);
    let bearer = format!("Authorization: Bearer {secret}");
    assert_eq!(daemon.ask("GET", "/metrics", &["Host: box", &bearer], "").status, 200);
    let (_, tokens) = daemon.get("/api/v1/tokens");
    assert_eq!(tokens, json!([{ "name": "fleet", "role": "viewer" }]));
    let order = json!({ "role": "admin", "password": "a new password" });
    let (status, refused) = daemon.json("PUT", "/api/v1/password", &order);
    assert_eq!(status, 409, "{refused}");
    assert!(refused["detail"].as_str().is_some_and(|why| why.contains("login.password_hash")));
    let (_, shown) = daemon.get("/api/v1/config");
    assert_eq!(shown["login"]["password_hash"], "***");

    // Another password, without a restart: logins with the old one end.
    let other = hash(&setting, "another one for all");
    configure(&setting, &config.replace(&admin.stdout, &other.stdout));
    daemon.signal("HUP");
    until("the end of the login", || daemon.get("/api/v1/info").0 == 401);
    let (status, _) = daemon.json("POST", "/api/v1/login", &login("admin", "another one for all"));
    assert_eq!(status, 200);
    assert!(!told_password(&mut daemon), "no password was made");
}

#[test]
fn no_password_is_made_where_no_login_is_asked_for() {
    let setting = Setting::new();
    let open = format!("{CAMERA}[login]\nenabled = false\n");
    let mut daemon = Daemon::start_with(&setting, &open, &[]);
    assert!(!told_password(&mut daemon));
    drop(daemon);
    // It is created and printed once a login is required.
    let mut daemon = Daemon::start_with(&setting, CAMERA, &[]);
    daemon.log_in();
}

#[test]
fn a_hash_that_is_none_is_told_by_its_key() {
    let setting = Setting::new();
    let short = hash(&setting, "short");
    assert_eq!(short.code, 1);
    assert!(short.stderr.contains("10 to 256"), "{}", short.stderr);
    let config = format!(
        "{CAMERA}[login]\npassword_hash = \"secret\"\nviewer_password_hash_file = \"nowhere\"\n\
         tokens = [{{ name = \"fleet\", role = \"viewer\", sha256 = \"12\" }}]\n[mqtt]\nbroker = \"mqtt://box\"\nuser = \"u\"\npassword_file = \"empty\"\n",
    );
    std::fs::write(setting.path("empty"), "\n").expect("a file");
    configure(&setting, &config);
    let run = setting.run(&["run", "--config", text(&setting.path("http.toml"))]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    for key in [
        "login.password_hash: ",
        "login.viewer_password_hash_file: ",
        "login.tokens: ",
        "mqtt.password_file: ",
    ] {
        assert!(run.stderr.contains(key), "{key} is not in:\n{}", run.stderr);
    }
    assert!(!run.stderr.contains("\"secret\""), "{}", run.stderr);
}
