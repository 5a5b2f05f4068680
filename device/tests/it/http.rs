//! HTTP interface of the daemon, for scripts and for clients without a login.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use fmlora_device::Thing;
use serde_json::{Value, json};

use crate::served::{Daemon, OPEN, form, jpegs};
use crate::setting::Setting;

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
    assert_eq!(daemon.get("/api/v1/update").0, 200);
    for path in ["check", "apply", "rollback"] {
        let path = format!("/api/v1/update/{path}");
        assert_eq!(daemon.send("POST", &path, "", b"").0, 409, "{path}: nothing is set up");
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
    assert_eq!(ask("/api/v1/update", "GET", &viewer), "200");
    for path in ["check", "apply", "rollback"] {
        assert_eq!(ask(&format!("/api/v1/update/{path}"), "POST", &viewer), "403", "{path}");
    }
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
    // A body that is announced as too large is refused before it is sent.
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
    let pictures = jpegs(Thing::Mug, 3, 1);
    for picture in &pictures {
        assert_eq!(daemon.post_picture("/api/v1/classes/mug/shots", picture).0, 201);
    }
    drop(daemon);
    // Marks of formats, and some bytes of each picture. Fewer than four bytes would occur by
    // chance.
    let mut marks: Vec<&[u8]> = vec![b"\x89PNG", b"JFIF", b"WEBP"];
    for picture in &pictures {
        let middle = picture.len() / 2;
        marks.extend([&picture[..8], &picture[middle..middle + 8]]);
    }
    let mut files = 0;
    for file in std::fs::read_dir(setting.path("state")).expect("the state") {
        let path = file.expect("an entry").path();
        if !path.is_file() {
            continue;
        }
        files += 1;
        let bytes = std::fs::read(&path).expect("a file");
        for mark in &marks {
            let found = bytes.windows(mark.len()).any(|window| window == *mark);
            assert!(!found, "{} holds {mark:?}", path.display());
        }
    }
    assert_eq!(files, 1, "one file is the state");
}

#[test]
fn every_file_that_the_page_asks_for_is_served() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "");
    let mut asked = vec!["/".to_owned()];
    let mut served = 0;
    while let Some(path) = asked.pop() {
        let (status, text) = daemon.get(&path);
        assert_eq!(status, 200, "{path}");
        let text = text.as_str().expect("text").to_owned();
        for from_root in ["\"/", "'/", "`/", "url(/"] {
            let found = text.split(from_root).skip(1).find(|rest| !rest.starts_with('"'));
            assert!(found.is_none(), "{path} has an address from the root: {from_root}{found:?}");
        }
        for before in ["from \"./", "href=\"", "src=\""] {
            let names = text.split(before).skip(1).filter_map(|rest| rest.split('"').next());
            let files = names.filter(|name| name.contains(".js") || name.contains(".css"));
            asked.extend(files.map(|name| format!("/{name}")));
        }
        served += 1;
        assert!(served < 50, "files that ask for each other: {asked:?}");
    }
    assert!(served > 5, "{served}");
}

#[test]
fn a_bad_file_of_a_task_is_left_out_and_named() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, OPEN);
    let picture = jpegs(Thing::Mug, 1, 1).remove(0);
    let heic: &[u8] = b"\0\0\0\x18ftypheic";
    let parts: [(&str, &[u8]); 4] =
        [("mug", &picture), ("mug", b"no picture"), ("mug", heic), ("ball", &picture)];
    let (kind, body) = form(&parts);
    let (status, learned) = daemon.send("POST", "/api/v1/learn", &kind, &body);
    assert_eq!((status, &learned["shots"]), (200, &json!(2)), "{learned}");
    let left_out = learned["left_out"].as_array().expect("a list");
    assert_eq!(left_out.len(), 2, "{learned}");
    assert!(left_out.iter().all(|file| file["path"] == "x.jpg"), "{learned}");
    assert!(left_out[1]["reason"].as_str().is_some_and(|why| why.contains("HEIC")), "{learned}");
    // A class needs a picture, and a path is not a class name.
    for (parts, expected) in [
        ([("cup", heic), ("ball", &picture[..])], "class cup: none of its pictures"),
        ([("cup/day1", &picture[..]), ("ball", &picture[..])], "path separators"),
    ] {
        let (kind, body) = form(&parts);
        let (status, problem) = daemon.send("POST", "/api/v1/learn", &kind, &body);
        assert_eq!(status, 422, "{problem}");
        let detail = problem["detail"].as_str().expect("a sentence");
        assert!(detail.contains(expected), "{detail}");
    }
    let (_, known) = daemon.get("/api/v1/classes");
    assert_eq!(known["classes"].as_array().map(Vec::len), Some(2), "{known}");
}

/// Reads one answer of a connection, and returns its head.
fn next_head(connection: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let n_read = connection.read_line(&mut head).expect("a line in time");
        assert!(n_read > 0, "closed after {head:?}");
    }
    let value = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: u64 = value.expect("a length").parse().expect("a number");
    std::io::copy(&mut connection.take(length), &mut std::io::sink()).expect("a body");
    head
}

/// A refusal leaves the body unread. The next request uses the same connection, or the answer tells
/// the client to open another one.
#[test]
fn a_refused_request_breaks_no_connection() {
    let daemon = Daemon::start(&Setting::new(), OPEN);
    let request = |path: &str, length: usize| {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n");
        let body = "x".repeat(length);
        format!("{head}Content-Length: {length}\r\n\r\n{body}")
    };
    for length in [1, 100, 20_000, 500_000] {
        let mut connection = BufReader::new(daemon.write(""));
        for (path, expected) in [("/api/v1/classify", "415"), ("/nowhere", "404")].repeat(10) {
            let asked = connection.get_mut().write_all(request(path, length).as_bytes());
            asked.expect("an open connection");
            let head = next_head(&mut connection);
            assert!(head.starts_with(&format!("HTTP/1.1 {expected}")), "{length}: {head}");
        }
    }
    let long = request("/api/v1/classify", 5_000_000);
    let (head, _) = long.split_once("\r\n\r\n").expect("a head and a body");
    let mut connection = BufReader::new(daemon.write(&format!("{head}\r\n\r\n")));
    let head = next_head(&mut connection);
    assert!(head.contains("connection: close"), "{head}");
}
