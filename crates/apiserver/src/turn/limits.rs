//! How many requests are worked on at once. One that finds no seat waits for a while, since most waits are short: a controller that
//! creates 256 pods at a time needs a seat for each for a millisecond. Users with waiting requests take turns.
//!
//! Absent: shares by priority level, queues by flow, and seats by what a request costs.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::metrics;

/// How long a request waits for a seat before it is refused.
const WAIT: Duration = Duration::from_secs(5);
/// How many requests wait at once. Those beyond are refused at once, the last ones of whoever sends most of them.
const WAITING: usize = 4096;

/// `--max-requests-inflight` and `--max-mutating-requests-inflight`; 0 is no limit.
pub struct Limits {
    reading: Arc<Seats>,
    mutating: Arc<Seats>,
    wait: Duration,
}

struct Seats {
    kind: &'static str,
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: usize,
    /// The users whose requests wait, in the order of their turns.
    turns: VecDeque<String>,
    waiting: HashMap<String, VecDeque<oneshot::Sender<Permit>>>,
    count: usize,
}

impl State {
    /// Who has waited longest of the user whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<Permit>> {
        let user = self.turns.pop_front()?;
        let own = self.waiting.get_mut(&user)?;
        let next = own.pop_front();
        match own.is_empty() {
            true => drop(self.waiting.remove(&user)),
            false => self.turns.push_back(user),
        }
        self.count -= usize::from(next.is_some());
        next
    }

    fn join(&mut self, user: &str, sender: oneshot::Sender<Permit>) {
        if !self.waiting.contains_key(user) {
            self.turns.push_back(user.to_owned());
        }
        self.waiting.entry(user.to_owned()).or_default().push_back(sender);
        self.count += 1;
    }

    /// Refuses the last request of the user who has most of them, to make room for one of a user with fewer. Answers whether it did.
    fn displace(&mut self, user: &str) -> bool {
        let own = self.waiting.get(user).map_or(0, VecDeque::len);
        let most = self.waiting.values_mut().max_by_key(|all| all.len()).filter(|all| all.len() > own + 1);
        let displaced = most.and_then(VecDeque::pop_back).is_some();
        self.count -= usize::from(displaced);
        displaced
    }

    /// Removes those that wait no longer.
    fn tidy(&mut self) {
        self.waiting.retain(|_, own| {
            own.retain(|sender| !sender.is_closed());
            !own.is_empty()
        });
        let waiting = &self.waiting;
        self.turns.retain(|user| waiting.contains_key(user));
        self.count = self.waiting.values().map(VecDeque::len).sum();
    }
}

/// A seat taken until it is dropped; then it goes to the next who waits.
pub struct Permit(Option<Arc<Seats>>);

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(seats) = self.0.take() else { return };
        loop {
            let mut state = seats.state.lock();
            let Some(next) = state.next() else {
                state.taken -= 1;
                drop(state);
                metrics::IN_FLIGHT.with(&[seats.kind]).dec();
                return;
            };
            drop(state);
            match next.send(Permit(Some(Arc::clone(&seats)))) {
                Ok(()) => return,
                // The request no longer waits: the seat goes to the next one.
                Err(mut unused) => drop(unused.0.take()),
            }
        }
    }
}

impl Seats {
    fn new(kind: &'static str, limit: usize) -> Arc<Seats> {
        let limit = if limit == 0 { usize::MAX } else { limit };
        Arc::new(Seats { kind, limit, state: Mutex::default() })
    }

    fn enter(self: &Arc<Self>, user: &str) -> Result<Permit, Option<oneshot::Receiver<Permit>>> {
        let mut state = self.state.lock();
        if state.taken < self.limit {
            state.taken += 1;
            metrics::IN_FLIGHT.with(&[self.kind]).inc();
            return Ok(Permit(Some(Arc::clone(self))));
        }
        if state.count >= WAITING {
            state.tidy();
        }
        if state.count >= WAITING && !state.displace(user) {
            return Err(None);
        }
        let (sender, receiver) = oneshot::channel();
        state.join(user, sender);
        Err(Some(receiver))
    }
}

impl Limits {
    pub fn new(reading: usize, mutating: usize) -> Limits {
        Limits {
            reading: Seats::new("readOnly", reading),
            mutating: Seats::new("mutating", mutating),
            wait: WAIT,
        }
    }

    fn seats(&self, verb: &str) -> &Arc<Seats> {
        match verb {
            "get" | "list" | "watch" => &self.reading,
            _ => &self.mutating,
        }
    }

    /// A seat for a user's request of this verb; `None` when there is none within a while.
    pub async fn enter(&self, verb: &str, user: &str) -> Option<Permit> {
        match self.seats(verb).enter(user) {
            Ok(permit) => Some(permit),
            Err(None) => None,
            Err(Some(receiver)) => tokio::time::timeout(self.wait, receiver).await.ok()?.ok(),
        }
    }

    /// A seat for a request that had one before, which waits for it as long as it may. `None`: it goes on without, since too many wait.
    pub async fn enter_again(&self, verb: &str, user: &str) -> Option<Permit> {
        match self.seats(verb).enter(user) {
            Ok(permit) => Some(permit),
            Err(receiver) => receiver?.await.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// Limits whose requests wait for a moment.
    fn short(reading: usize, mutating: usize) -> Limits {
        Limits { wait: Duration::from_millis(5), ..Limits::new(reading, mutating) }
    }

    #[tokio::test]
    async fn kinds_of_requests_do_not_crowd_each_other_out() {
        let limits = short(1, 1);
        let first = limits.enter("get", "a").await;
        assert!(first.is_some() && limits.enter("list", "a").await.is_none());
        assert!(limits.enter("create", "a").await.is_some());
        drop(first);
        assert!(limits.enter("list", "a").now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn users_take_turns() {
        let limits = Arc::new(Limits::new(0, 1));
        let mut seat = limits.enter("create", "a").await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for user in ["a", "a", "a", "b", "c", "b"] {
            let (limits, order) = (limits.clone(), order.clone());
            tasks.spawn(async move {
                let seat = limits.enter("create", user).await;
                order.lock().push(user);
                seat
            });
            tokio::task::yield_now().await;
        }
        for _ in 0..6 {
            drop(seat.take());
            seat = tasks.join_next().await.and_then(Result::ok).flatten();
            assert!(seat.is_some());
        }
        assert_eq!(*order.lock(), ["a", "b", "c", "a", "b", "a"]);
    }

    #[tokio::test]
    async fn a_request_that_stopped_waiting_takes_no_seat() {
        let limits = short(0, 1);
        let seat = limits.enter("create", "a").await;
        // both give up, one before and one after the seat is free
        assert!(limits.enter("create", "a").await.is_none());
        let mut second = Box::pin(limits.enter("create", "b"));
        assert!((&mut second).now_or_never().is_none());
        drop(seat);
        drop(second);
        assert!(limits.enter("create", "c").now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn no_more_than_so_many_wait() {
        let limits = Limits::new(0, 1);
        let _seat = limits.enter("create", "a").await;
        let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(limits.enter("create", "a"))).collect();
        waiting.iter_mut().for_each(|one| assert!(one.now_or_never().is_none()));
        assert!(matches!(limits.enter("create", "a").now_or_never(), Some(None)));
        // another user's takes the place of the last
        let mut other = Box::pin(limits.enter("create", "b"));
        assert!((&mut other).now_or_never().is_none());
        assert!(matches!(waiting.last_mut().unwrap().now_or_never(), Some(None)));
        assert!(waiting.iter_mut().take(WAITING - 1).all(|one| one.now_or_never().is_none()));
        drop(waiting);
        assert!(limits.enter("create", "a").now_or_never().is_none());
    }
}
