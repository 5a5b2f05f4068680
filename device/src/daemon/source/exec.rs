//! A program that writes JPEG pictures to its output.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use fmlora_models::decode_picture;
use image::RgbImage;

use super::jpeg_stream::next_jpeg;
use super::{Closer, Source, SourceError};

/// The running program and its output.
pub(super) struct ExecSource {
    child: Arc<Mutex<Child>>,
    pictures: BufReader<ChildStdout>,
}

impl ExecSource {
    pub(super) fn open(command: &[String]) -> Result<Self, SourceError> {
        let (program, arguments) =
            command.split_first().ok_or_else(|| SourceError::Open("no command".to_owned()))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let fail = |error: std::io::Error| SourceError::Open(format!("{program}: {error}"));
        let mut child = command.spawn().map_err(fail)?;
        let missing = || SourceError::Open(format!("{program}: no output"));
        let output = child.stdout.take().ok_or_else(missing)?;
        if let Some(errors) = child.stderr.take() {
            let program = program.clone();
            // What it says goes to the log, and never fills a pipe that nobody reads.
            std::thread::spawn(move || {
                for line in BufReader::new(errors).lines().map_while(Result::ok) {
                    tracing::debug!("{program}: {line}");
                }
            });
        }
        Ok(Self { child: Arc::new(Mutex::new(child)), pictures: BufReader::new(output) })
    }
}

/// Ends the program, whatever it does.
fn end(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    // It may have ended by itself; programs that it started belong to its group.
    #[cfg(unix)]
    if let Ok(None) = child.try_wait() {
        let group = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

impl Source for ExecSource {
    fn next_frame(&mut self) -> Result<RgbImage, SourceError> {
        let lost = |error: std::io::Error| SourceError::Lost(error.to_string());
        let picture = next_jpeg(&mut self.pictures).map_err(lost)?;
        let picture = picture.ok_or_else(|| {
            let child = self.child.lock();
            let ended = child.unwrap_or_else(PoisonError::into_inner).try_wait();
            let how = ended.ok().flatten().map_or_else(String::new, |status| format!(": {status}"));
            SourceError::Lost(format!("the program writes no more pictures{how}"))
        })?;
        decode_picture(&picture).map_err(|error| SourceError::Lost(error.to_string()))
    }

    fn closer(&self) -> Option<Closer> {
        let child = self.child.clone();
        Some(Box::new(move || end(&child)))
    }
}

impl Drop for ExecSource {
    fn drop(&mut self) {
        end(&self.child);
    }
}
