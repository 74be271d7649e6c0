//! The front proxy: a client with a certificate of `--requestheader-client-ca-file` says in headers whom it speaks for.

use daemon::serving::Peer;
use daemon::serving::authority::Authority;
use http::HeaderMap;

use super::Error;
use crate::request_info::decode;
use crate::user::User;

pub struct RequestHeader {
    pub authority: Authority,
    /// Common names that may; empty: any the authority vouches for.
    pub allowed_names: Vec<String>,
    pub username: Vec<String>,
    pub uid: Vec<String>,
    pub group: Vec<String>,
    pub extra_prefix: Vec<String>,
}

impl RequestHeader {
    /// Whether a header of this name, in lower case, is one of those that say who the user is.
    pub fn reads(&self, name: &str) -> bool {
        let is = |own: &String| own.eq_ignore_ascii_case(name);
        [&self.username, &self.uid, &self.group].into_iter().flatten().any(is)
            || self.extra_prefix.iter().any(|prefix| name.starts_with(&prefix.to_ascii_lowercase()))
    }

    pub fn authenticate(&self, headers: &HeaderMap, peer: &Peer) -> Result<Option<User>, Error> {
        let text = |name: &String| headers.get(name.as_str()).and_then(|value| value.to_str().ok());
        let Some(name) = self.username.iter().find_map(text).filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        if peer.certificates().is_empty() {
            return Ok(None);
        }
        let subject = self
            .authority
            .verify(peer.certificates())
            .map_err(|error| Error::Certificate(error.to_string()))?;
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&subject.common_name) {
            return Err(Error::Certificate(format!(
                "x509: subject with cn={} is not in the allowed list",
                subject.common_name
            )));
        }
        let mut user = User { name: name.to_owned(), ..User::default() };
        user.uid = self.uid.iter().find_map(text).unwrap_or_default().to_owned();
        for header in &self.group {
            let values = headers.get_all(header.as_str());
            user.groups.extend(values.iter().filter_map(|value| value.to_str().ok()).map(str::to_owned));
        }
        for prefix in &self.extra_prefix {
            let prefix = prefix.to_ascii_lowercase();
            for (name, value) in headers {
                let (Some(key), Ok(value)) = (name.as_str().strip_prefix(&prefix), value.to_str()) else {
                    continue;
                };
                user.extra.entry(decode(key).to_lowercase()).or_default().push(value.to_owned());
            }
        }
        Ok(Some(user))
    }
}
