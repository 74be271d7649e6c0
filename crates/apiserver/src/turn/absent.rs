//! Requests that wait for somebody else's server. They take memory while they have no turn, so there is a bound, of which no
//! one server's requests take more than a part, and of that part no one user's more than others leave.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Crowded;

/// Bytes of the requests that wait at once: an object takes fifty times as much while it is changed.
const ALL: usize = 24 << 20;
/// Of these, those that wait for one server.
const EACH: usize = ALL / 3;
/// What each counts at least.
const LEAST: usize = 4 << 10;

/// Those who wait, by server.
#[derive(Default)]
pub struct Absent(Mutex<State>);

#[derive(Default)]
struct State {
    bytes: usize,
    servers: HashMap<Arc<str>, Server>,
    begun: u64,
}

#[derive(Default)]
struct Server {
    bytes: usize,
    /// Those that nothing limits are under the name of nobody.
    users: HashMap<Option<Arc<str>>, Own>,
}

/// One user's requests, in their order.
#[derive(Default)]
struct Own {
    bytes: usize,
    requests: BTreeMap<u64, (usize, oneshot::Sender<()>)>,
}

/// Whose requests wait for which server.
type Share = (Arc<str>, Option<Arc<str>>);

impl State {
    /// The user with more than so many bytes who has most; of those who wait for one server, or for any.
    fn most(&self, whom: Option<&str>, more_than: usize) -> Option<(Share, u64)> {
        let servers = self.servers.iter().filter(|(name, _)| whom.is_none_or(|whom| &***name == whom));
        let shares = servers.flat_map(|(name, server)| server.users.iter().map(move |own| (name, own)));
        let limited = shares.filter(|(_, (user, own))| user.is_some() && own.bytes > more_than);
        let (name, (user, own)) = limited.max_by_key(|(_, (_, own))| own.bytes)?;
        let (last, _) = own.requests.last_key_value()?;
        Some(((Arc::clone(name), user.clone()), *last))
    }

    fn remove(&mut self, (whom, user): &Share, id: u64) {
        let Some(server) = self.servers.get_mut(whom) else { return };
        let Some(own) = server.users.get_mut(user) else { return };
        // who was refused before is counted no longer
        let Some((bytes, _)) = own.requests.remove(&id) else { return };
        for count in [&mut self.bytes, &mut server.bytes, &mut own.bytes] {
            *count -= bytes;
        }
        if own.requests.is_empty() {
            server.users.remove(user);
        }
        if server.users.is_empty() {
            self.servers.remove(whom);
        }
    }
}

pub struct Absence<'a> {
    absent: &'a Absent,
    share: Share,
    id: u64,
    ended: oneshot::Receiver<()>,
}

impl Absent {
    /// Counts a request of so many bytes until the absence is dropped. Of `None` it is never refused.
    pub fn begin(&self, whom: &str, user: Option<&str>, bytes: usize) -> Result<Absence<'_>, Crowded> {
        let bytes = bytes.max(LEAST);
        let mut state = self.0.lock();
        while user.is_some() {
            // A first one waits however large it is.
            let Some(server) = state.servers.get(whom) else { break };
            let of = match () {
                () if server.bytes + bytes > EACH => Some(whom),
                () if state.bytes + bytes > ALL => None,
                () => break,
            };
            let own =
                user.and_then(|user| server.users.get(&Some(Arc::from(user)))).map_or(0, |own| own.bytes);
            let Some((share, last)) = state.most(of, own + bytes) else {
                return Err(Crowded(whom.to_owned()));
            };
            state.remove(&share, last);
        }
        let share: Share = (Arc::from(whom), user.map(Arc::from));
        let (sender, ended) = oneshot::channel();
        state.begun += 1;
        let id = state.begun;
        state.bytes += bytes;
        let server = state.servers.entry(Arc::clone(&share.0)).or_default();
        server.bytes += bytes;
        let own = server.users.entry(share.1.clone()).or_default();
        own.bytes += bytes;
        own.requests.insert(id, (bytes, sender));
        Ok(Absence { absent: self, share, id, ended })
    }
}

impl Absence<'_> {
    /// Waits until the request is refused, to make room for one of a user with fewer.
    pub async fn ended(&mut self) {
        // nothing is ever sent
        let _ = (&mut self.ended).await;
    }
}

impl Drop for Absence<'_> {
    fn drop(&mut self) {
        self.absent.0.lock().remove(&self.share, self.id);
    }
}
