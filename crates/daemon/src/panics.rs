//! Panics: one in the handling of a request fails that request alone; any other ends the process, so that its service manager
//! restarts it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// From now on a panic outside of [`contained`] ends the process. Call once, first thing in `main`.
pub fn end_the_process() {
    let plainly = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if CONTAINED.get() {
            tracing::error!(%panic, "Observed a panic");
            return;
        }
        plainly(panic);
        std::process::abort();
    }));
}

/// The future's output, or nothing where it panicked. Boxed: as a part of another future it would be there twice, before and after
/// it is pinned, and a request's is large and may live long.
pub fn contained<F: Future>(future: F) -> impl Future<Output = Option<F::Output>> {
    let mut future = Box::pin(future);
    std::future::poll_fn(move |context| {
        let outer = CONTAINED.replace(true);
        // What it shares with others is behind locks that do not poison, and it is not polled again.
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        CONTAINED.set(outer);
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_future() {
        let panics = async {
            tokio::task::yield_now().await;
            if CONTAINED.get() {
                panic!("in a request");
            }
        };
        assert_eq!(contained(panics).await, None);
        assert_eq!(contained(contained(async { 1 })).await, Some(Some(1)));
        assert!(!CONTAINED.get());
    }
}
