//! Snapshot for clients of cameras: Basic login, or a token in the address.

use serde_json::json;

use crate::served::{Answer, Daemon, until};
use crate::setting::Setting;

const SNAPSHOT: &str = "/api/v1/snapshot.jpg";

/// Returns the header `Authorization: Basic` of user and password.
fn basic(user: &str, password: &str) -> String {
    let mut child = std::process::Command::new("base64")
        .arg("-w0")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("base64");
    let text = format!("{user}:{password}");
    let mut stdin = child.stdin.take().expect("its input");
    std::io::Write::write_all(&mut stdin, text.as_bytes()).expect("written");
    drop(stdin);
    let encoded = child.wait_with_output().expect("an output").stdout;
    format!("Authorization: Basic {}", String::from_utf8(encoded).expect("text"))
}

fn token(daemon: &mut Daemon, role: &str) -> (u64, String) {
    let order = json!({ "name": "camera client", "role": role });
    let (status, made) = daemon.json("POST", "/api/v1/tokens", &order);
    assert_eq!(status, 201, "{made}");
    let text = made["token"].as_str().expect("a token").to_owned();
    (made["id"].as_u64().expect("a number"), text)
}

fn get(daemon: &Daemon, path: &str, headers: &[&str]) -> Answer {
    daemon.ask("GET", path, &[&["Host: box"], headers].concat(), "")
}

#[test]
fn a_client_of_cameras_sees_the_picture_and_nothing_else() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "");
    daemon.log_in();
    let (id, pictures) = token(&mut daemon, "pictures");
    let by_address = format!("{SNAPSHOT}?token={pictures}");
    let by_password = basic("homeassistant", &pictures);
    let bearer = format!("Authorization: Bearer {pictures}");
    until("a frame", || get(&daemon, &by_address, &[]).status == 200);
    for (path, headers) in [
        (by_address.as_str(), vec![]),
        (SNAPSHOT, vec![by_password.as_str()]),
        (SNAPSHOT, vec![bearer.as_str()]),
    ] {
        let answer = get(&daemon, path, &headers);
        assert_eq!(answer.status, 200, "{headers:?}");
        assert_eq!(answer.header("content-type"), Some("image/jpeg"));
        let picture = image::load_from_memory(&answer.body).expect("a JPEG");
        assert_eq!((picture.width(), picture.height()), (320, 240));
    }
    for path in ["/api/v1/info", "/api/v1/events", "/metrics", "/api/v1/config"] {
        assert_eq!(get(&daemon, path, &[&bearer]).status, 403, "{path}");
        let by_address = format!("{path}?token={pictures}");
        assert_eq!(get(&daemon, &by_address, &[]).status, 401, "{path}");
    }
    assert_eq!(daemon.send("DELETE", &format!("/api/v1/tokens/{id}"), "", b"").0, 204);
    assert_eq!(get(&daemon, &by_address, &[]).status, 401, "it was taken back");
    assert_eq!(get(&daemon, SNAPSHOT, &[&by_password]).status, 401, "it was taken back");
}

#[test]
fn no_token_that_may_more_stands_in_an_address() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "");
    daemon.log_in();
    for role in ["viewer", "admin"] {
        let (_, token) = token(&mut daemon, role);
        let refused = get(&daemon, &format!("/api/v1/live.mjpg?token={token}"), &[]);
        assert_eq!(refused.status, 403, "{role}");
        assert!(refused.json()["detail"].as_str().is_some_and(|why| why.contains("pictures")));
    }
}

#[test]
fn basic_login_takes_an_account_until_its_password_changes() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "");
    daemon.log_in();
    let set = |daemon: &mut Daemon, password: &str| {
        let order = json!({ "role": "viewer", "password": password });
        assert_eq!(daemon.json("PUT", "/api/v1/password", &order).0, 204);
    };
    set(&mut daemon, "a password of mine");
    let right = basic("viewer", "a password of mine");
    until("a frame", || get(&daemon, SNAPSHOT, &[&right]).status == 200);
    // A correct login is cached: more requests succeed than an address has tries to log in.
    for _ in 0..10 {
        assert_eq!(get(&daemon, SNAPSHOT, &[&right]).status, 200);
    }
    assert_eq!(get(&daemon, "/api/v1/info", &[&right]).status, 401, "only the picture");
    let refused = get(&daemon, SNAPSHOT, &[&basic("viewer", "a wrong password")]);
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("www-authenticate"), Some("basic realm=\"fmlora\", bearer"));
    set(&mut daemon, "another password");
    assert_eq!(get(&daemon, SNAPSHOT, &[&right]).status, 401, "it is the old one");
    let log = std::fs::read_to_string(setting.path("log")).expect("a log");
    assert!(!log.contains("password of mine"), "{log}");
}

#[test]
fn no_snapshot_leaves_a_box_that_keeps_its_pictures() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "[privacy]\nlive_view = false\n");
    daemon.log_in();
    assert_eq!(daemon.get(SNAPSHOT).0, 403);
}
