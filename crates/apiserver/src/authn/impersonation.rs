//! Acting as another: the `Impersonate-*` headers.

use std::collections::BTreeMap;

use daemon::serving::identity::{extra, texts};
use http::HeaderMap;

use super::service_account::split_username;
use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED};
use crate::user::User;

/// One thing the requester must be allowed to `impersonate`.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    pub group: &'static str,
    pub resource: &'static str,
    /// The key of `userextras`; otherwise empty.
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

/// The user to become and what that takes; `None` without such headers, an error for headers that name no user or cannot be
/// read: a request whose wish is passed over would be done as the requester.
pub fn impersonated(headers: &HeaderMap) -> Result<Option<(User, Vec<Wanted>)>, String> {
    let all = |name: &str| texts(headers, name).map_err(|error| error.to_string());
    let name = all("impersonate-user")?.into_iter().next().unwrap_or_default();
    let groups = all("impersonate-group")?;
    let uid = all("impersonate-uid")?.into_iter().next().unwrap_or_default();
    let extra = extra(headers, "impersonate-extra-").map_err(|error| error.to_string())?;
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
    let account = split_username(&name);
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

    #[test]
    fn unreadable_headers_are_refused() {
        let header = |value: &[u8]| http::HeaderValue::from_bytes(value).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("impersonate-user", header("jürgen".as_bytes()));
        headers.append("impersonate-group", header("größe".as_bytes()));
        let (user, wanted) = impersonated(&headers).unwrap().unwrap();
        assert_eq!((user.name.as_str(), user.groups[0].as_str()), ("jürgen", "größe"));
        assert_eq!((wanted[0].name.as_str(), wanted[1].name.as_str()), ("jürgen", "größe"));
        for name in ["impersonate-user", "impersonate-uid", "impersonate-group", "impersonate-extra-a"] {
            for user in ["someone", ""] {
                let mut headers = HeaderMap::new();
                headers.insert("impersonate-user", user.parse().unwrap());
                headers.append(name, header(b"j\xfcrgen"));
                let refusal = impersonated(&headers).unwrap_err();
                assert_eq!(refusal, format!("the value of the header {name} is not UTF-8"));
            }
        }
    }

    #[test]
    fn only_whole_names_are_service_accounts() {
        let wanted = |name: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("impersonate-user", name.parse().unwrap());
            let (user, wanted) = impersonated(&headers).unwrap().unwrap();
            (wanted[0].resource, user.groups.len())
        };
        assert_eq!(wanted("system:serviceaccount:a:b.c"), ("serviceaccounts", 3));
        for name in ["a:b:c", "a", ":b", "a:", "a.b:c", "A:b", "a:b_c"] {
            assert_eq!(wanted(&format!("system:serviceaccount:{name}")), ("users", 1), "{name}");
        }
    }
}
