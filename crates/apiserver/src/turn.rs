//! The turn of a request: its seat among those that are worked on, and its room where it is large. A request that waits for somebody
//! else's server gives its turn to others: a webhook that does not answer costs the requests that need it, and no others.
//!
//! Nothing that requests share may be locked while one is away: it comes back only when it has a seat again, and the seats may all be
//! taken by requests that wait for what it has locked.

mod absent;
mod limits;
mod room;

use std::future::Future;
use std::sync::Arc;

use api::Status;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use absent::Absent;
use daemon::aside::LARGE_BODY;
use limits::{Limits, Permit};
use room::Room;

tokio::task_local! {
    /// Of the request that the task works on; `None` while it keeps its seat.
    static TURN: Option<Arc<Turn>>;
}

/// What requests share.
pub struct Turns {
    limits: Limits,
    room: Room,
    absent: Absent,
}

/// A request's turn, until it is dropped.
pub struct Turn {
    turns: Arc<Turns>,
    verb: String,
    /// Whose request it is; `None`: it needs no seat.
    user: Option<String>,
    bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The servers that it waits for.
    waits: usize,
    seat: Option<Permit>,
    room: Option<OwnedSemaphorePermit>,
}

/// So many requests wait for a server that this one may not.
#[derive(Debug, thiserror::Error)]
#[error("too many requests wait for {0}, please try again later")]
pub struct Crowded(String);

impl From<Crowded> for Status {
    fn from(error: Crowded) -> Status {
        Status::too_many_requests(error.to_string(), 1)
    }
}

impl Turns {
    /// `--max-requests-inflight` and `--max-mutating-requests-inflight`.
    pub fn new(reading: usize, mutating: usize) -> Arc<Turns> {
        let (room, absent) = (Room::default(), Absent::default());
        Arc::new(Turns { limits: Limits::new(reading, mutating), room, absent })
    }

    /// Waits for the turn of a user's request that makes about so many bytes of work; of `None`, only for room. `None` where there
    /// is no seat within a while.
    pub async fn begin(self: &Arc<Self>, verb: &str, user: Option<&str>, bytes: usize) -> Option<Arc<Turn>> {
        let seat = match user {
            Some(user) => Some(self.limits.enter(verb, user).await?),
            None => None,
        };
        let (verb, user) = (verb.to_owned(), user.map(str::to_owned));
        let room = self.room_for(bytes).await;
        let state = Mutex::new(State { waits: 0, seat, room });
        Some(Arc::new(Turn { turns: Arc::clone(self), verb, user, bytes, state }))
    }

    async fn room_for(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes > LARGE_BODY { self.room.enter(bytes).await } else { None }
    }
}

impl Turn {
    pub fn is_large(&self) -> bool {
        self.bytes > LARGE_BODY
    }

    /// Does a request's work in its turn.
    pub async fn with<T>(self: Arc<Self>, work: impl Future<Output = T>) -> T {
        TURN.scope(Some(self), work).await
    }

    fn leave(&self) {
        let mut state = self.state.lock();
        state.waits += 1;
        let given = (state.seat.take(), state.room.take());
        drop(state);
        drop(given);
    }

    async fn come_back(&self) {
        {
            let mut state = self.state.lock();
            state.waits -= 1;
            if state.waits > 0 {
                return;
            }
        }
        let Turn { turns, verb, user, bytes, .. } = self;
        let seat = match user {
            Some(user) => turns.limits.enter_again(verb, user).await,
            None => None,
        };
        let room = turns.room_for(*bytes).await;
        let mut state = self.state.lock();
        if state.waits == 0 {
            (state.seat, state.room) = (seat, room);
        }
    }
}

/// Waits for a server of somebody else's, which `whom` names, outside of the request's turn. What has no turn only waits.
pub async fn away<T>(whom: &str, wait: impl Future<Output = T>) -> Result<T, Crowded> {
    let Some(turn) = TURN.try_with(Option::clone).ok().flatten() else { return Ok(wait.await) };
    let mut absence = turn.turns.absent.begin(whom, turn.user.as_deref(), turn.bytes)?;
    turn.leave();
    let done = tokio::select! {
        biased;
        () = absence.ended() => Err(Crowded(whom.to_owned())),
        done = wait => Ok(done),
    };
    turn.come_back().await;
    done
}

/// Does what other requests with seats may wait for: whoever it waits for, the seat is kept.
pub async fn seated<T>(work: impl Future<Output = T>) -> T {
    TURN.scope(None, work).await
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_request_that_waits_for_a_server_gives_its_turn_to_others() {
        let turns = Turns::new(0, 1);
        for bytes in [0, 12 << 20] {
            let (answer, waits) = oneshot::channel();
            let first = turns.begin("create", Some("a"), bytes).await.unwrap();
            assert!(turns.begin("create", Some("b"), bytes).now_or_never().is_none());
            let mut work = pin!(first.clone().with(async { away("hook", waits).await.unwrap() }));
            assert!(futures::poll!(&mut work).is_pending());
            let second = turns.begin("create", Some("b"), bytes).now_or_never().flatten().unwrap();
            answer.send(()).unwrap();
            // it goes on when it has its turn again
            assert!(futures::poll!(&mut work).is_pending());
            drop(second);
            work.await.unwrap();
            assert!(turns.begin("create", Some("b"), bytes).now_or_never().is_none());
        }
    }

    #[tokio::test]
    async fn several_servers_are_waited_for_at_once() {
        let turns = Turns::new(0, 1);
        let first = turns.begin("create", Some("a"), 0).await.unwrap();
        let (answers, waits): (Vec<_>, Vec<_>) = (0..2).map(|_| oneshot::channel::<()>()).unzip();
        let asked = futures::future::join_all(waits.into_iter().map(|wait| away("hook", wait)));
        let mut work = pin!(first.clone().with(asked));
        assert!(futures::poll!(&mut work).is_pending());
        for answer in answers {
            let other = turns.begin("create", Some("b"), 0).now_or_never().flatten();
            assert!(other.is_some());
            drop(other);
            answer.send(()).unwrap();
            let _ = futures::poll!(&mut work);
        }
        assert!(turns.begin("create", Some("b"), 0).now_or_never().is_none());
    }

    #[tokio::test]
    async fn what_others_wait_for_keeps_its_seat() {
        let turns = Turns::new(0, 1);
        let (answer, waits) = oneshot::channel();
        let first = turns.begin("create", Some("a"), 0).await.unwrap();
        let mut work = pin!(first.clone().with(seated(away("hook", waits))));
        assert!(futures::poll!(&mut work).is_pending());
        assert!(turns.begin("create", Some("b"), 0).now_or_never().is_none());
        answer.send(()).unwrap();
        // nothing has to be waited for again
        assert!(work.now_or_never().is_some());
    }

    #[tokio::test]
    async fn few_wait_for_one_server() {
        let turns = Turns::new(0, 0);
        let bytes = 1 << 20;
        let wait = |user: Option<&str>, whom: &'static str| {
            let turn = turns.begin("create", user, bytes).now_or_never().flatten().unwrap();
            Box::pin(turn.with(away(whom, std::future::pending::<()>())))
        };
        let mut waiting = Vec::new();
        let refused = loop {
            let mut work = wait(Some("a"), "down");
            match (&mut work).now_or_never() {
                None => waiting.push(work),
                Some(ended) => break ended.unwrap_err(),
            }
        };
        assert_eq!(refused.to_string(), "too many requests wait for down, please try again later");
        assert!((2..20).contains(&waiting.len()));
        // others go on, and so do those whom nothing limits
        let turn = turns.begin("create", Some("a"), bytes).await.unwrap();
        turn.with(away("up", async {})).await.unwrap();
        assert!(wait(None, "down").now_or_never().is_none());
        // another user has a part, for which the last of the first one's go
        let mut others = Vec::new();
        while others.len() < waiting.len() / 3 {
            let mut work = wait(Some("b"), "down");
            assert!((&mut work).now_or_never().is_none());
            others.push(work);
            assert!(waiting.pop().unwrap().now_or_never().unwrap().is_err());
        }
        assert!(waiting.iter_mut().all(|work| work.now_or_never().is_none()));
        // but no more than that
        let refused = loop {
            let mut work = wait(Some("b"), "down");
            match (&mut work).now_or_never() {
                None => others.push(work),
                Some(ended) => break ended,
            }
        };
        assert!(refused.is_err());
        waiting.retain_mut(|work| work.now_or_never().is_none());
        assert!(waiting.len().abs_diff(others.len()) <= 1);
    }
}
