//! Many requests of one reconciliation, of which only some are under way at once.

use std::future::Future;

use futures::StreamExt;

/// Calls under way at once.
const AT_ONCE: usize = 64;

/// Makes all calls and waits for them; the results are in the order of the calls.
pub async fn call_all<Call: Future>(calls: impl IntoIterator<Item = Call>) -> Vec<Call::Output> {
    let calls: Vec<Call> = calls.into_iter().collect();
    futures::stream::iter(calls).buffered(AT_ONCE).collect().await
}

/// The same, of calls that may fail; a failure ends none of the others.
pub async fn try_all<Call, Error>(calls: impl IntoIterator<Item = Call>) -> Result<(), Error>
where
    Call: Future<Output = Result<(), Error>>,
{
    call_all(calls).await.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn so_many_at_once_and_all_in_the_end() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let call = async |number: usize| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            now.fetch_sub(1, Ordering::SeqCst);
            if number == 7 { Err(number) } else { Ok(()) }
        };
        let results = call_all((0..1000).map(&call)).await;
        assert_eq!((results.len(), results[7]), (1000, Err(7)));
        assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
        assert_eq!(try_all((0..20).map(call)).await, Err(7));
    }
}
