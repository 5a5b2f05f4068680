//! Source `exec:`: a program that writes JPEG pictures to stdout and messages to stderr.
//!
//! One thread polls both pipes. The program may leave child processes that keep its pipes open, so
//! every wait has a time limit.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::jpeg_stream::{JpegStream, Passed};
use super::opening::Opening;
use super::{Given, Source, SourceError};
use crate::daemon::config::masked;

/// Number of stderr lines that are reported.
const LINES: usize = 4;

/// Longest reported line, in characters.
const LINE: usize = 300;

/// Longest wait for a killed program to exit.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Longest wait for the exit status and the last stderr lines, which a program may write after its
/// last picture.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A running program as a source.
pub(super) struct ExecSource {
    child: Arc<Mutex<Child>>,
    pictures: JpegStream<Pipes>,
    timeout: Duration,
    opening: Arc<Opening>,
    words: Words,
}

/// The last lines of the program's stderr.
type Words = Arc<Mutex<Tail>>;

impl ExecSource {
    /// Starts a program. Its output may be silent for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`SourceError::Open`] if it cannot be started.
    pub(super) fn open(
        command: &[String],
        timeout: Duration,
        opening: &Arc<Opening>,
    ) -> Result<Self, SourceError> {
        let (program, arguments) =
            command.split_first().ok_or_else(|| SourceError::Open("no command".to_owned()))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let fail = |error: std::io::Error| SourceError::Open(format!("{program}: {error}"));
        let mut child = command.spawn().map_err(fail)?;
        let missing = || SourceError::Open(format!("{program}: no output"));
        let output = child.stdout.take().ok_or_else(missing)?;
        let errors = child.stderr.take();
        let child = Arc::new(Mutex::new(child));
        let words = Words::default();
        let pipes = Pipes {
            program: program.clone(),
            output,
            errors,
            timeout,
            opening: opening.clone(),
            words: words.clone(),
        };
        let running = child.clone();
        opening.close_with(Box::new(move || end(&running)));
        let told = words.clone();
        let opened = opening.clone();
        let pictures = JpegStream::new(pipes, None).telling(move |passed| {
            let mut words = told.lock().unwrap_or_else(PoisonError::into_inner);
            words.wrote = without_jpeg(passed);
            if let Some(note) = words.note() {
                opened.note(note);
            }
        });
        Ok(Self { child, pictures, timeout, opening: opening.clone(), words })
    }

    /// Describes the end of the program: its exit status and last stderr lines.
    fn how_it_ended(&mut self) -> String {
        let until = Instant::now() + LAST_WORDS;
        let mut status = None;
        while status.is_none() && Instant::now() < until && !self.opening.is_given_up() {
            let child = self.child.lock();
            status = child.unwrap_or_else(PoisonError::into_inner).try_wait().ok().flatten();
            std::thread::sleep(Duration::from_millis(5));
        }
        let how = status.map_or_else(String::new, |status| format!(" ({status})"));
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner).text();
        let words = words.map_or_else(String::new, |words| format!(": {words}"));
        let what = without_jpeg(self.pictures.passed());
        let what = what.unwrap_or_else(|| "the program writes no more pictures".to_owned());
        format!("{what}{how}{words}")
    }
}

impl Source for ExecSource {
    fn next(&mut self) -> Result<Given, SourceError> {
        match self.pictures.next() {
            Ok(Some(given)) => Ok(given),
            Ok(None) => Err(SourceError::Lost(self.how_it_ended())),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                Err(SourceError::Silent { time: self.timeout, note: self.opening.noted() })
            }
            Err(error) => Err(SourceError::Lost(error.to_string())),
        }
    }
}

impl Drop for ExecSource {
    fn drop(&mut self) {
        end(&self.child);
    }
}

/// Kills the program and its process group.
fn end(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    // The program may have exited already. Its child processes are in its process group.
    if let Ok(None) = child.try_wait() {
        let group = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    // A program that hangs in a system call is left behind.
    let until = Instant::now() + LAST_MOMENT;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads the program's stdout, and its stderr meanwhile.
struct Pipes {
    program: String,
    output: ChildStdout,
    /// `None` once the program has closed stderr.
    errors: Option<ChildStderr>,
    timeout: Duration,
    opening: Arc<Opening>,
    words: Words,
}

impl Read for Pipes {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let until = Instant::now() + self.timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (output, errors) = self.wait(left)?;
            if errors {
                self.listen();
            }
            if self.opening.is_given_up() {
                return Ok(0);
            }
            if output {
                let read = self.output.read(to)?;
                if read == 0 {
                    self.hear_out()?;
                }
                return Ok(read);
            }
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }
}

impl Pipes {
    /// Waits until stdout or stderr is readable, and returns which of the two is.
    fn wait(&self, time: Duration) -> std::io::Result<(bool, bool)> {
        let mut pipes = vec![PollFd::from_borrowed_fd(self.output.as_fd(), PollFlags::IN)];
        if let Some(errors) = &self.errors {
            pipes.push(PollFd::from_borrowed_fd(errors.as_fd(), PollFlags::IN));
        }
        let time = Timespec::try_from(time).ok();
        match poll(&mut pipes, time.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |at: usize| pipes.get(at).is_some_and(|pipe| !pipe.revents().is_empty());
        Ok((ready(0), ready(1)))
    }

    /// Reads stderr once. It is readable, so this does not block.
    fn listen(&mut self) {
        let Some(errors) = &mut self.errors else { return };
        let mut said = [0; 4096];
        match errors.read(&mut said) {
            Ok(0) | Err(_) => self.errors = None,
            Ok(n) => {
                let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
                for line in words.take(&said[..n]) {
                    tracing::debug!("{}: {line}", self.program);
                }
                if let Some(note) = words.note() {
                    self.opening.note(note);
                }
            }
        }
    }

    /// Reads the rest of stderr after the program has closed stdout.
    fn hear_out(&mut self) -> std::io::Result<()> {
        let until = Instant::now() + LAST_WORDS;
        while self.errors.is_some() && !self.opening.is_given_up() {
            let left = until.saturating_duration_since(Instant::now());
            let mut pipe = self.errors.as_ref().map(|errors| PollFd::new(errors, PollFlags::IN));
            let time = Timespec::try_from(left).ok();
            match poll(pipe.as_mut_slice(), time.as_ref()) {
                Ok(0) => break,
                Ok(_) => self.listen(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The last lines of a text that arrives in pieces, with passwords masked.
#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<String>,
    unfinished: Vec<u8>,
    /// Description of the output that holds no picture.
    wrote: Option<String>,
}

impl Tail {
    /// Adds a piece and returns the lines that it completes.
    fn take(&mut self, piece: &[u8]) -> Vec<String> {
        self.unfinished.extend_from_slice(piece);
        let mut complete = Vec::new();
        // Programs that overwrite their last line end it with a carriage return.
        while let Some(end) = self.unfinished.iter().position(|byte| b"\r\n".contains(byte)) {
            let line: Vec<u8> = self.unfinished.drain(..=end).collect();
            complete.extend(told(&line));
        }
        // A line without an end is cut. Its beginning is kept, so that a password in it is still
        // recognised.
        self.unfinished.truncate(4 * LINE);
        self.lines.extend(complete.iter().cloned());
        let excess = self.lines.len().saturating_sub(LINES);
        self.lines.drain(..excess);
        complete
    }

    /// Likely reason for missing pictures: the output without a JPEG, and the last stderr lines.
    fn note(&self) -> Option<String> {
        let all: Vec<String> = [self.wrote.clone(), self.text()].into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join(": "))
    }

    /// Returns the last lines, `None` if there are none.
    fn text(&self) -> Option<String> {
        let mut lines: Vec<String> = self.lines.iter().cloned().collect();
        lines.extend(told(&self.unfinished));
        let excess = lines.len().saturating_sub(LINES);
        let text = lines[excess..].join(" | ");
        (!text.is_empty()).then_some(text)
    }
}

/// Describes the output of a program that has not written a picture; `None` if it wrote a picture
/// or nothing.
fn without_jpeg(passed: &Passed) -> Option<String> {
    let beginning = passed.beginning()?;
    Some(format!(
        "the program wrote {} bytes without a JPEG, which begin with {beginning}",
        passed.bytes
    ))
}

/// Masks passwords in a line and limits its length; `None` for an empty line.
fn told(line: &[u8]) -> Option<String> {
    let text = masked(String::from_utf8_lossy(line).trim());
    let text: String = text.chars().filter(|c| !c.is_control()).take(LINE).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_told_without_passwords() {
        let mut tail = Tail::default();
        assert_eq!(tail.text(), None);
        tail.take(b"frame= 1\rframe= 2\r\n\nrtsp://ann:se");
        tail.take(b"cret@box/1: 401 Unauthorized");
        let text = tail.text().expect("words");
        assert_eq!(text, "frame= 1 | frame= 2 | rtsp://***@box/1: 401 Unauthorized");
        for n in 0..50 {
            tail.take(format!("line {n} {}\n", "x".repeat(10_000)).as_bytes());
        }
        let text = tail.text().expect("words");
        assert!(text.starts_with("line 46 ") && text.contains("line 49 "), "{text}");
        assert!(text.len() <= LINES * (LINE + 3), "{}", text.len());
    }
}
