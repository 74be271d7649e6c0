use futures::FutureExt as _;

use super::*;
use crate::authz::Decision;

/// Rights by their text: `VERB GROUP RESOURCE NAMESPACE/NAME`, or `VERB PATH`.
struct Granted(&'static [&'static str]);

impl Rights for Granted {
    fn answer<'a>(&'a self, asked: &'a Attributes<'a>) -> BoxFuture<'a, Answer> {
        let Attributes { verb, group, namespace, name, path, .. } = asked;
        let text = match asked.is_resource {
            true => format!("{verb} {group} {} {namespace}/{name}", asked.full_resource()),
            false => format!("{verb} {path}"),
        };
        let decision = if self.0.contains(&text.as_str()) { Decision::Allow } else { Decision::NoOpinion };
        async move { Answer { decision, reason: String::new() } }.boxed()
    }
}

fn listing_pods() -> RequestInfo {
    RequestInfo::of(&http::Method::GET, &"/api/v1/namespaces/t/pods".parse().unwrap())
}

fn agent() -> User {
    let extra = [("authentication.kubernetes.io/node-name".to_owned(), vec!["n1".to_owned()])];
    User { extra: extra.into(), ..User::service_account("ops", "agent") }
}

/// Asks once, and answers who it may be, or what is missing.
fn asked(impersonation: &Impersonation, wanted: &User, granted: &'static [&'static str]) -> String {
    let (agent, info, granted) = (agent(), listing_pods(), Granted(granted));
    let answer = impersonation.allowed(&agent, &info, wanted, &granted);
    match answer.now_or_never().expect("nothing waits") {
        Ok((mode, user)) => format!("{} {}", mode.name(), user.groups.join(",")),
        Err(status) => {
            let at = status.message.find("cannot ").unwrap_or_default();
            status.message[at..].to_owned()
        }
    }
}

fn user(name: &str) -> User {
    User { name: name.to_owned(), ..User::default() }
}

#[test]
fn each_way_takes_two_rights() {
    let account = user("system:serviceaccount:a:b");
    let (node, other) = (user("system:node:n1"), user("system:node:n2"));
    let grouped = User { groups: vec!["dev".into()], ..user("ann") };
    let with_id =
        User { uid: "7".into(), extra: [("a.io/x".to_owned(), vec!["v".to_owned()])].into(), ..user("ann") };
    let cases: &[(&User, &'static [&'static str], &str)] = &[
        (
            &user("ann"),
            &[
                "impersonate-on:user-info:list  pods t/",
                "impersonate:user-info authentication.k8s.io users /ann",
            ],
            "user-info system:authenticated",
        ),
        (
            &user("ann"),
            &["impersonate-on:user-info:list  pods t/"],
            "cannot impersonate:user-info resource \"users\" in API group \"authentication.k8s.io\" at the cluster scope",
        ),
        (
            &user("ann"),
            &["impersonate:user-info authentication.k8s.io users /ann"],
            "cannot impersonate-on:user-info:list resource \"pods\" in API group \"\" in the namespace \"t\"",
        ),
        (&user("ann"), &["impersonate  users /ann"], "legacy system:authenticated"),
        (
            &grouped,
            &[
                "impersonate-on:user-info:list  pods t/",
                "impersonate:user-info authentication.k8s.io users /ann",
            ],
            "cannot impersonate:user-info resource \"groups\" in API group \"authentication.k8s.io\" at the cluster scope",
        ),
        (
            &with_id,
            &[
                "impersonate-on:user-info:list  pods t/",
                "impersonate:user-info authentication.k8s.io users /ann",
                "impersonate:user-info authentication.k8s.io uids /7",
                "impersonate:user-info authentication.k8s.io userextras/a.io/x /v",
            ],
            "user-info system:authenticated",
        ),
        (
            &account,
            &[
                "impersonate-on:serviceaccount:list  pods t/",
                "impersonate:serviceaccount authentication.k8s.io serviceaccounts a/b",
            ],
            "serviceaccount system:serviceaccounts,system:serviceaccounts:a,system:authenticated",
        ),
        (
            &account,
            &["impersonate  serviceaccounts a/b"],
            "legacy system:serviceaccounts,system:serviceaccounts:a,system:authenticated",
        ),
        (
            &node,
            &[
                "impersonate-on:associated-node:list  pods t/",
                "impersonate:associated-node authentication.k8s.io nodes /*",
            ],
            "associated-node system:nodes,system:authenticated",
        ),
        (
            &other,
            &[
                "impersonate-on:associated-node:list  pods t/",
                "impersonate:associated-node authentication.k8s.io nodes /*",
            ],
            "cannot impersonate-on:arbitrary-node:list resource \"pods\" in API group \"\" in the namespace \"t\"",
        ),
        (
            &other,
            &[
                "impersonate-on:arbitrary-node:list  pods t/",
                "impersonate:arbitrary-node authentication.k8s.io nodes /n2",
            ],
            "arbitrary-node system:nodes,system:authenticated",
        ),
        (&other, &["impersonate  users /system:node:n2"], "legacy system:authenticated"),
    ];
    for (wanted, granted, expect) in cases {
        assert_eq!(&asked(&Impersonation::new(true), wanted, granted), expect, "{wanted:?} by {granted:?}");
    }
    let refusal =
        asked(&Impersonation::new(false), &user("ann"), &["impersonate-on:user-info:list  pods t/"]);
    assert_eq!(refusal, "cannot impersonate resource \"users\" in API group \"\" at the cluster scope");
}

#[test]
fn some_users_are_nobodys_by_the_constrained_ways() {
    let everything: &[&str] = &[
        "impersonate-on:user-info:list  pods t/",
        "impersonate:user-info authentication.k8s.io users /ann",
        "impersonate:user-info authentication.k8s.io groups /*",
        "impersonate:user-info authentication.k8s.io groups /system:masters",
        "impersonate:user-info authentication.k8s.io userextras/* /*",
        "impersonate:user-info authentication.k8s.io userextras/scopes /v",
    ];
    let groups =
        |names: &[&str]| User { groups: names.iter().map(|name| name.to_string()).collect(), ..user("ann") };
    let extra = |key: &str, value: &str| User {
        extra: [(key.to_owned(), vec![value.to_owned()])].into(),
        ..user("ann")
    };
    for (wanted, expect) in [
        (groups(&["a", "b", "c", "d"]), "user-info a,b,c,d,system:authenticated"),
        (groups(&["system:masters"]), "impersonating the system:masters group is not allowed"),
        (groups(&["a", ""]), "impersonating the empty string group is not allowed"),
        (extra("scopes", "v"), "must be a domain-prefixed path (such as \"acme.io/foo\")"),
        (extra("a.io/X", "v"), "impersonating a non-lowercase key in extra is not allowed: \"a.io/X\""),
        (extra("a.io/x", ""), "impersonating the empty string value in extra is not allowed"),
    ] {
        let answer = asked(&Impersonation::new(true), &wanted, everything);
        assert!(answer.ends_with(expect), "{answer}");
    }
}

#[test]
fn the_way_that_was_allowed_before_is_tried_first() {
    let impersonation = Impersonation::new(true);
    let refused = |wanted| asked(&impersonation, &user(wanted), &[]);
    assert!(refused("ann").starts_with("cannot impersonate-on:user-info:list"));
    assert_eq!(
        asked(&impersonation, &user("ann"), &["impersonate  users /ann"]),
        "legacy system:authenticated"
    );
    assert!(refused("ann").starts_with("cannot impersonate resource \"users\""));
}
