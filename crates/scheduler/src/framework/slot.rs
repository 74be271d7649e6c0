//! The bound on bindings that write at once. What only waits takes no part in it: a binding may wait for a volume for ten
//! minutes, and others have to go on meanwhile.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A binding's place among those that write.
pub struct Slot {
    all: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// One that is not acquired yet.
    pub fn new(all: Arc<Semaphore>) -> Slot {
        Slot { all, permit: None }
    }

    pub async fn acquire(&mut self) {
        if self.permit.is_none() {
            // The semaphore is never closed.
            self.permit = self.all.clone().acquire_owned().await.ok();
        }
    }

    /// Lets others write until `wait` ends, and waits for a place again.
    pub async fn release_during<T>(&mut self, wait: impl Future<Output = T>) -> T {
        self.permit = None;
        let result = wait.await;
        self.acquire().await;
        result
    }
}
