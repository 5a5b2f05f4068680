//! A web server on the loopback interface that serves a folder, and misbehaves where it is told to.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is wrong with the answer for one file.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// It never ends.
    Endless,
    /// So many bytes come, then the connection is cut.
    CutAfter(usize),
    /// Other bytes come.
    Instead(Vec<u8>),
    /// They come a few at a time.
    Drips,
    /// Half of it comes, then nothing, and the connection stays.
    Stalls,
    /// It comes byte by byte, and takes long.
    Crawls,
    /// It comes when all is healed.
    Waits,
    /// Nothing is answered.
    Silent,
    /// Another status, without a body.
    Status(u16),
    /// The whole file comes, whatever range is asked for.
    NoRanges,
}

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) path: String,
    /// The first byte that was asked for, if a range was.
    pub(crate) from: Option<u64>,
    /// The program that asked.
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
        let (folder, here) = (folder.to_owned(), shared.clone());
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if here.ends.load(Ordering::SeqCst) {
                    return;
                }
                let (folder, here) = (folder.clone(), here.clone());
                // Whoever hangs up has had enough.
                std::thread::spawn(move || drop(here.answer(stream, &folder)));
            }
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// From now on this file is answered so.
    pub(crate) fn fail(&self, path: &str, fault: Fault) {
        locked(&self.shared.faults).insert(path.to_owned(), fault);
    }

    /// Everything is answered as it should be.
    pub(crate) fn heal(&self) {
        locked(&self.shared.faults).clear();
    }

    /// The requests since the last call.
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
    let (mut from, mut agent) = (None, String::new());
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
