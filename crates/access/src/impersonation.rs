//! Acting as another user: whom the headers name, and whether the requester may.
//!
//! There are several ways to be allowed, tried in order. A constrained one (KEP-5284) takes two rights: to become such a user
//! (`impersonate:MODE` in `authentication.k8s.io`), and to do what is asked for as one (`impersonate-on:MODE:VERB` on the
//! resource itself). The older one takes `impersonate` alone, and allows everything that the other user may.

mod headers;
mod mode;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use api::Status;
use futures::future::BoxFuture;
use http::HeaderMap;

use crate::authz::{Answer, Attributes, Authorizer};
use crate::metrics;
use crate::request_info::RequestInfo;
use crate::user::User;
use mode::Mode;

/// Requesters whose way is remembered; beyond these all are forgotten.
const REMEMBERED: usize = 10_000;

/// Where rights are asked about.
trait Rights: Sync {
    fn answer<'a>(&'a self, attributes: &'a Attributes<'a>) -> BoxFuture<'a, Answer>;
}

impl Rights for Authorizer {
    fn answer<'a>(&'a self, attributes: &'a Attributes<'a>) -> BoxFuture<'a, Answer> {
        Box::pin(self.authorize(attributes))
    }
}

pub struct Impersonation {
    modes: &'static [Mode],
    /// By requester, the way that was the last to be allowed: it is tried first.
    last: Mutex<HashMap<String, Mode>>,
}

impl Impersonation {
    /// `constrained` is the gate `ConstrainedImpersonation`.
    pub fn new(constrained: bool) -> Impersonation {
        Impersonation { modes: if constrained { Mode::ALL } else { &[Mode::Legacy] }, last: Mutex::default() }
    }

    /// The user that a request is done as; `None` where its headers name none.
    pub async fn of(
        &self,
        requester: &User,
        info: &RequestInfo,
        headers: &HeaderMap,
        authorizer: &Authorizer,
    ) -> Result<Option<User>, Status> {
        let Some(wanted) = headers::wanted(headers).map_err(Status::bad_request)? else { return Ok(None) };
        let started = Instant::now();
        let answer = self.allowed(requester, info, &wanted, authorizer).await;
        let labels = match &answer {
            Ok((mode, _)) => [mode.name(), "allowed"],
            Err(_) => ["", "denied"],
        };
        metrics::IMPERSONATION.count(labels, started);
        answer.map(|(_, user)| Some(user))
    }

    /// The first mode that allows it, or the first refusal.
    async fn allowed(
        &self,
        requester: &User,
        info: &RequestInfo,
        wanted: &User,
        rights: &impl Rights,
    ) -> Result<(Mode, User), Status> {
        let last = self.last.lock().unwrap_or_else(|lock| lock.into_inner()).get(&requester.name).copied();
        let others = self.modes.iter().copied().filter(|mode| Some(*mode) != last);
        let mut refusal = None;
        for mode in last.into_iter().chain(others).filter(|mode| mode.applies(wanted, requester)) {
            match mode.check(requester, info, wanted, rights).await {
                Ok(user) => {
                    if Some(mode) != last {
                        self.remember(requester, mode);
                    }
                    return Ok((mode, user));
                }
                Err(status) => refusal = refusal.or(Some(status)),
            }
        }
        Err(refusal.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
    }

    fn remember(&self, requester: &User, mode: Mode) {
        let mut last = self.last.lock().unwrap_or_else(|lock| lock.into_inner());
        if last.len() >= REMEMBERED {
            last.clear();
        }
        last.insert(requester.name.clone(), mode);
    }
}

#[cfg(test)]
mod tests;
