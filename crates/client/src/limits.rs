//! How much a client asks for at once, and how fast.
//!
//! A server takes a few hundred requests at a time and refuses the others, who then wait a second or more. So what is
//! under way is bounded well below that: requests that would be refused wait here instead, for their turn.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Requests under way on all connections of a daemon, watches aside. Upstream's API server works on 200 that change
/// something at a time, of all clients together; a fraction of that keeps any server busy.
const UNDER_WAY: usize = 64;

pub(crate) struct UnderWay(Semaphore);

impl Default for UnderWay {
    fn default() -> Self {
        UnderWay(Semaphore::new(UNDER_WAY))
    }
}

impl UnderWay {
    /// A place until it is dropped, in the order in which they were asked for.
    pub async fn enter(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.0.acquire().await.ok()
    }
}

/// Requests per second, and how many may come at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub per_second: f32,
    pub burst: u32,
}

impl Rate {
    /// The rate that a daemon's options name, where they name one: what they leave out is upstream's `default`, zeros are the client
    /// library's own defaults, a negative rate is none. Options that name nothing leave requests unlimited, other than
    /// upstream's: how many are under way at once is bounded anyhow, and the server refuses what is too much.
    pub fn given(per_second: Option<f32>, burst: Option<i32>, default: Rate) -> Option<Rate> {
        if per_second.is_none() && burst.is_none() {
            return None;
        }
        let per_second = match per_second.unwrap_or(default.per_second) {
            0.0 => 5.0,
            given => given,
        };
        let burst = match burst {
            None => default.burst,
            Some(0) => 10,
            Some(given) => u32::try_from(given).unwrap_or(1),
        };
        (per_second > 0.0).then_some(Rate { per_second, burst })
    }
}

/// Lets requests through at a rate.
pub(crate) struct Pace {
    rate: Rate,
    state: Mutex<Bucket>,
}

struct Bucket {
    /// Requests that may come now; below zero for those that wait already.
    tokens: f64,
    filled: Instant,
}

impl Pace {
    pub fn new(rate: Rate) -> Pace {
        let bucket = Bucket { tokens: f64::from(rate.burst.max(1)), filled: Instant::now() };
        Pace { rate, state: Mutex::new(bucket) }
    }

    /// Waits for a request's turn.
    pub async fn wait(&self) {
        let wait = self.reserve(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn reserve(&self, now: Instant) -> Duration {
        let per_second = f64::from(self.rate.per_second);
        let mut bucket = self.state.lock();
        let passed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * per_second).min(f64::from(self.rate.burst.max(1))) - 1.0;
        bucket.filled = now;
        Duration::try_from_secs_f64((-bucket.tokens).max(0.0) / per_second).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_name_a_rate_or_none() {
        let default = Rate { per_second: 20.0, burst: 30 };
        let given = |per_second, burst| {
            Rate::given(per_second, burst, default).map(|rate| (rate.per_second, rate.burst))
        };
        assert_eq!(given(None, None), None);
        assert_eq!(given(Some(50.0), None), Some((50.0, 30)));
        assert_eq!(given(None, Some(100)), Some((20.0, 100)));
        assert_eq!(given(Some(0.0), Some(0)), Some((5.0, 10)));
        assert_eq!(given(Some(-1.0), Some(7)), None);
    }

    #[test]
    fn a_burst_and_then_a_rate() {
        let pace = Pace::new(Rate { per_second: 10.0, burst: 2 });
        let start = Instant::now();
        let reserve = |millis| pace.reserve(start + Duration::from_millis(millis)).as_millis();
        assert_eq!([reserve(0), reserve(0), reserve(0), reserve(0)], [0, 0, 100, 200]);
        assert_eq!(reserve(300), 0);
        assert_eq!([reserve(60_000), reserve(60_000), reserve(60_000)], [0, 0, 100], "no more than a burst");
    }
}
