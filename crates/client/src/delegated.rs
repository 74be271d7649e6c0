//! Who may use a daemon's own secure port, decided by the API server: client certificates against the
//! cluster's client authorities, bearer tokens by `TokenReview`, permission by `SubjectAccessReview`.
//! Answers are kept for a few seconds.

mod authentication;
mod authorization;

pub use authentication::{Authentication, AuthenticationOptions, Authenticator, FrontProxyOptions};
pub use authorization::{Answer, Attributes, Authorization, AuthorizationOptions, Authorizer};

use std::collections::BTreeMap;

use daemon::serving::identity::Identity;

/// An authenticated user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    pub fn anonymous() -> User {
        User {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..Default::default()
        }
    }
}

impl From<Identity> for User {
    fn from(identity: Identity) -> User {
        let Identity { name, uid, groups, extra } = identity;
        User { name, uid, groups, extra }
    }
}
