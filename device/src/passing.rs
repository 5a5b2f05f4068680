//! Work on threads that end with it.

/// Does work on as many threads as there are cores, which end with it and have the priority of this one.
///
/// faer keeps up to 64 MiB a thread for its products of f64, and touches more of it the more classes there are. A
/// daemon that learns now and then would never give that back; threads that end do. What is to stay should be
/// allocated by a thread that stays, so that it does not hold pages of one that ended.
pub(crate) fn on_passing_threads<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    match rayon::ThreadPoolBuilder::new().thread_name(|i| format!("passing-{i}")).build() {
        Ok(pool) => pool.install(work),
        Err(error) => {
            tracing::warn!("no threads of its own for a computation: {error}");
            work()
        }
    }
}
