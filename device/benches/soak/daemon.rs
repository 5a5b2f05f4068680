//! The daemon that is put under load.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

const CONFIG: &str = "device = \"cpu\"\n[camera]\nsource = \"synthetic://?seed=3&fps=10\"\nfps = 10.0\n\
    [login]\nenabled = false\n[http]\nlisten = \"127.0.0.1:0\"\nrequests_per_second = 1000\n";

/// A frame that was answered.
pub(crate) struct Answered {
    pub(crate) at: Instant,
    /// From the frame to the answer.
    pub(crate) milliseconds: f64,
}

/// A running daemon.
pub(crate) struct Daemon {
    child: Child,
    reader: Option<JoinHandle<Vec<Answered>>>,
    pub(crate) url: String,
}

impl Daemon {
    pub(crate) fn start(folder: &Path) -> Self {
        let config = folder.join("fmlora.toml");
        std::fs::write(&config, CONFIG).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_fmlora-edge"));
        command.arg("--json").arg("--state").arg(folder.join("state"));
        command.args(["run", "--config"]).arg(&config).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        let (send, page): (_, Receiver<String>) = channel();
        let reader = std::thread::spawn(move || {
            let mut answered = Vec::new();
            for line in stdout.lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).expect("JSON");
                if let Some(page) = line["page"].as_str() {
                    let _ = send.send(page.to_owned());
                }
                if let Some(milliseconds) = line["milliseconds"].as_f64() {
                    answered.push(Answered { at: Instant::now(), milliseconds });
                }
            }
            answered
        });
        let url = page.recv_timeout(Duration::from_secs(30)).expect("an address");
        Self { child, reader: Some(reader), url }
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the process runs, on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let size = line.and_then(|line| line.split_whitespace().next());
        size.and_then(|size| size.parse().ok()).expect("a size")
    }

    /// Ends it in good order; gives the frames that it answered.
    pub(crate) fn end(&mut self) -> Vec<Answered> {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(told.expect("kill").success());
        assert!(self.child.wait().expect("an end").success(), "the daemon ended with an error");
        self.reader.take().expect("it ends once").join().expect("its lines")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be over already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
