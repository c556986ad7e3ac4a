//! CPU threads, as many as a caller asks for.

use rayon::ThreadPool;

use crate::error::Error;

/// A pool of that many threads; none where no number is asked for, which is the current one.
pub(crate) fn pool(threads: Option<usize>) -> Result<Option<ThreadPool>, Error> {
    match threads {
        None => Ok(None),
        Some(0) => Err(Error::Config("threads must be at least 1".into())),
        Some(threads) => {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let failed = |e| Error::Config(format!("{threads} threads could not be started: {e}"));
            pool.map(Some).map_err(failed)
        }
    }
}

/// Runs `job` on that many threads.
pub(crate) fn with_threads<R: Send>(
    threads: Option<usize>,
    job: impl FnOnce() -> Result<R, Error> + Send,
) -> Result<R, Error> {
    match pool(threads)? {
        None => job(),
        Some(pool) => pool.install(job),
    }
}
