//! The ways to be allowed to act as another user, and what each asks about.

use std::collections::BTreeMap;
use std::time::Instant;

use api::Status;
use machinery::fieldpath::{Path, domain_path};
use machinery::names;

use super::Rights;
use crate::authn::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, split_username};
use crate::authz::Attributes;
use crate::metrics;
use crate::refusal;
use crate::request_info::RequestInfo;
use crate::user::{MASTERS, User};

const GROUP: &str = "authentication.k8s.io";
const NODE_OF_REQUESTER: &str = "authentication.kubernetes.io/node-name";
const ASSOCIATED_KEYS: &str = "authentication.kubernetes.io/associated-node-keys";

/// From here on one question about `*` comes before one for each.
const MANY: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// A service account becomes the node that its pod runs on.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    /// Any other user, with uid, groups and extra values.
    UserInfo,
    Legacy,
}

impl Mode {
    pub(super) const ALL: &'static [Mode] =
        &[Mode::AssociatedNode, Mode::ArbitraryNode, Mode::ServiceAccount, Mode::UserInfo, Mode::Legacy];

    pub(super) fn name(self) -> &'static str {
        match self {
            Mode::AssociatedNode => "associated-node",
            Mode::ArbitraryNode => "arbitrary-node",
            Mode::ServiceAccount => "serviceaccount",
            Mode::UserInfo => "user-info",
            Mode::Legacy => "legacy",
        }
    }

    /// Whether it is a way to become the user at all.
    pub(super) fn applies(self, wanted: &User, requester: &User) -> bool {
        let only_name = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = node_of(&wanted.name);
        let is_account = split_username(&wanted.name).is_some();
        match self {
            Mode::AssociatedNode => {
                let own = requester.extra.get(NODE_OF_REQUESTER).map(Vec::as_slice);
                let own = own.and_then(|names| if let [name] = names { Some(name.as_str()) } else { None });
                only_name && node.is_some() && own == node && split_username(&requester.name).is_some()
            }
            Mode::ArbitraryNode => only_name && node.is_some(),
            Mode::ServiceAccount => only_name && is_account,
            Mode::UserInfo => node.is_none() && !is_account,
            Mode::Legacy => true,
        }
    }

    /// The user as which the request goes on.
    pub(super) async fn check(
        self,
        requester: &User,
        info: &RequestInfo,
        wanted: &User,
        rights: &impl Rights,
    ) -> Result<User, Status> {
        let shown;
        let requester = match self {
            // The answer is the same wherever the requester's pods run.
            Mode::AssociatedNode => {
                let keys = requester.extra.keys().cloned().collect();
                let extra = BTreeMap::from([(ASSOCIATED_KEYS.to_owned(), keys)]);
                shown = User { extra, ..requester.clone() };
                &shown
            }
            _ => requester,
        };
        let (verb, group) = match self {
            Mode::Legacy => ("impersonate".to_owned(), ""),
            mode => (format!("impersonate:{}", mode.name()), GROUP),
        };
        let check = Check { mode: self, rights, requester, verb: &verb, group };
        if self != Mode::Legacy {
            let verb = format!("impersonate-on:{}:{}", self.name(), info.verb);
            check.may(&Attributes { verb: &verb, ..Attributes::of(requester, info) }).await?;
        }
        let groups = check.name(wanted).await?;
        check.uid(wanted).await?;
        check.groups(wanted).await?;
        check.extra(wanted).await?;
        let mut user = User { groups, ..wanted.clone() };
        let implied = if user.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
        if !user.in_group(implied) && !user.in_group(UNAUTHENTICATED) {
            user.groups.push(implied.to_owned());
        }
        Ok(user)
    }
}

/// The node whose user this is.
fn node_of(user: &str) -> Option<&str> {
    user.strip_prefix("system:node:").filter(|name| names::is_dns1123_subdomain(name))
}

struct Check<'a, R> {
    mode: Mode,
    rights: &'a R,
    requester: &'a User,
    verb: &'a str,
    /// That of users and groups.
    group: &'static str,
}

impl<R: Rights> Check<'_, R> {
    async fn may(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let started = Instant::now();
        let answer = self.rights.answer(attributes).await;
        let decision = if answer.allowed() { "allowed" } else { "denied" };
        metrics::IMPERSONATION_AUTHORIZATION.count([self.mode.name(), decision], started);
        match answer.allowed() {
            true => Ok(()),
            false => Err(refusal::denied(attributes, &answer.reason)),
        }
    }

    fn attributes<'a>(&'a self, group: &'a str, resource: &'a str, name: &'a str) -> Attributes<'a> {
        Attributes::resource(self.requester, self.verb, group, resource, "", name)
    }

    /// The right to the name, and the groups that come with it.
    async fn name(&self, wanted: &User) -> Result<Vec<String>, Status> {
        let account = split_username(&wanted.name);
        let node = node_of(&wanted.name).filter(|_| self.mode != Mode::Legacy);
        let mut groups = wanted.groups.clone();
        let attributes = match (account, node) {
            (Some((namespace, name)), _) => {
                if groups.is_empty() {
                    groups =
                        vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
                }
                Attributes { namespace, ..self.attributes(self.group, "serviceaccounts", name) }
            }
            (None, Some(node)) => {
                groups = vec!["system:nodes".into()];
                let name = if self.mode == Mode::AssociatedNode { "*" } else { node };
                self.attributes(self.group, "nodes", name)
            }
            (None, None) => self.attributes(self.group, "users", &wanted.name),
        };
        self.may(&attributes).await?;
        Ok(groups)
    }

    async fn uid(&self, wanted: &User) -> Result<(), Status> {
        match wanted.uid.as_str() {
            "" => Ok(()),
            uid => self.may(&self.attributes(GROUP, "uids", uid)).await,
        }
    }

    async fn groups(&self, wanted: &User) -> Result<(), Status> {
        if self.mode != Mode::Legacy {
            let refuse =
                |name, why: &str| Err(refusal::denied(&self.attributes(self.group, "groups", name), why));
            if wanted.in_group("") {
                return refuse("", "impersonating the empty string group is not allowed");
            }
            if wanted.in_group(MASTERS) {
                return refuse(MASTERS, "impersonating the system:masters group is not allowed");
            }
            if wanted.groups.len() >= MANY
                && self.may(&self.attributes(self.group, "groups", "*")).await.is_ok()
            {
                return Ok(());
            }
        }
        for group in &wanted.groups {
            self.may(&self.attributes(self.group, "groups", group)).await?;
        }
        Ok(())
    }

    async fn extra(&self, wanted: &User) -> Result<(), Status> {
        let attributes = |key, value| {
            let attributes = self.attributes(GROUP, "userextras", value);
            Attributes { subresource: key, ..attributes }
        };
        if self.mode != Mode::Legacy {
            if let Some(why) = wanted.extra.iter().find_map(|(key, values)| unfit(key, values)) {
                return Err(refusal::denied(&attributes("", ""), &why));
            }
            let values: usize = wanted.extra.values().map(Vec::len).sum();
            if values >= MANY && self.may(&attributes("*", "*")).await.is_ok() {
                return Ok(());
            }
        }
        for (key, values) in &wanted.extra {
            for value in values {
                self.may(&attributes(key, value)).await?;
            }
        }
        Ok(())
    }
}

/// Why nobody may have such an extra value by one of the constrained ways.
fn unfit(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".to_owned());
    }
    let mut errors = Vec::new();
    domain_path(key, &Path::new("extra.key"), &mut errors);
    let problems: Vec<String> =
        errors.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    let problems = match problems.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        _ => Some(format!("[{}]", problems.join(", "))),
    };
    if let Some(problems) = problems {
        return Some(format!("impersonating an invalid key in extra is not allowed: {problems}"));
    }
    if key.chars().any(char::is_uppercase) {
        return Some(format!("impersonating a non-lowercase key in extra is not allowed: {key:?}"));
    }
    let empty = values.iter().any(String::is_empty);
    empty.then(|| "impersonating the empty string value in extra is not allowed".to_owned())
}
