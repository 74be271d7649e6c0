//! Acting as another: the `Impersonate-*` headers.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED};
use crate::request_info::decode;
use crate::user::User;

/// One thing the requester must be allowed to `impersonate`.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    pub group: &'static str,
    pub resource: &'static str,
    /// Of `userextras`: the key.
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

/// The user to become and what that takes; `None` without such headers, an error for headers that name no user.
pub fn impersonated(headers: &HeaderMap) -> Result<Option<(User, Vec<Wanted>)>, String> {
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    };
    let name = all("impersonate-user").into_iter().next().unwrap_or_default();
    let groups = all("impersonate-group");
    let uid = all("impersonate-uid").into_iter().next().unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        let (Some(key), Ok(value)) = (header.as_str().strip_prefix("impersonate-extra-"), value.to_str())
        else {
            continue;
        };
        extra.entry(decode(key).to_lowercase()).or_default().push(value.to_owned());
    }
    if name.is_empty() {
        return match groups.is_empty() && uid.is_empty() && extra.is_empty() {
            true => Ok(None),
            false => Err(nobody(&uid, &groups, &extra)),
        };
    }
    let want = |group, resource, name: &str| Wanted {
        group,
        resource,
        subresource: String::new(),
        namespace: String::new(),
        name: name.to_owned(),
    };
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let account = account.map(|(namespace, account)| (namespace.to_owned(), account.to_owned()));
    let mut wanted = vec![match &account {
        Some((namespace, account)) => {
            Wanted { namespace: namespace.clone(), ..want("", "serviceaccounts", account) }
        }
        None => want("", "users", &name),
    }];
    wanted.extend(groups.iter().map(|group| want("", "groups", group)));
    for (key, values) in &extra {
        wanted.extend(values.iter().map(|value| Wanted {
            subresource: key.clone(),
            ..want("authentication.k8s.io", "userextras", value)
        }));
    }
    if !uid.is_empty() {
        wanted.push(want("authentication.k8s.io", "uids", &uid));
    }
    let mut user = User { name, uid, groups, extra };
    if let Some((namespace, _)) = &account
        && user.groups.is_empty()
    {
        user.groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
    }
    let implied = if user.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !user.in_group(implied) && !user.in_group(UNAUTHENTICATED) {
        user.groups.push(implied.into());
    }
    Ok(Some((user, wanted)))
}

/// The refusal shows the user as upstream's does, which is as Go prints it.
fn nobody(uid: &str, groups: &[String], extra: &BTreeMap<String, Vec<String>>) -> String {
    let list = |values: &[String]| {
        let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        format!("[]string{{{}}}", quoted.join(", "))
    };
    let groups = if groups.is_empty() { "[]string(nil)".to_owned() } else { list(groups) };
    let extra = if extra.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        let pairs: Vec<String> =
            extra.iter().map(|(key, values)| format!("{key:?}:{}", list(values))).collect();
        format!("map[string][]string{{{}}}", pairs.join(", "))
    };
    format!(
        "requested &user.DefaultInfo{{Name:\"\", UID:{uid:?}, Groups:{groups}, Extra:{extra}}} without impersonating a user name"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(impersonated(&headers), Ok(None));
        headers.append("impersonate-group", "dev".parse().unwrap());
        assert!(impersonated(&headers).is_err());
        headers.insert("impersonate-user", "system:serviceaccount:a:b".parse().unwrap());
        headers.insert("impersonate-extra-scopes", "view".parse().unwrap());
        let (user, wanted) = impersonated(&headers).unwrap().unwrap();
        assert_eq!(user.groups, ["dev", "system:authenticated"]);
        let names: Vec<_> =
            wanted.iter().map(|one| (one.resource, one.namespace.as_str(), one.name.as_str())).collect();
        assert_eq!(names, [("serviceaccounts", "a", "b"), ("groups", "", "dev"), ("userextras", "", "view")]);
    }
}
