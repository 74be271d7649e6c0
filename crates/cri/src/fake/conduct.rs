//! How slow and how unreliable the fake runtime is.

use super::FakeRuntime;
use crate::error::{Code, Error, Result};
use std::time::Duration;

#[derive(Clone, Copy, Debug, Default)]
pub struct Conduct {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// What a call takes at most.
    pub latency: Duration,
    /// Calls in a thousand that fail, half of them after they have done what was asked for.
    pub failures: u32,
    /// What a container takes at most to end when it is asked to; past its grace it is killed.
    pub ending: Duration,
}

/// A conduct and what chance has brought so far.
#[derive(Default)]
pub(super) struct Moods {
    conduct: Conduct,
    random: u64,
}

impl Moods {
    pub(super) fn new(conduct: Conduct) -> Self {
        Self { conduct, random: conduct.seed | 1 }
    }

    /// Below `limit`, by a xorshift generator: the same seed is the same history.
    fn next(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        if limit == 0 { 0 } else { self.random % limit }
    }

    fn up_to(&mut self, limit: Duration) -> Duration {
        Duration::from_millis(self.next(u64::try_from(limit.as_millis()).unwrap_or_default() + 1))
    }
}

impl FakeRuntime {
    async fn half(&self) -> Result<()> {
        let (pause, fails) = {
            let mut moods = self.moods.lock();
            let conduct = moods.conduct;
            (moods.up_to(conduct.latency / 2), moods.next(2000) < u64::from(conduct.failures))
        };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        if fails { Err(Error::new(Code::Unavailable, "the runtime is not well".to_owned())) } else { Ok(()) }
    }

    /// The first half of a call: nothing has happened yet.
    pub(super) async fn before(&self) -> Result<()> {
        self.half().await
    }

    /// The second half: it has.
    pub(super) async fn after<T>(&self, answer: Result<T>) -> Result<T> {
        self.half().await?;
        answer
    }

    /// What a container takes to end.
    pub(super) fn ending(&self) -> Duration {
        let mut moods = self.moods.lock();
        let longest = moods.conduct.ending;
        moods.up_to(longest)
    }
}
