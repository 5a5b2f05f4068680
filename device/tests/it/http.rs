//! The daemon's interface by HTTP, as a script and as a stranger use it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use fmlora_device::{SyntheticCamera, Thing};
use serde_json::{Value, json};

use crate::setting::{Setting, text};

/// A daemon that runs until this is dropped.
struct Daemon {
    child: Child,
    lines: BufReader<ChildStdout>,
    url: String,
    cookie: String,
}

impl Daemon {
    /// Starts on the synthetic camera, and logs in with the password if it is told.
    fn start(setting: &Setting, more: &str) -> Self {
        let config = setting.path("http.toml");
        let camera = "device = \"cpu\"\n[camera]\nsource = \"synthetic://?seed=3&fps=10\"\n";
        std::fs::write(&config, format!("{camera}{more}")).expect("a file");
        let mut command = setting.command(&["--json", "run", "--config", text(&config)]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        let mut daemon = Self { child, lines, url: String::new(), cookie: String::new() };
        let page = daemon.line("page");
        page.as_str().expect("an address").clone_into(&mut daemon.url);
        daemon
    }

    /// The next line that has a key, and its value.
    fn line(&mut self, key: &str) -> Value {
        loop {
            let mut line = String::new();
            let n = self.lines.read_line(&mut line).expect("a line");
            assert_ne!(n, 0, "the daemon ended before it told {key}");
            let mut line: Value = serde_json::from_str(&line).expect("JSON");
            if !line[key].is_null() {
                return line[key].take();
            }
        }
    }

    fn log_in(&mut self) {
        let login = self.line("login");
        let (status, _) =
            self.send("POST", "/api/v1/login", "application/json", login.to_string().as_bytes());
        assert_eq!(status, 200);
        assert!(self.cookie.starts_with("fmlora_session="), "{}", self.cookie);
    }

    /// Status and body of an answer; a cookie is kept.
    fn send(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .into();
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        if !self.cookie.is_empty() {
            request = request.header("cookie", &self.cookie);
        }
        let request = request.body(body.to_vec()).expect("a request");
        let mut response = agent.run(request).expect("an answer");
        if let Some(cookie) = response.headers().get("set-cookie") {
            let cookie = cookie.to_str().expect("text").split(';').next();
            cookie.unwrap_or_default().clone_into(&mut self.cookie);
        }
        let text = response.body_mut().read_to_string().expect("a body");
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (response.status().as_u16(), value)
    }

    fn json(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.send(method, path, "application/json", body.to_string().as_bytes())
    }

    fn get(&mut self, path: &str) -> (u16, Value) {
        self.send("GET", path, "", b"")
    }

    fn post_picture(&mut self, path: &str, picture: &[u8]) -> (u16, Value) {
        self.send("POST", path, "image/jpeg", picture)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be over already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn jpegs(thing: Thing, n: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut camera = SyntheticCamera::new(seed);
    let one = |_| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        camera.frame(thing).write_to(&mut bytes, image::ImageFormat::Jpeg).expect("a JPEG");
        bytes.into_inner()
    };
    (0..n).map(one).collect()
}

#[test]
fn a_script_teaches_asks_renames_forgets_and_takes_back() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "");
    daemon.log_in();
    for thing in [Thing::Ball, Thing::Mug] {
        for picture in jpegs(thing, 5, 1) {
            let path = format!("/api/v1/classes/{}/shots", thing.name());
            let (status, report) = daemon.post_picture(&path, &picture);
            assert_eq!((status, report["added"].as_u64()), (201, Some(1)), "{report}");
        }
    }
    let question = jpegs(Thing::Mug, 1, 9).remove(0);
    let (status, answer) = daemon.post_picture("/api/v1/classify", &question);
    assert_eq!((status, answer["class"].as_str()), (200, Some("mug")), "{answer}");
    let (status, _) = daemon.json("POST", "/api/v1/classes/mug/rename", &json!({ "name": "cup" }));
    assert_eq!(status, 200);
    let (_, answer) = daemon.post_picture("/api/v1/classify", &question);
    assert_eq!(answer["class"], "cup", "what follows an operation knows of it");
    assert_eq!(daemon.json("DELETE", "/api/v1/classes/cup", &Value::Null).0, 200);
    assert_eq!(daemon.json("DELETE", "/api/v1/classes/cup", &Value::Null).0, 404);
    let (status, taken_back) = daemon.json("POST", "/api/v1/undo", &json!({ "count": 1 }));
    assert_eq!(status, 200, "{taken_back}");
    let (_, known) = daemon.get("/api/v1/classes");
    let names: Vec<&str> = known["classes"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|c| c["name"].as_str())
        .collect();
    assert_eq!(names, ["ball", "cup"]);
    let (status, shown) = daemon.json(
        "POST",
        "/api/v1/classes/thing/shots/camera",
        &json!({ "count": 3, "interval_milliseconds": 0 }),
    );
    assert_eq!((status, shown["added"].as_u64()), (201, Some(3)), "{shown}");
    assert_eq!(daemon.get("/readyz").0, 200);
}

#[test]
fn every_route_of_the_document_is_behind_its_door() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "");
    let (status, document) = daemon.get("/openapi.json");
    assert_eq!(status, 200);
    let open = ["/healthz", "/readyz", "/api/v1/login", "/api/v1/logout"];
    let mut closed = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            if open.contains(&path.as_str()) {
                continue;
            }
            let path = path.replace("{name}", "cup").replace("{id}", "1");
            let (status, problem) = daemon.json(&method.to_uppercase(), &path, &json!({}));
            assert_eq!(status, 401, "{method} {path}: {problem}");
            closed += 1;
        }
    }
    assert!(closed >= 15, "{closed} routes");
    daemon.log_in();
    for (method, path) in [
        ("GET", "/api/v1/update"),
        ("POST", "/api/v1/update/check"),
        ("POST", "/api/v1/update/apply"),
        ("POST", "/api/v1/update/rollback"),
    ] {
        assert_eq!(daemon.json(method, path, &Value::Null).0, 501, "{path}");
    }
    let token = |daemon: &mut Daemon, role: &str| {
        let (status, made) =
            daemon.json("POST", "/api/v1/tokens", &json!({ "name": "test", "role": role }));
        assert_eq!(status, 201, "{made}");
        made["token"].as_str().expect("a token").to_owned()
    };
    let viewer = token(&mut daemon, "viewer");
    let ask = |path: &str, method: &str, token: &str| {
        let mut stream =
            TcpStream::connect(daemon.url.trim_start_matches("http://")).expect("a connection");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: box\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.split(' ').nth(1).expect("a status").to_owned()
    };
    assert_eq!(ask("/metrics", "GET", &viewer), "200");
    assert_eq!(ask("/api/v1/classes/cup", "DELETE", &viewer), "403");
    assert_eq!(ask("/metrics", "GET", "wrong"), "401");
}

#[test]
fn bad_requests_get_the_right_status() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "[http]\nmax_body_mib = 1\n");
    daemon.log_in();
    let shots = "/api/v1/classes/cup/shots";
    let picture = jpegs(Thing::Mug, 1, 1).remove(0);
    let cases: [(&str, &str, &str, &[u8], u16); 9] = [
        ("POST", "/api/v1/classify", "image/jpeg", b"no picture", 415),
        ("POST", "/api/v1/classify", "text/plain", b"no picture", 415),
        ("POST", "/api/v1/classify", "image/jpeg", &picture[..picture.len() / 2], 422),
        ("POST", shots, "image/jpeg", b"", 422),
        ("POST", "/api/v1/undo", "application/json", b"{\"count\": ", 400),
        ("POST", "/api/v1/undo", "application/json", b"{\"count\": 99}", 409),
        ("POST", "/api/v1/undo", "text/plain", b"{\"count\": 1}", 415),
        ("POST", "/api/v1/learn", "application/json", b"{}", 400),
        ("GET", "/api/v1/nothing", "", b"", 404),
    ];
    for (method, path, kind, body, expected) in cases {
        let (status, problem) = daemon.send(method, path, kind, body);
        assert_eq!(status, expected, "{method} {path} {kind}: {problem}");
        assert_eq!(problem["status"], expected, "{problem}");
    }
    // What is announced as too large is refused before it is sent.
    let address = daemon.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("a connection");
    let head = format!(
        "POST /api/v1/classify HTTP/1.1\r\nHost: box\r\nCookie: {}\r\nContent-Length: 2000000\r\n\r\n",
        daemon.cookie
    );
    stream.write_all(head.as_bytes()).expect("a head");
    let mut first = String::new();
    BufReader::new(stream).read_line(&mut first).expect("an answer");
    assert!(first.starts_with("HTTP/1.1 413"), "{first}");
    assert_eq!(daemon.post_picture(shots, &picture).0, 201, "the daemon goes on");
}

#[test]
fn no_picture_is_left_in_the_state() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "");
    daemon.log_in();
    for picture in jpegs(Thing::Mug, 3, 1) {
        assert_eq!(daemon.post_picture("/api/v1/classes/mug/shots", &picture).0, 201);
    }
    drop(daemon);
    let mut files = 0;
    for file in std::fs::read_dir(setting.path("state")).expect("the state") {
        let path = file.expect("an entry").path();
        if !path.is_file() {
            continue;
        }
        files += 1;
        let bytes = std::fs::read(&path).expect("a file");
        let marks: [&[u8]; 4] = [b"\xff\xd8\xff", b"\x89PNG", b"JFIF", b"WEBP"];
        for mark in marks {
            let found = bytes.windows(mark.len()).any(|window| window == mark);
            assert!(!found, "{} holds {mark:?}", path.display());
        }
    }
    assert_eq!(files, 1, "one file is the state");
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let setting = Setting::new();
    let pictures = jpegs(Thing::Ball, 12, 1);
    let mut daemon = Daemon::start(&setting, "[login]\nenabled = false\n");
    let mut acknowledged = 0;
    for (i, picture) in pictures.iter().enumerate() {
        let (status, report) = daemon.post_picture("/api/v1/classes/ball/shots", picture);
        assert_eq!(status, 201, "{report}");
        acknowledged += 1;
        if i % 3 == 2 {
            drop(daemon);
            daemon = Daemon::start(&setting, "[login]\nenabled = false\n");
            let (_, known) = daemon.get("/api/v1/classes");
            assert_eq!(known["classes"][0]["shots"], acknowledged, "{known}");
        }
    }
}
