//! Work whose size a client or the cluster decides, kept off the runtime's workers: there are few of them, and while one computes for long
//! all requests that it has wait.

use std::future::Future;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio_util::sync::CancellationToken;

/// A body of this size is decoded, checked and written aside: less is done in a few milliseconds.
pub const LARGE_BODY: usize = 64 << 10;
/// As many objects are converted aside.
pub const LARGE_LIST: usize = 100;

/// Runs large work while other tasks go on elsewhere.
pub fn aside<T>(large: bool, work: impl FnOnce() -> T) -> T {
    let workers = Handle::try_current().is_ok_and(|now| now.runtime_flavor() == RuntimeFlavor::MultiThread);
    match large && workers {
        true => tokio::task::block_in_place(work),
        false => work(),
    }
}

/// Runs a whole request on a thread for such work. When the caller gives up, it ends at its next wait. `None` when it panicked.
pub async fn request<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    let token = CancellationToken::new();
    let _given_up = token.clone().drop_guard();
    let runtime = Handle::current();
    let contained = async move { daemon::panics::contained(work).await };
    let run = move || runtime.block_on(token.run_until_cancelled(contained));
    tokio::task::spawn_blocking(run).await.ok().flatten().flatten()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_worker_goes_on() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let waits =
            tokio::spawn(request(async move { receiver.recv_timeout(Duration::from_secs(10)).is_ok() }));
        // on the one worker, while the other computes
        tokio::spawn(async move { sender.send(()).unwrap() }).await.unwrap();
        assert_eq!(waits.await.unwrap(), Some(true));
    }

    #[tokio::test]
    async fn who_gives_up_ends_it() {
        let (sender, ended) = tokio::sync::oneshot::channel::<()>();
        let work = request(async move {
            let _sender = sender;
            std::future::pending::<()>().await
        });
        assert!(tokio::time::timeout(Duration::from_millis(20), work).await.is_err());
        assert!(ended.await.is_err());
    }
}
