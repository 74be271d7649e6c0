//! Who may reach what: every path that can be made of what discovery lists is asked for with every method, by a user without rights and
//! by one who has nothing but the right that the request takes. The first sees what a request is authorized as; the second
//! sees whether the path and the method are there, and whether another right is needed.
//!
//! What is expected is worked out from discovery's lists alone, by the rules that the Kubernetes API documents:
//! no list of paths is kept here. `AGAINST=127.0.0.1:6443 PKI=folder` asks another server, with `admin.crt` and `admin.key` of that
//! folder (of `system:masters`, by the `ca.crt` there); the rules were checked so against upstream's.

mod expect;
mod sender;

use std::collections::BTreeSet;

use futures::StreamExt as _;
use http::Method;

use crate::rig::Rig;
use expect::{Place, Shape, Subject};
use sender::Sender;

/// Methods that a client may send. A watch is a GET.
const METHODS: [Method; 7] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];

/// A group that has no rights, not even those of every authenticated user.
const NOBODY: &[&str] = &["system:unauthenticated"];

struct Case {
    subject: Subject,
    place: Place,
    method: Method,
    watch: bool,
}

/// Everything that can be asked about a subject.
fn cases(subject: &Subject) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |place: Place, method: &Method, watch: bool| {
        cases.push(Case { subject: subject.clone(), place, method: method.clone(), watch });
    };
    for namespaced in [false, true] {
        for shape in subject.shapes() {
            for method in &METHODS {
                add(Place { prefix: "", namespaced, shape }, method, false);
            }
            if shape == Shape::Collection {
                add(Place { prefix: "", namespaced, shape }, &Method::GET, true);
            }
            for method in [Method::GET, Method::POST] {
                add(Place { prefix: "watch/", namespaced, shape }, &method, false);
            }
            add(Place { prefix: "proxy/", namespaced, shape }, &Method::GET, false);
        }
    }
    cases
}

async fn check(sender: &Sender, case: &Case) -> Vec<String> {
    let path = case.place.path(&case.subject);
    let asked = case.place.request(&case.subject, &case.method, case.watch);
    let mut query = match case.method {
        // refused at once where it would be a watch without end
        Method::GET | Method::HEAD => "resourceVersion=none".to_owned(),
        _ => "dryRun=All".to_owned(),
    };
    if case.watch {
        query += "&watch=1";
    }
    let uri = format!("{path}?{query}");
    let mut wrong = Vec::new();
    let mut expect = |who: &str, expected: String, got: String| {
        if expected != got {
            wrong.push(format!("{} {uri} as {who}:\n  expected {expected}\n  got      {got}", case.method));
        }
    };
    let got = sender.send(&case.method, &uri, "nobody", NOBODY).await;
    let head = case.method == Method::HEAD;
    expect("nobody", asked.refusal("nobody", head), got.refused());
    let verb = if asked.verb.is_empty() { "*" } else { asked.verb.as_str() };
    let group = format!("only:{verb}");
    let got = sender.send(&case.method, &uri, "holder", &["system:unauthenticated", &group]).await;
    let outcome = case.place.outcome(&case.subject, &case.method, case.watch);
    // an answer without a body does not say what is absent
    if !head || outcome == "405" {
        expect(&format!("one who may {verb}"), outcome, got.outcome());
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_path_is_routed_and_authorized_as_documented() {
    let (rig, sender) = match std::env::var("AGAINST") {
        Ok(address) => {
            (None, Sender::of_files(&address, std::path::Path::new(&std::env::var("PKI").unwrap())))
        }
        Err(_) => {
            let rig = Rig::start().await;
            rig.ready().await;
            let sender = Sender::of_rig(&rig);
            (Some(rig), sender)
        }
    };
    let subjects = sender.discover().await;
    assert!(subjects.len() > 60, "{}", subjects.len());
    let cases: Vec<Case> = subjects.iter().flat_map(cases).collect();
    let verbs: BTreeSet<String> = cases
        .iter()
        .map(|case| case.place.request(&case.subject, &case.method, case.watch).verb)
        .filter(|verb| !verb.is_empty())
        .chain(["*".to_owned()])
        .collect();
    for verb in &verbs {
        sender.grant(verb).await;
    }
    let checks = futures::stream::iter(&cases).map(|case| check(&sender, case)).buffer_unordered(16);
    let mut wrong: Vec<String> = checks.collect::<Vec<_>>().await.concat();
    wrong.sort();
    if let Some(rig) = rig {
        rig.stop().await;
    }
    let shown = wrong.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {}\n{shown}", wrong.len(), 2 * cases.len());
}
