//! Thread pools at low priority.

/// Name and priority of a pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pool {
    pub(super) name: &'static str,
    /// Niceness of the threads (`nice`).
    pub(super) niceness: i32,
}

impl Pool {
    /// Lowers the priority of this thread.
    pub(super) fn give_way(self) {
        #[cfg(target_os = "linux")]
        // On Linux each thread has its own priority, and `None` means this thread.
        if let Err(error) = rustix::process::setpriority_process(None, self.niceness) {
            tracing::warn!("{} cannot give way to the camera: {error}", self.name);
        }
    }
}

/// Runs work on a pool that ends with it. faer keeps up to 64 MiB a thread for its products; a
/// lasting pool would never free them, although a daemon rarely learns.
pub(super) fn on_all_cores<R: Send>(pool: Pool, work: impl FnOnce() -> R + Send) -> R {
    let threads = rayon::ThreadPoolBuilder::new()
        .thread_name(move |i| format!("{}-{i}", pool.name))
        .start_handler(move |_| pool.give_way())
        .build();
    match threads {
        Ok(threads) => threads.install(work),
        Err(error) => {
            tracing::warn!("{} has one core: {error}", pool.name);
            work()
        }
    }
}
