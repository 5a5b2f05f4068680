//! Misbehaving clients: slow, too many, too frequent, or without rights. Each gets the right
//! status, and the daemon keeps running.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use fmlora_device::Thing;
use serde_json::json;

use crate::served::{Daemon, OPEN, PATIENCE, jpegs, status_of};
use crate::setting::Setting;

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Connects from another address of this machine.
fn connect_from(from: Ipv4Addr, daemon: &Daemon) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let to: SocketAddr = daemon.address().parse().expect("an address");
    runtime.expect("a runtime").block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("an address of this machine");
        let stream = socket.connect(to).await.expect("a connection").into_std().expect("a stream");
        stream.set_nonblocking(false).expect("a stream that blocks");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream
    })
}

#[test]
fn slow_clients_take_no_place_from_others_and_are_let_go() {
    let setting = Setting::new();
    let daemon = Daemon::start(&setting, &format!("{OPEN}[http]\nmax_connections = 16\n"));
    // More clients than permitted connections, each sending a letter now and then.
    let mut slow: Vec<TcpStream> = (0..40).map(|_| daemon.write("GET /hea")).collect();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        for stream in &mut slow {
            let _ = stream.write(b"l");
        }
        let mut other = connect_from(Ipv4Addr::new(127, 0, 0, 2), &daemon);
        other.write_all(HEALTH.as_bytes()).expect("a request");
        assert_eq!(status_of(other), "200", "another address is served meanwhile");
        std::thread::sleep(Duration::from_millis(300));
    }
    for stream in slow {
        let status = status_of(stream);
        assert!(["503", "408", ""].contains(&status.as_str()), "{status}");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(status_of(daemon.write(HEALTH)), "200", "and then everybody is");
}

#[test]
fn a_body_that_does_not_come_is_given_up() {
    let setting = Setting::new();
    let daemon = Daemon::start(&setting, OPEN);
    let stream = daemon.write(
        "POST /api/v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 5000\r\n\r\nabc",
    );
    let mut first = String::new();
    BufReader::new(stream).read_line(&mut first).expect("an answer in time");
    assert!(first.starts_with("HTTP/1.1 408"), "{first}");
}

#[test]
fn a_thousand_connections_at_once_are_all_answered() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, &format!("{OPEN}[http]\nmax_connections = 256\n"));
    let streams: Vec<TcpStream> = (0..1000).map(|_| daemon.write(HEALTH)).collect();
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for stream in streams {
        *counts.entry(status_of(stream)).or_default() += 1;
    }
    let served = counts.get("200").copied().unwrap_or(0);
    assert!(served > 0, "{counts:?}");
    // Only these: served in time, too many of this address, or no free connection.
    for status in counts.keys() {
        assert!(["200", "429", "503"].contains(&status.as_str()), "{counts:?}");
    }
    std::thread::sleep(Duration::from_secs(1));
    let picture = jpegs(Thing::Mug, 1, 1).remove(0);
    assert_eq!(daemon.post_picture("/api/v1/classes/mug/shots", &picture).0, 201);
}

#[test]
fn a_rate_limited_client_is_told_when_to_retry() {
    let setting = Setting::new();
    let daemon = Daemon::start(&setting, &format!("{OPEN}[http]\nrequests_per_second = 5\n"));
    let mut stream = daemon.write("");
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.repeat(100).as_bytes()).expect("a hundred requests");
    let mut answers = String::new();
    while answers.matches("HTTP/1.1 ").count() < 100 {
        let mut some = [0; 4096];
        let n = stream.read(&mut some).expect("answers in time");
        assert_ne!(n, 0, "the connection was closed: {answers}");
        answers += std::str::from_utf8(&some[..n]).expect("text");
    }
    let served = answers.matches("HTTP/1.1 200").count();
    let refused = answers.matches("HTTP/1.1 429").count();
    assert_eq!(served + refused, 100);
    assert!((20..40).contains(&served), "four times as many at once: {served}");
    assert_eq!(answers.to_lowercase().matches("retry-after: ").count(), refused);
}

#[test]
fn passwords_cannot_be_tried_out() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "");
    let wrong = json!({ "user": "admin", "password": "a wrong password" });
    let tries: Vec<u16> = (0..8).map(|_| daemon.json("POST", "/api/v1/login", &wrong).0).collect();
    assert_eq!(tries[..5], [401; 5], "{tries:?}");
    assert_eq!(tries[6..], [429; 2], "{tries:?}");
}

#[test]
fn a_page_of_another_site_cannot_use_the_login_of_a_browser() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "");
    daemon.log_in();
    for from in ["Sec-Fetch-Site: cross-site", "Origin: http://elsewhere.example"] {
        let head = "POST /api/v1/undo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
        let request = format!(
            "{head}Cookie: {}\r\n{from}\r\nContent-Length: 11\r\n\r\n{{\"count\":1}}",
            daemon.cookie
        );
        assert_eq!(status_of(daemon.write(&request)), "403", "{from}");
    }
    // Without a login, a host name that only resolves to this device is refused (DNS rebinding).
    let setting = Setting::new();
    let daemon = Daemon::start(&setting, OPEN);
    let request = "GET /api/v1/info HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n";
    assert_eq!(status_of(daemon.write(request)), "421");
}
