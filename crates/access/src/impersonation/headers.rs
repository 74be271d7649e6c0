//! The `Impersonate-*` headers.

use std::collections::BTreeMap;

use daemon::serving::identity::{extra, texts};
use http::HeaderMap;

use crate::user::User;

/// The user that the headers name, with nothing added; `None` without such headers, an error for headers that name no user or
/// cannot be read: a request whose wish is passed over would be done as the requester.
pub(super) fn wanted(headers: &HeaderMap) -> Result<Option<User>, String> {
    let all = |name: &str| texts(headers, name).map_err(|error| error.to_string());
    let name = all("impersonate-user")?.into_iter().next().unwrap_or_default();
    let groups = all("impersonate-group")?;
    let uid = all("impersonate-uid")?.into_iter().next().unwrap_or_default();
    let extra = extra(headers, "impersonate-extra-").map_err(|error| error.to_string())?;
    if !name.is_empty() {
        return Ok(Some(User { name, uid, groups, extra }));
    }
    match groups.is_empty() && uid.is_empty() && extra.is_empty() {
        true => Ok(None),
        false => Err(nobody(&uid, &groups, &extra)),
    }
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
        assert_eq!(wanted(&headers), Ok(None));
        headers.append("impersonate-group", "dev".parse().unwrap());
        assert!(wanted(&headers).is_err());
        headers.insert("impersonate-user", "someone".parse().unwrap());
        headers.insert("impersonate-extra-scopes", "view".parse().unwrap());
        let user = wanted(&headers).unwrap().unwrap();
        assert_eq!((user.name.as_str(), user.groups.as_slice()), ("someone", &["dev".to_owned()][..]));
        assert_eq!(user.extra["scopes"], ["view"]);
    }

    #[test]
    fn unreadable_headers_are_refused() {
        let header = |value: &[u8]| http::HeaderValue::from_bytes(value).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("impersonate-user", header("jürgen".as_bytes()));
        headers.append("impersonate-group", header("größe".as_bytes()));
        let user = wanted(&headers).unwrap().unwrap();
        assert_eq!((user.name.as_str(), user.groups[0].as_str()), ("jürgen", "größe"));
        for name in ["impersonate-user", "impersonate-uid", "impersonate-group", "impersonate-extra-a"] {
            for user in ["someone", ""] {
                let mut headers = HeaderMap::new();
                headers.insert("impersonate-user", user.parse().unwrap());
                headers.append(name, header(b"j\xfcrgen"));
                let refusal = wanted(&headers).unwrap_err();
                assert_eq!(refusal, format!("the value of the header {name} is not UTF-8"));
            }
        }
    }
}
