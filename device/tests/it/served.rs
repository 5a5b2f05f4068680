//! A running daemon, and a client for its HTTP interface.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use fmlora_device::{SyntheticCamera, Thing};
use serde_json::Value;

use crate::setting::{Setting, text};

/// Camera settings of tests that do not depend on the camera.
pub(crate) const CAMERA: &str =
    "device = \"cpu\"\n[camera]\nsource = \"synthetic://?seed=3&fps=10\"\n";

/// Settings without a login.
pub(crate) const OPEN: &str = "[login]\nenabled = false\n";

/// Time limit of all waits. On an idle machine, the awaited events come at once.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A daemon process that is killed on drop.
pub(crate) struct Daemon {
    child: Child,
    /// Behind a mutex, so that several threads can send requests.
    lines: Mutex<Receiver<Value>>,
    /// Address of its page.
    pub(crate) url: String,
    /// Session cookie of the login.
    pub(crate) cookie: String,
}

impl Daemon {
    /// Starts with the synthetic camera.
    pub(crate) fn start(setting: &Setting, more: &str) -> Self {
        Self::start_with(setting, &format!("{CAMERA}{more}"), &[])
    }

    /// Starts with a complete configuration and with environment variables.
    pub(crate) fn start_with(
        setting: &Setting,
        config: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        configure(setting, config);
        let path = setting.path("http.toml");
        let mut command = setting.command(&["--json", "run", "--config", text(&path)]);
        command.envs(environment.iter().copied());
        Self::start_command(setting, command)
    }

    /// Starts with a command that is or becomes the program.
    pub(crate) fn start_command(setting: &Setting, mut command: Command) -> Self {
        let log = std::fs::File::create(setting.path("log")).expect("a file");
        command.stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        let (send, lines) = channel();
        // All lines are read, so that unused lines do not fill the pipe.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).expect("JSON");
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let mut daemon =
            Self { child, lines: Mutex::new(lines), url: String::new(), cookie: String::new() };
        let page = daemon.line("page");
        page.as_str().expect("an address").clone_into(&mut daemon.url);
        daemon
    }

    /// Returns host and port.
    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").expect("an address").1
    }

    /// Waits for the next line with a key, and returns its value.
    pub(crate) fn line(&mut self, key: &str) -> Value {
        loop {
            let received = self.lines.get_mut().expect("no panic").recv_timeout(PATIENCE);
            let mut line = received.unwrap_or_else(|error| panic!("no line with {key}: {error}"));
            if !line[key].is_null() {
                return line[key].take();
            }
        }
    }

    /// Returns the next line of any kind; `None` at the end of the output.
    pub(crate) fn any_line(&mut self) -> Option<Value> {
        self.lines.get_mut().expect("no panic").recv_timeout(PATIENCE).ok()
    }

    /// Logs in with the password that was printed at the first start.
    pub(crate) fn log_in(&mut self) {
        let login = self.line("login");
        let (status, _) =
            self.send("POST", "/api/v1/login", "application/json", login.to_string().as_bytes());
        assert_eq!(status, 200);
        assert!(self.cookie.starts_with("fmlora_session_"), "{}", self.cookie);
    }

    /// Sends a request, and returns status and body. Stores a new cookie.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> (u16, Value) {
        let (status, value, cookie) = self.request(method, path, kind, body).expect("an answer");
        if let Some(cookie) = cookie {
            self.cookie = cookie;
        }
        (status, value)
    }

    /// Sends a request, possibly from several threads, and returns status, body and cookie.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<(u16, Value, Option<String>), ureq::Error> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
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
        let mut response = agent.run(request.body(body.to_vec()).expect("a request"))?;
        let cookie = response.headers().get("set-cookie").map(|cookie| {
            let cookie = cookie.to_str().expect("text").split(';').next();
            cookie.unwrap_or_default().to_owned()
        });
        let text = response.body_mut().read_to_string()?;
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok((response.status().as_u16(), value, cookie))
    }

    pub(crate) fn json(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.send(method, path, "application/json", body.to_string().as_bytes())
    }

    pub(crate) fn get(&mut self, path: &str) -> (u16, Value) {
        self.send("GET", path, "", b"")
    }

    pub(crate) fn post_picture(&mut self, path: &str, picture: &[u8]) -> (u16, Value) {
        self.send("POST", path, "image/jpeg", picture)
    }

    /// Sends a request as raw text, and returns the connection for the answer.
    pub(crate) fn write(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address()).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.write_all(request.as_bytes()).expect("a request");
        stream
    }

    /// Formats a GET request with the cookie.
    pub(crate) fn get_head(&self, path: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: {}\r\n\r\n",
            self.cookie
        )
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let name = format!("-{name}");
        let pid = self.child.id().to_string();
        let sent = std::process::Command::new("kill").args([name, pid]).status();
        assert!(sent.expect("kill").success());
    }

    /// Waits for the process to end, 10 s at most.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return status;
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the process, as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("an end");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Returns the body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the value of a header, in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.map(str::trim)
    }
}

impl Daemon {
    /// Sends exactly these headers, and reads the answer to its end.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let headers = [headers, &[""]].concat().join("\r\n");
        let length = body.len();
        let mut stream = self.write(&format!(
            "{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        let mut answer = Vec::new();
        // The server may cut the connection after its answer.
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Answer { status: status.expect("a status"), body: answer.split_off(end), head }
    }
}

/// Writes the configuration of a daemon.
pub(crate) fn configure(setting: &Setting, config: &str) {
    std::fs::write(setting.path("http.toml"), config).expect("a file");
}

/// Reads an answer to its end, and returns its status.
pub(crate) fn status_of(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // The server may cut the connection after its answer.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// Waits until a condition is true.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns frames of a thing as JPEG files.
pub(crate) fn jpegs(thing: Thing, n: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut camera = SyntheticCamera::new(seed);
    let one = |_| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        camera.frame(thing).write_to(&mut bytes, image::ImageFormat::Jpeg).expect("a JPEG");
        bytes.into_inner()
    };
    (0..n).map(one).collect()
}

/// Builds a form with pictures, each under the name of its class. Returns its content type and its
/// body.
pub(crate) fn form(pictures: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let boundary = "between-two-pictures";
    let mut body = Vec::new();
    for (class, picture) in pictures {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{class}\"; filename=\"x.jpg\"\r\n\
             Content-Type: image/jpeg\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(picture);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}
