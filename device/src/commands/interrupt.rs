//! Ctrl-C in a command that can end early.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code after Ctrl-C, as shells set it.
const INTERRUPTED: i32 = 130;

/// Handler of Ctrl-C: the first one sets a flag, the second one ends the program.
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Handles Ctrl-C from now on until the program ends.
    pub(super) fn watch() -> Self {
        let came = Arc::default();
        if let Err(error) = listen(Arc::clone(&came)) {
            tracing::warn!("Ctrl-C ends the program at once: {error}");
        }
        Self(came)
    }

    /// Returns true after the first Ctrl-C.
    pub(super) fn came(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

fn listen(came: Arc<AtomicBool>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let mut interrupts = {
        let _inside = runtime.enter();
        signal(SignalKind::interrupt())?
    };
    let wait = async move {
        interrupts.recv().await;
        came.store(true, Ordering::Release);
        interrupts.recv().await;
        std::process::exit(INTERRUPTED);
    };
    let thread = std::thread::Builder::new().name("interrupt".to_owned());
    thread.spawn(move || runtime.block_on(wait)).map(drop)
}
