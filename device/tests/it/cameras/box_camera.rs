//! A camera server on this machine with answers set by a test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Head of an MJPEG stream with parts of [`part`].
pub(super) const STREAM: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n";

/// Accepts connections, and answers each on a thread of its own.
pub(super) struct BoxCamera {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    closed: Arc<AtomicUsize>,
}

impl BoxCamera {
    /// Starts the server. `answer` gets the number of the connection, from 1, the head of its first
    /// request, and the connection.
    pub(super) fn start(
        answer: impl Fn(usize, &str, &mut TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let closed = Arc::new(AtomicUsize::new(0));
        let answer = Arc::new(answer);
        let heads = requests.clone();
        let gone = closed.clone();
        std::thread::spawn(move || {
            for (n, stream) in listener.incoming().enumerate() {
                let Ok(mut stream) = stream else { return };
                let answer = answer.clone();
                let heads = heads.clone();
                let gone = gone.clone();
                std::thread::spawn(move || {
                    let head = read_head(&mut stream);
                    heads.lock().expect("no panic").push(head.clone());
                    answer(n + 1, &head, &mut stream);
                    gone.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, requests, closed }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the address with user and password.
    pub(super) fn url_with(&self, login: &str, path: &str) -> String {
        format!("http://{login}@{}{path}", self.address)
    }

    /// Returns the first requests of all connections.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").clone()
    }

    /// Returns the number of closed connections.
    pub(super) fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }

    /// Sends nothing until the client closes the connection.
    pub(super) fn keep_until_closed(stream: &mut TcpStream) {
        // An error ends the connection as well.
        let _ = stream.read_to_end(&mut Vec::new());
    }

    /// Sends a stream of one picture until the client disconnects.
    pub(super) fn stream_for_ever(stream: &mut TcpStream, picture: &[u8]) {
        if stream.write_all(STREAM).is_ok() {
            Self::parts_for_ever(stream, picture);
        }
    }

    /// Sends the stream without a head.
    pub(super) fn parts_for_ever(stream: &mut TcpStream, picture: &[u8]) {
        while stream.write_all(&part(picture)).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Reads a request up to its empty line.
pub(super) fn read_head(stream: &mut impl Read) -> String {
    let mut head = String::new();
    let mut lines = BufReader::with_capacity(1, stream);
    while !head.ends_with("\r\n\r\n") {
        match lines.read_line(&mut head) {
            Ok(n) if n > 0 => {}
            _ => break,
        }
    }
    head
}

/// Returns a part of a stream.
pub(super) fn part(picture: &[u8]) -> Vec<u8> {
    [b"--frame\r\nContent-Type: image/jpeg\r\n\r\n", picture, b"\r\n"].concat()
}

/// Returns an answer with a single picture, on a connection that may be kept.
pub(super) fn snapshot(picture: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
        picture.len()
    );
    [head.as_bytes(), picture].concat()
}
