//! The front proxy: a client with a certificate of `--requestheader-client-ca-file` says in headers whom it speaks for.

use daemon::serving::Peer;
use daemon::serving::authority::Authority;
use daemon::serving::identity::ProxyHeaders;
use http::HeaderMap;

use super::Error;
use crate::user::User;

pub struct RequestHeader {
    pub authority: Authority,
    /// Common names that may; empty: any the authority vouches for.
    pub allowed_names: Vec<String>,
    pub headers: ProxyHeaders,
}

impl RequestHeader {
    /// Nothing is read off the headers of anyone but the proxy, and nothing of the proxy's is passed over.
    pub fn authenticate(&self, headers: &HeaderMap, peer: &Peer) -> Result<Option<User>, Error> {
        if peer.certificates().is_empty() {
            return Ok(None);
        }
        let subject = peer.verified(&self.authority)?;
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&subject.common_name) {
            return Err(Error::NotAllowed(subject.common_name.clone()));
        }
        Ok(self.headers.identity(headers)?.map(User::from))
    }
}
