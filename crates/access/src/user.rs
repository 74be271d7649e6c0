//! Who sends a request, after authentication.

use std::collections::BTreeMap;

use daemon::serving::identity::Identity;

/// The identity that authorization, admission and audit see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The group that may do everything.
pub const MASTERS: &str = "system:masters";

impl User {
    /// The API server itself, for what it writes on its own account.
    pub fn apiserver() -> User {
        User {
            name: "system:apiserver".to_owned(),
            groups: vec![MASTERS.to_owned(), "system:authenticated".to_owned()],
            ..User::default()
        }
    }

    /// A service account, as its tokens make it known.
    pub fn service_account(namespace: &str, name: &str) -> User {
        User {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
            ..User::default()
        }
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

impl From<Identity> for User {
    fn from(identity: Identity) -> User {
        let Identity { name, uid, groups, extra } = identity;
        User { name, uid, groups, extra }
    }
}
