//! Streams of the daemon: events, and the live picture as MJPEG.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;

use fmlora_device::Thing;
use serde_json::{Value, json};

use crate::served::{Daemon, jpegs};
use crate::setting::Setting;

/// A reader of the daemon's event stream.
struct Events(BufReader<TcpStream>);

impl Events {
    fn listen(daemon: &Daemon) -> Self {
        let mut events = Self(BufReader::new(daemon.write(&daemon.get_head("/api/v1/events"))));
        let head = events.line();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        events
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let n = self.0.read_line(&mut line).expect("a line in time");
        assert_ne!(n, 0, "the stream ended");
        line.trim_end().to_owned()
    }

    /// Returns the data of the next event of a name.
    fn next(&mut self, name: &str) -> Value {
        while self.line() != format!("event: {name}") {}
        let line = self.line();
        let data = line.strip_prefix("data: ").expect("data behind the name");
        serde_json::from_str(data).expect("JSON")
    }
}

#[test]
fn events_tell_what_is_seen_and_what_is_done() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "");
    daemon.log_in();
    let mut events = Events::listen(&daemon);
    let seen = events.next("prediction");
    assert_eq!(seen["type"], "prediction", "{seen}");
    assert!(seen["milliseconds"].as_f64() > Some(0.0), "{seen}");
    let picture = jpegs(Thing::Mug, 1, 1).remove(0);
    assert_eq!(daemon.post_picture("/api/v1/classes/mug/shots", &picture).0, 201);
    assert_eq!(events.next("classes")["classes"], json!(["mug"]));
    let two = json!({ "count": 2, "interval_milliseconds": 0 });
    assert_eq!(daemon.json("POST", "/api/v1/classes/ball/shots/camera", &two).0, 201);
    assert_eq!(events.next("shot")["class"], "ball");
    // A logout ends the event stream.
    assert_eq!(daemon.json("POST", "/api/v1/logout", &json!({})).0, 204);
    let mut rest = String::new();
    events.0.read_to_string(&mut rest).expect("an end in time");
    assert_eq!(daemon.get("/api/v1/events").0, 401);
}

#[test]
fn the_live_picture_is_a_stream_of_jpegs_for_those_who_may_see_it() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "");
    let path = "/api/v1/live.mjpg";
    assert_eq!(daemon.get(path).0, 401, "not without a login");
    daemon.log_in();
    let mut stream = BufReader::new(daemon.write(&daemon.get_head(path)));
    let mut length = None;
    let mut line = String::new();
    while length.is_none() || line.trim_end() != "" {
        line.clear();
        assert_ne!(stream.read_line(&mut line).expect("a line in time"), 0);
        let lower = line.to_lowercase();
        if let Some(bytes) = lower.strip_prefix("content-length: ") {
            length = Some(bytes.trim().parse::<usize>().expect("a number"));
        }
    }
    let mut picture = vec![0; length.expect("a length")];
    stream.read_exact(&mut picture).expect("a whole picture");
    let picture = image::load_from_memory(&picture).expect("a JPEG");
    assert_eq!((picture.width(), picture.height()), (320, 240));
    assert_eq!(daemon.json("POST", "/api/v1/logout", &json!({})).0, 204);
    std::io::copy(&mut stream, &mut std::io::sink()).expect("an end in time");
}

#[test]
fn a_live_picture_that_is_turned_off_is_refused() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, "[privacy]\nlive_view = false\n");
    daemon.log_in();
    let (status, problem) = daemon.get("/api/v1/live.mjpg");
    assert_eq!(status, 403, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|why| why.contains("privacy.live_view")));
}
