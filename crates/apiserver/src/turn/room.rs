//! Room for the large requests that are worked on at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bounds the large requests that are worked on at once, by their bytes: an object takes fifty times as much while it is changed.
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Room {
        Room(Arc::new(Semaphore::new(Room::BYTES / Room::UNIT)))
    }
}

impl Room {
    /// Four bodies as large as they may be.
    const BYTES: usize = 12 << 20;
    const UNIT: usize = 1 << 10;

    /// Waits for room for a request of so many bytes, in the order of those who wait.
    pub async fn enter(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = (bytes.min(Room::BYTES) / Room::UNIT) as u32;
        // It is never closed.
        self.0.clone().acquire_many_owned(units).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_requests_wait_for_room() {
        let room = Room::default();
        let mut inside = Vec::new();
        for _ in 0..4 {
            inside.push(room.enter(3 << 20).await.unwrap());
        }
        let next = room.enter(100 << 20);
        tokio::pin!(next);
        assert!(futures::poll!(&mut next).is_pending());
        inside.clear();
        assert!(next.await.is_some());
    }
}
