//! Doing many of the same, carefully: if the first one fails for a reason that the others share (a
//! quota, a webhook), a few requests have been wasted and not all of them.

use std::future::Future;

use crate::many::call_all;

/// Runs `count` calls in batches of 1, 2, 4, … and stops after the first batch with a failure. Returns how
/// many succeeded, and a failure.
pub async fn slow_start<Call, Error>(
    count: usize,
    mut call: impl FnMut(usize) -> Call,
) -> (usize, Option<Error>)
where
    Call: Future<Output = Result<(), Error>>,
{
    let (mut started, mut succeeded, mut batch) = (0, 0, 1);
    while started < count {
        let size = batch.min(count - started);
        let results = call_all((started..started + size).map(&mut call)).await;
        started += size;
        let mut failure = None;
        for result in results {
            match result {
                Ok(()) => succeeded += 1,
                Err(error) => failure = Some(error),
            }
        }
        if failure.is_some() {
            return (succeeded, failure);
        }
        batch = size * 2;
    }
    (succeeded, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stops_at_the_first_bad_batch() {
        let calls = std::sync::atomic::AtomicUsize::new(0);
        let calls = &calls;
        let run = |limit: usize| async move {
            calls.store(0, std::sync::atomic::Ordering::SeqCst);
            slow_start(20, |_| async move {
                let call = calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                if call < limit { Ok(()) } else { Err(call) }
            })
            .await
        };
        assert_eq!(run(100).await, (20, None));
        assert_eq!(run(0).await, (0, Some(0)));
        let (succeeded, failure) = run(5).await;
        assert_eq!(succeeded, 5);
        assert!(failure.is_some());
        assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 7);
    }
}
