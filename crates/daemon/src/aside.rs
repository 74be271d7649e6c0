//! Work whose size a client or the cluster decides, kept off the runtime's workers: there are few of them, and while one computes for long
//! all requests that it has wait.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio_util::sync::CancellationToken;

/// A body of this size is decoded, checked and written aside: less is done in a few milliseconds.
pub const LARGE_BODY: usize = 64 << 10;
/// How long a task works before others have their turn.
pub const PART: Duration = Duration::from_millis(2);

/// Long work in parts, between which other tasks have their turn.
pub struct Parts(Instant);

impl Parts {
    pub fn begin() -> Parts {
        Parts(Instant::now())
    }

    /// Whether it has worked long enough; begins the next part, if so.
    pub fn over(&mut self) -> bool {
        let over = self.0.elapsed() >= PART;
        if over {
            self.0 = Instant::now();
        }
        over
    }

    /// To be called between small steps.
    pub async fn pause(&mut self) {
        if self.over() {
            tokio::task::yield_now().await;
            self.0 = Instant::now();
        }
    }
}

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
    let contained = async move { crate::panics::contained(work).await };
    let run = move || runtime.block_on(token.run_until_cancelled(contained));
    tokio::task::spawn_blocking(run).await.ok().flatten().flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn others_have_their_turn_within_long_work() {
        let turns = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = turns.clone();
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let mut parts = Parts::begin();
        let began = Instant::now();
        while began.elapsed() < PART * 5 {
            parts.pause().await;
        }
        assert!(turns.load(std::sync::atomic::Ordering::Relaxed) >= 2);
        other.abort();
    }

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
    async fn dropping_the_request_ends_its_work() {
        let (sender, ended) = tokio::sync::oneshot::channel::<()>();
        let work = request(async move {
            let _sender = sender;
            std::future::pending::<()>().await
        });
        assert!(tokio::time::timeout(Duration::from_millis(20), work).await.is_err());
        assert!(ended.await.is_err());
    }
}
