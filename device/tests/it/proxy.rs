//! The daemon behind a reverse proxy: below a path, under another host, for clients that the proxy
//! names.

use serde_json::json;

use crate::served::{Daemon, OPEN};
use crate::setting::Setting;

const JSON: &str = "Content-Type: application/json";

/// Returns the login that was printed at the first start, as JSON text.
fn login(daemon: &mut Daemon) -> String {
    daemon.line("login").to_string()
}

#[test]
fn streams_are_not_held_back_by_a_proxy() {
    let setting = Setting::new();
    let daemon = Daemon::start(&setting, OPEN);
    for path in ["/api/v1/events", "/api/v1/live.mjpg"] {
        let mut stream = daemon.write(&daemon.get_head(path));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let mut byte = [0];
            std::io::Read::read_exact(&mut stream, &mut byte).expect("a head");
            head.push(char::from(byte[0]));
        }
        assert!(head.to_lowercase().contains("x-accel-buffering: no\r\n"), "{path}: {head}");
    }
}

#[test]
fn the_page_works_where_a_proxy_changes_host() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "");
    let login = login(&mut daemon);
    let host = "Host: 127.0.0.1:8321";
    let origin = "Origin: http://cam.lan";
    let answer = daemon.ask("POST", "/api/v1/login", &[host, origin, JSON], &login);
    assert_eq!(answer.status, 200, "{}", answer.head);
    let cookie = answer.header("set-cookie").expect("a cookie").split(';').next();
    let cookie = format!("Cookie: {}", cookie.expect("a value"));
    let undo = |more: &[&str]| {
        let headers = [&[host, origin, JSON, cookie.as_str()], more].concat();
        daemon.ask("POST", "/api/v1/undo", &headers, "{\"count\": 1}")
    };
    // Status 409 means that the request was authorised, and that there is nothing to undo.
    assert_eq!(undo(&["X-Fmlora-Page: 1"]).status, 409, "the page says that it is the page");
    let refused = undo(&[]);
    assert_eq!(refused.status, 403);
    let detail = refused.json()["detail"].as_str().unwrap_or_default().to_owned();
    for expected in ["Host", "http://cam.lan", "127.0.0.1:8321", "proxy_set_header Host"] {
        assert!(detail.contains(expected), "{expected} is not in: {detail}");
    }
    let cross = undo(&["X-Fmlora-Page: 1", "Sec-Fetch-Site: cross-site"]);
    assert_eq!(cross.status, 403, "the browser knows better");
}

#[test]
fn a_trusted_proxy_names_client_scheme_and_host() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "[http]\ntrusted_proxies = [\"127.0.0.1\"]\n");
    let login = login(&mut daemon);
    let wrong = json!({ "user": "admin", "password": "a wrong password" }).to_string();
    let enter = |client: &str, body: &str, more: &[&str]| {
        let client = format!("X-Forwarded-For: {client}");
        let headers = [&["Host: box", JSON, client.as_str()], more].concat();
        daemon.ask("POST", "/api/v1/login", &headers, body)
    };
    let tries: Vec<u16> = (0..7).map(|_| enter("192.0.2.7", &wrong, &[]).status).collect();
    assert_eq!(tries[..5], [401; 5], "{tries:?}");
    assert_eq!(tries[6], 429, "{tries:?}");
    let other = enter("192.0.2.7, 192.0.2.8", &login, &["X-Forwarded-Proto: https"]);
    assert_eq!(other.status, 200, "another client has its own tries");
    let cookie = other.header("set-cookie").expect("a cookie").to_owned();
    assert!(cookie.contains("; secure"), "{cookie}");
    // The host that the browser asked for is the host of its page.
    let cookie = format!("Cookie: {}", cookie.split(';').next().expect("a value"));
    let host = ["X-Forwarded-Host: cam.lan", "Origin: https://cam.lan", "Host: 127.0.0.1:8321"];
    let headers = [&[JSON, cookie.as_str()], &host[..]].concat();
    assert_eq!(daemon.ask("POST", "/api/v1/undo", &headers, "{\"count\": 1}").status, 409);
}

#[test]
fn forwarded_headers_of_an_untrusted_client_are_ignored() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "[http]\ntrusted_proxies = [\"192.0.2.0/24\"]\n");
    let login = login(&mut daemon);
    let headers = ["Host: box", JSON, "X-Forwarded-Proto: https", "X-Forwarded-For: 192.0.2.7"];
    let answer = daemon.ask("POST", "/api/v1/login", &headers, &login);
    assert_eq!(answer.status, 200);
    assert!(!answer.head.contains("; secure"), "{}", answer.head);
    let wrong = json!({ "user": "admin", "password": "a wrong password" }).to_string();
    let tries: Vec<u16> = (0..7)
        .map(|i| {
            let invented = format!("X-Forwarded-For: 198.51.100.{i}");
            daemon.ask("POST", "/api/v1/login", &["Host: box", JSON, &invented], &wrong).status
        })
        .collect();
    assert_eq!(tries[6], 429, "{tries:?}");
}

#[test]
fn the_page_is_served_below_a_path_and_at_the_root() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "[http]\nbase_path = \"/box1\"\n");
    let login = login(&mut daemon);
    let get = |path: &str| daemon.ask("GET", path, &["Host: box"], "");
    for path in ["/box1/", "/box1/page.js", "/", "/page.css", "/box1/healthz"] {
        assert_eq!(get(path).status, 200, "{path}");
    }
    let moved = get("/box1");
    assert_eq!((moved.status, moved.header("location")), (308, Some("/box1/")));
    assert_eq!(get("/box1/api/v1/info").status, 401);
    assert_eq!(get("/box11/").status, 404);
    let answer = daemon.ask("POST", "/box1/api/v1/login", &["Host: box", JSON], &login);
    assert_eq!(answer.status, 200);
    let cookie = answer.header("set-cookie").expect("a cookie");
    assert!(cookie.contains("; path=/box1;"), "{cookie}");
    let cookie = format!("Cookie: {}", cookie.split(';').next().expect("a value"));
    assert_eq!(daemon.ask("GET", "/box1/api/v1/info", &["Host: box", &cookie], "").status, 200);
}

#[test]
fn cookies_of_two_boxes_of_one_host_have_two_names() {
    let names: Vec<String> = (0..2)
        .map(|_| {
            let setting = Setting::new();
            let mut daemon = Daemon::start(&setting, "");
            daemon.log_in();
            daemon.cookie.split_once('=').expect("a cookie").0.to_owned()
        })
        .collect();
    assert_ne!(names[0], names[1]);
}

#[test]
fn without_a_login_a_proxy_may_call_the_box_by_names_that_are_listed() {
    let setting = Setting::new();
    let daemon = Daemon::start(&setting, &format!("{OPEN}[http]\nhosts = [\"cam.lan\"]\n"));
    let status = |host: &str| daemon.ask("GET", "/api/v1/info", &[host], "").status;
    assert_eq!(status("Host: cam.lan:8080"), 200);
    assert_eq!(status("Host: elsewhere.example"), 421);
    // The forwarded host is accepted from a trusted proxy only.
    let forwarded = |daemon: &Daemon, name: &str| {
        let name = format!("X-Forwarded-Host: {name}");
        daemon.ask("GET", "/api/v1/info", &["Host: 10.0.0.7", &name], "").status
    };
    assert_eq!(forwarded(&daemon, "cam.lan"), 421);
    drop(daemon);
    let trusting = "[http]\nhosts = [\"cam.lan\"]\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let daemon = Daemon::start(&setting, &format!("{OPEN}{trusting}"));
    assert_eq!(forwarded(&daemon, "cam.lan"), 200);
    assert_eq!(forwarded(&daemon, "elsewhere.example"), 421);
}

#[test]
fn a_login_of_the_proxy_does_not_hide_that_of_the_page() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "");
    daemon.log_in();
    let cookie = format!("Cookie: {}", daemon.cookie);
    let headers = ["Host: box", "Authorization: Basic dXNlcjpwYXNzd29yZA==", &cookie];
    assert_eq!(daemon.ask("GET", "/api/v1/info", &headers, "").status, 200);
}
