//! A web server on the loopback interface that serves a folder, with faults on demand.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// Fault in the response for one file.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The body never ends.
    Endless,
    /// The connection is cut after this number of bytes.
    CutAfter(usize),
    /// Other bytes are sent.
    Instead(Vec<u8>),
    /// The bytes are sent a few at a time.
    Drips,
    /// Half of the bytes are sent, then nothing, and the connection stays open.
    Stalls,
    /// The bytes are sent one by one, which takes long.
    Crawls,
    /// The response waits until [`Server::heal`].
    Waits,
    /// There is no response.
    Silent,
    /// Another status, without a body.
    Status(u16),
    /// The whole file is sent, regardless of the range.
    NoRanges,
}

/// A request that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) path: String,
    /// The first byte of the requested range; `None` without a range.
    pub(crate) from: Option<u64>,
    /// The `User-Agent`.
    pub(crate) agent: String,
}

#[derive(Default)]
struct Shared {
    faults: Mutex<HashMap<String, Fault>>,
    asked: Mutex<Vec<Asked>>,
    ends: AtomicBool,
}

/// Serves until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic elsewhere")
}

impl Server {
    pub(crate) fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let folder = folder.to_owned();
        let here = shared.clone();
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if here.ends.load(Ordering::SeqCst) {
                    return;
                }
                let folder = folder.clone();
                let here = here.clone();
                // A client may disconnect early.
                std::thread::spawn(move || drop(here.answer(stream, &folder)));
            }
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Responds with a fault to requests of this file from now on.
    pub(crate) fn fail(&self, path: &str, fault: Fault) {
        locked(&self.shared.faults).insert(path.to_owned(), fault);
    }

    /// Removes all faults.
    pub(crate) fn heal(&self) {
        locked(&self.shared.faults).clear();
    }

    /// Returns the requests since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *locked(&self.shared.asked))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let Some(asked) = request(&stream)? else { return Ok(()) };
        locked(&self.asked).push(asked.clone());
        let fault = loop {
            match locked(&self.faults).get(&asked.path).cloned() {
                Some(Fault::Waits) => {}
                fault => break fault,
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let file = match &fault {
            Some(Fault::Instead(bytes)) => Some(bytes.clone()),
            _ => std::fs::read(folder.join(&asked.path)).ok(),
        };
        let from = asked.from.filter(|_| !matches!(fault, Some(Fault::NoRanges)));
        let head = |stream: &mut TcpStream, status: &str, more: &str| {
            write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n{more}\r\n")
        };
        match (&fault, file) {
            (Some(Fault::Silent), _) => stream.read(&mut [0]).map(drop),
            (Some(Fault::Status(status)), _) => {
                head(&mut stream, &format!("{status} Wrong"), "Content-Length: 0\r\n")
            }
            (Some(Fault::Endless), _) => {
                head(&mut stream, "200 OK", "")?;
                loop {
                    stream.write_all(&[b' '; 4096])?;
                }
            }
            (_, None) => head(&mut stream, "404 Not Found", "Content-Length: 0\r\n"),
            (_, Some(file)) => {
                let body = &file[(from.unwrap_or(0) as usize).min(file.len())..];
                let length = format!("Content-Length: {}\r\n", body.len());
                match from {
                    None => head(&mut stream, "200 OK", &length)?,
                    Some(_) if body.is_empty() => {
                        return head(&mut stream, "416 Range", "Content-Length: 0\r\n");
                    }
                    Some(from) => {
                        let last = file.len() - 1;
                        let range =
                            format!("Content-Range: bytes {from}-{last}/{}\r\n", file.len());
                        head(&mut stream, "206 Partial Content", &format!("{length}{range}"))?;
                    }
                }
                match &fault {
                    Some(Fault::Stalls) => {
                        stream.write_all(&body[..body.len() / 2])?;
                        stream.read(&mut [0]).map(drop)
                    }
                    Some(Fault::Crawls) => body.iter().try_for_each(|byte| {
                        std::thread::sleep(Duration::from_millis(20));
                        stream.write_all(&[*byte])
                    }),
                    Some(Fault::CutAfter(n)) => stream.write_all(&body[..body.len().min(*n)]),
                    Some(Fault::Drips) => {
                        for piece in body.chunks(body.len().div_ceil(16).max(1)) {
                            stream.write_all(piece)?;
                            stream.flush()?;
                            std::thread::sleep(Duration::from_millis(2));
                        }
                        Ok(())
                    }
                    _ => stream.write_all(body),
                }
            }
        }
    }
}

/// Reads the head of a GET request.
fn request(stream: &TcpStream) -> std::io::Result<Option<Asked>> {
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let mut from = None;
    let mut agent = String::new();
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(name) = line.strip_prefix("user-agent: ") {
            name.clone_into(&mut agent);
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().ok();
        }
    }
    Ok(Some(Asked { path, from, agent }))
}
