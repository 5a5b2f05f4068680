//! Signals of systemd and of an administrator to the daemon, and its notifications to systemd.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::served::{Daemon, OPEN, PATIENCE, configure, until};
use crate::setting::{Setting, text};

/// A notification socket in the place of systemd's.
struct Notified(UnixDatagram);

impl Notified {
    /// Starts a daemon that notifies this socket.
    fn start(setting: &Setting, source: &str) -> (Self, Daemon) {
        let socket = setting.path("notify");
        let systemd = Self(UnixDatagram::bind(&socket).expect("a socket"));
        let environment = [("NOTIFY_SOCKET", text(&socket)), WATCHDOG];
        let daemon = Daemon::start_with(setting, &camera(source), &environment);
        (systemd, daemon)
    }

    /// Returns the next message, if one comes within some time.
    fn next(&self, time: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(time)).expect("a time-out");
        let mut message = [0; 4096];
        let n = self.0.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(&message[..n]).into_owned())
    }

    /// Waits for a message that begins with `start`, and returns the messages before it.
    fn wait_for(&self, start: &str) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        let mut before = Vec::new();
        while Instant::now() < until {
            match self.next(Duration::from_secs(1)) {
                Some(message) if message.starts_with(start) => return before,
                Some(message) => before.push(message),
                None => {}
            }
        }
        panic!("no {start}, but {before:?}");
    }
}

fn camera(source: &str) -> String {
    format!("device = \"cpu\"\n[camera]\nsource = \"{source}\"\n{OPEN}")
}

/// Watchdog interval: systemd expects a notification every 1.5 s.
const WATCHDOG: (&str, &str) = ("WATCHDOG_USEC", "1500000");

#[test]
fn systemd_hears_of_start_life_reload_and_end() {
    let setting = Setting::new();
    let (systemd, mut daemon) = Notified::start(&setting, "synthetic://?fps=10");
    assert_eq!(systemd.wait_for("READY=1"), Vec::<String>::new(), "the first word");
    for _ in 0..3 {
        systemd.wait_for("WATCHDOG=1");
    }
    daemon.signal("HUP");
    let reloading = systemd.wait_for("RELOADING=1");
    assert!(reloading.iter().all(|message| message == "WATCHDOG=1"), "{reloading:?}");
    systemd.wait_for("READY=1");
    daemon.signal("TERM");
    systemd.wait_for("STOPPING=1");
    assert!(daemon.wait().success());
}

#[test]
fn the_watchdog_is_not_fed_while_nothing_is_seen() {
    let setting = Setting::new();
    let (systemd, _daemon) = Notified::start(&setting, "http://127.0.0.1:9/");
    systemd.wait_for("READY=1");
    assert_eq!(systemd.next(Duration::from_secs(4)), None);
}

#[test]
fn a_hangup_takes_over_what_can_be_taken_over() {
    let setting = Setting::new();
    let before = camera("synthetic://?seed=1&fps=10");
    let mut daemon = Daemon::start_with(&setting, &before, &[]);
    let source = |daemon: &mut Daemon| daemon.get("/api/v1/config").1["camera"]["source"].clone();
    assert_eq!(source(&mut daemon), "synthetic://?seed=1&fps=10");

    let other = camera("dir://nowhere?fps=5");
    configure(&setting, &format!("{other}[http]\nmax_body_mib = 1\n"));
    daemon.signal("HUP");
    let log = || std::fs::read_to_string(setting.path("log")).expect("a log");
    until("mistakes in the log", || log().contains("the configuration stays as it was"));
    assert_eq!(source(&mut daemon), "synthetic://?seed=1&fps=10", "a wrong one changes nothing");

    let after = camera("synthetic://?seed=2&fps=10");
    configure(
        &setting,
        &format!("{after}[http]\nmax_body_mib = 1\n[privacy]\nhide_names = true\n"),
    );
    daemon.signal("HUP");
    until("the new source", || source(&mut daemon) == "synthetic://?seed=2&fps=10");
    let (_, config) = daemon.get("/api/v1/config");
    assert_eq!(config["http"]["max_body_mib"], 32, "that needs another start");
    assert_eq!(config["privacy"]["hide_names"], true);
    until("a word about it", || log().contains("http.max_body_mib changes with the next start"));
    let one = json!({ "count": 1, "interval_milliseconds": 0 });
    let (status, shown) = daemon.json("POST", "/api/v1/classes/thing/shots/camera", &one);
    assert_eq!(status, 201, "the new camera shows something: {shown}");
}

#[test]
fn no_secret_is_shown_or_logged() {
    let setting = Setting::new();
    let secrets =
        "[mqtt]\nbroker = \"mqtt://127.0.0.1:9\"\nuser = \"box\"\npassword = \"brokersecret\"\n";
    let source = "http://viewer:camerasecret@127.0.0.1:9/";
    let config = format!("device = \"cpu\"\n[camera]\nsource = \"{source}\"\n{secrets}");
    let mut daemon = Daemon::start_with(&setting, &config, &[("FMLORA_LOG", "debug")]);
    daemon.log_in();
    let token = daemon.json("POST", "/api/v1/tokens", &json!({ "name": "t", "role": "viewer" })).1;
    let mut shown = String::new();
    for page in ["/api/v1/config", "/api/v1/info", "/api/v1/tokens", "/metrics", "/readyz"] {
        let (_, answer) = daemon.get(page);
        shown += &answer.to_string();
    }
    assert!(
        shown.contains("viewer") || shown.contains("***"),
        "the configuration is shown: {shown}"
    );
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    shown += &std::fs::read_to_string(setting.path("log")).expect("a log");
    let token = token["token"].as_str().expect("a token");
    let cookie = daemon.cookie.split_once('=').expect("a cookie").1.to_owned();
    for secret in ["brokersecret", "camerasecret", token, &cookie] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}
