//! `imagePullCredentialsVerificationPolicy`: for which images that are here a pod has to show that it may use them.

use super::records::repository;
use super::reference;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    Never,
    /// For those that the kubelet pulled.
    #[default]
    NotPreloaded,
    /// For all but these: whole names, and what names begin with.
    NotListed {
        names: Vec<String>,
        prefixes: Vec<String>,
    },
    Always,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error(
        "option {0:?} specified for imagePullCredentialsVerificationPolicy. Valid options are \"NeverVerify\", \"NeverVerifyPreloadedImages\", \"NeverVerifyAllowlistedImages\" or \"AlwaysVerify\""
    )]
    Unknown(String),
    #[error(
        "can't set `preloadedImagesVerificationAllowlist` if `imagePullCredentialsVertificationPolicy` is not \"NeverVerifyAllowlistedImages\""
    )]
    UnusedList,
    #[error("invalid image pattern in `preloadedImagesVerificationAllowlist`: {0}")]
    Pattern(String),
}

impl Policy {
    /// Takes the configuration's fields.
    pub fn new(policy: &str, list: &[String]) -> Result<Self, Error> {
        if !list.is_empty() && policy != "NeverVerifyAllowlistedImages" {
            return Err(Error::UnusedList);
        }
        match policy {
            "NeverVerify" => Ok(Policy::Never),
            "NeverVerifyPreloadedImages" => Ok(Policy::NotPreloaded),
            "AlwaysVerify" => Ok(Policy::Always),
            "NeverVerifyAllowlistedImages" => {
                let (mut names, mut prefixes) = (Vec::new(), Vec::new());
                for pattern in list {
                    match pattern.strip_suffix('*').filter(|prefix| prefix.ends_with('/')) {
                        Some(prefix) => prefixes.push(check(pattern, prefix)?.to_owned()),
                        None => names.push(check(pattern, pattern)?.to_owned()),
                    }
                }
                Ok(Policy::NotListed { names, prefixes })
            }
            other => Err(Error::Unknown(other.to_owned())),
        }
    }

    pub fn asks_for_credentials(&self, image: &str, pulled_by_us: bool) -> bool {
        match self {
            Policy::Never => false,
            Policy::NotPreloaded => pulled_by_us,
            Policy::NotListed { names, prefixes } => {
                let name = repository(image);
                !names.iter().any(|known| known == name)
                    && !prefixes.iter().any(|prefix| name.starts_with(prefix))
            }
            Policy::Always => true,
        }
    }
}

fn check<'a>(pattern: &str, name: &'a str) -> Result<&'a str, Error> {
    let wrong = |text: String| Err(Error::Pattern(text));
    if pattern != pattern.trim() {
        return wrong(format!("leading/trailing spaces are not allowed: {pattern}"));
    }
    if name.is_empty() {
        return wrong(format!("the supplied pattern is too short: {pattern}"));
    }
    if name.contains('*') {
        return wrong(format!(
            "not a valid wildcard pattern, only patterns ending with '/*' are allowed: {pattern}"
        ));
    }
    if name == "/" {
        return wrong("at least registry hostname is required".into());
    }
    if !name.ends_with('/') {
        if reference::with_tag(name).is_err() {
            return wrong("failed to parse as an image name: invalid reference format".into());
        }
        if repository(name) != name {
            return wrong(format!("neither tag nor digest is accepted in an image reference: {pattern}"));
        }
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let table: &[(&str, &[&str], &str, bool, bool)] = &[
            ("NeverVerify", &[], "h/a:1", true, false),
            ("NeverVerifyPreloadedImages", &[], "h/a:1", false, false),
            ("NeverVerifyPreloadedImages", &[], "h/a:1", true, true),
            ("AlwaysVerify", &[], "h/a:1", false, true),
            ("NeverVerifyAllowlistedImages", &["h/a", "g/*"], "h/a@sha256:1", true, false),
            ("NeverVerifyAllowlistedImages", &["h/a", "g/*"], "g/x/y:1", true, false),
            ("NeverVerifyAllowlistedImages", &["h/a", "g/*"], "h/ab:1", false, true),
        ];
        for (policy, list, image, ours, expect) in table {
            let list: Vec<String> = list.iter().map(|it| (*it).to_owned()).collect();
            let policy = Policy::new(policy, &list).unwrap();
            assert_eq!(policy.asks_for_credentials(image, *ours), *expect, "{policy:?} {image}");
        }
        assert_eq!(Policy::new("x", &[]), Err(Error::Unknown("x".into())));
        assert_eq!(Policy::new("NeverVerify", &["a".into()]), Err(Error::UnusedList));
        for pattern in [" a", "", "a*", "/*", "a:1", "A"] {
            let made = Policy::new("NeverVerifyAllowlistedImages", &[pattern.into()]);
            assert!(matches!(made, Err(Error::Pattern(_))), "{pattern:?} {made:?}");
        }
    }
}
