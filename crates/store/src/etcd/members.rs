//! etcd's members. One of them is spoken to, until it cannot be reached; then the next one is.
//!
//! While none answers, requests wait for one, as with etcd's own client: whoever asks bounds the time.

use std::error::Error as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};

use super::{Options, error, read};
use crate::Error;

/// How long one member may take to answer a read before the next one is asked.
const READ: Duration = Duration::from_secs(10);
/// Between attempts, once every member was tried; it doubles up to the last.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

pub struct Members {
    members: Vec<Member>,
    current: AtomicUsize,
    patience: Duration,
    /// None of them answered lately, and the log says so.
    away: AtomicBool,
}

struct Member {
    client: Client,
    /// Its watches end when the member loses its leader: one that the others cannot reach would else keep silent for
    /// ever. Single requests do without, so that they outlast an election.
    watching: Client,
}

impl Members {
    /// Does not wait for connections.
    pub async fn connect(options: &Options) -> Result<Members, Error> {
        let mut connect = ConnectOptions::new()
            .with_keep_alive(Duration::from_secs(30), Duration::from_secs(10))
            .with_keep_alive_while_idle(true)
            .with_connect_timeout(Duration::from_secs(5));
        if options.servers.iter().any(|server| server.starts_with("https://")) {
            let mut tls = TlsOptions::new();
            if let Some(path) = &options.ca_file {
                tls = tls.ca_certificate(Certificate::from_pem(read(path)?));
            }
            if let (Some(cert), Some(key)) = (&options.cert_file, &options.key_file) {
                tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
            }
            connect = connect.with_tls(tls);
        }
        let mut members = Vec::new();
        for server in &options.servers {
            let with_leader = connect.clone().with_require_leader(true);
            members.push(Member {
                client: Client::connect([server], Some(connect.clone())).await.map_err(error)?,
                watching: Client::connect([server], Some(with_leader)).await.map_err(error)?,
            });
        }
        if members.is_empty() {
            return Err(Error::Other("no etcd server is named".to_owned()));
        }
        let (current, away) = (AtomicUsize::new(0), AtomicBool::new(false));
        Ok(Members { members, current, patience: options.patience, away })
    }

    /// Asks members until one answers. The request may be done more than once.
    pub async fn ask<T, F>(&self, request: impl Fn(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.until_answered(READ, is_lost, request).await.map(|(answer, _)| answer)
    }

    /// Asks members for a transaction. It is sent again where the connection ended before the answer; whether it may have
    /// been done then comes with the answer. What a member has let wait is not sent again: it may still do it.
    pub async fn write<T, F>(&self, request: impl Fn(Client) -> F) -> Result<(T, bool), Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.until_answered(self.patience, is_cut, request).await
    }

    async fn until_answered<T, F>(
        &self,
        limit: Duration,
        again: fn(&etcd_client::Error) -> bool,
        request: impl Fn(Client) -> F,
    ) -> Result<(T, bool), Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let deadline = Instant::now() + self.patience;
        let mut maybe_done = false;
        let mut failures = 0;
        loop {
            let (number, member) = self.current();
            let left = deadline.saturating_duration_since(Instant::now());
            let failure = match tokio::time::timeout(left.min(limit), request(member.client.clone())).await {
                Ok(Ok(answer)) => {
                    if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
                        tracing::info!("etcd answers again");
                    }
                    return Ok((answer, maybe_done));
                }
                Ok(Err(failure)) if !again(&failure) => return Err(error(failure)),
                Ok(Err(failure)) => {
                    maybe_done |= !is_unsent(&failure);
                    error(failure)
                }
                Err(_) => Error::Unavailable("etcdserver: request timed out".to_owned()),
            };
            self.leave(number);
            failures += 1;
            // Every member at once, then all of them again after a while.
            let rounds = failures / self.members.len();
            let pause = match failures % self.members.len() {
                0 => PAUSES[rounds.min(PAUSES.len()) - 1],
                _ => Duration::ZERO,
            };
            if !pause.is_zero() && !self.away.swap(true, Ordering::Relaxed) {
                tracing::warn!(%failure, "no member of etcd answers: requests wait");
            }
            if Instant::now() + pause >= deadline {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks one member, once, for a watch. With it comes the member's number, to [`leave`](Self::leave) when the watch ends.
    pub async fn watch<T, F>(&self, request: impl FnOnce(Client) -> F) -> Result<(T, usize), Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let (number, member) = self.current();
        let failure = match tokio::time::timeout(READ, request(member.watching.clone())).await {
            Ok(Ok(answer)) => return Ok((answer, number)),
            Ok(Err(failure)) => error(failure),
            Err(_) => Error::Unavailable("etcdserver: request timed out".to_owned()),
        };
        if matches!(failure, Error::Unavailable(_)) {
            self.leave(number);
        }
        Err(failure)
    }

    fn current(&self) -> (usize, &Member) {
        let number = self.current.load(Ordering::Relaxed);
        (number, &self.members[number % self.members.len()])
    }

    /// Goes on to the next member, unless somebody has already.
    pub fn leave(&self, number: usize) {
        let _ = self.current.compare_exchange(
            number,
            number.wrapping_add(1),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }
}

/// Whether the request did not leave: there was no connection, or it ended before the request was written.
fn is_unsent(failure: &etcd_client::Error) -> bool {
    let etcd_client::Error::GRpcStatus(status) = failure else { return false };
    let mut cause = status.source();
    while let Some(source) = cause {
        if source.is::<tonic::ConnectError>() || source.downcast_ref().is_some_and(hyper::Error::is_canceled)
        {
            return true;
        }
        cause = source.source();
    }
    false
}

/// Whether the connection ended instead of an answer.
fn is_cut(failure: &etcd_client::Error) -> bool {
    match failure {
        // What a member answered has no cause here.
        etcd_client::Error::GRpcStatus(status) => status.source().is_some(),
        etcd_client::Error::TransportError(_) | etcd_client::Error::IoError(_) => true,
        _ => false,
    }
}

/// Whether it is no answer, or a member's that it cannot give one now.
fn is_lost(failure: &etcd_client::Error) -> bool {
    let unavailable = |status: &tonic::Status| status.code() == tonic::Code::Unavailable;
    is_cut(failure) || matches!(failure, etcd_client::Error::GRpcStatus(status) if unavailable(status))
}
