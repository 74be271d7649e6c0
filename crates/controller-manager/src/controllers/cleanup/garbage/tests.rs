use std::collections::HashMap;
use std::sync::Arc;

use client::{Propagation, ResourceRef};

use super::graph::{Answer, Graph, Seen, Todo, Verdict, Verified, named};
use super::is_event;
use controllers::views::OwnerReference as Owner;

fn resource() -> Arc<ResourceRef> {
    Arc::new(ResourceRef {
        group: "apps".into(),
        version: "v1".into(),
        plural: "things".into(),
        kind: "Thing".into(),
        namespaced: true,
    })
}

fn owner(name: &str, blocks: bool) -> Owner {
    Owner {
        api_version: "apps/v1".into(),
        kind: "Thing".into(),
        name: name.into(),
        uid: name.into(),
        controller: None,
        block_owner_deletion: Some(blocks),
    }
}

#[derive(Default, Clone, Copy)]
struct Flags {
    deleting: bool,
    foreground: bool,
    orphan: bool,
}

fn see(graph: &mut Graph, name: &str, owners: &[Owner], flags: Flags) -> Vec<String> {
    let seen = Seen {
        resource: resource(),
        name,
        namespace: "d",
        uid: &name.into(),
        version: "1",
        owners,
        deleting: flags.deleting,
        foreground: flags.foreground,
        orphan: flags.orphan,
    };
    names(graph.insert(seen))
}

fn names(todo: Vec<Todo>) -> Vec<String> {
    let mut names: Vec<_> = todo.into_iter().map(|Todo(uid)| uid.to_string()).collect();
    names.sort();
    names
}

/// The consequence when the API server gives this answer about an owner that was never seen.
fn verified(graph: &mut Graph, uid: &str, answer: Answer) -> Verified {
    let identity = graph.identity(uid).unwrap().clone();
    graph.verified(&identity, answer)
}

/// Objects to judge again, because an owner that was never seen is absent.
fn absent(graph: &mut Graph, uid: &str) -> Vec<String> {
    match verified(graph, uid, Answer::Absent) {
        Verified::Judge(todo) => names(todo),
        other => panic!("{other:?}"),
    }
}

fn verdict(graph: &Graph, uid: &str) -> Option<Verdict> {
    graph.judge(uid, &HashMap::new()).unwrap().map(|(_, verdict)| verdict)
}

const PLAIN: Flags = Flags { deleting: false, foreground: false, orphan: false };
const FOREGROUND: Flags = Flags { deleting: true, foreground: true, orphan: false };

fn delete(propagation: Propagation) -> Option<Verdict> {
    Some(Verdict::Delete { propagation, unblock: None })
}

#[test]
fn background() {
    let mut graph = Graph::default();
    see(&mut graph, "a", &[], PLAIN);
    assert!(see(&mut graph, "b", &[owner("a", true)], PLAIN).is_empty());
    assert_eq!(verdict(&graph, "b"), Some(Verdict::Keep));
    assert_eq!(names(graph.remove("a")), ["b"]);
    assert_eq!(verdict(&graph, "b"), delete(Propagation::Background));
    // Another object that names the one that is gone.
    assert_eq!(see(&mut graph, "c", &[owner("a", true)], PLAIN), ["c"]);
    assert_eq!(verdict(&graph, "c"), delete(Propagation::Background));
}

#[test]
fn owners_that_were_gone_are_asked_for_when_the_store_was_put_back() {
    let mut graph = Graph::default();
    see(&mut graph, "a", &[], PLAIN);
    see(&mut graph, "b", &[owner("a", true)], PLAIN);
    graph.remove("a");
    assert_eq!(verdict(&graph, "b"), delete(Propagation::Background));
    graph.remove("b");
    graph.forget_absent();
    // The cache of the dependents is put back first.
    assert_eq!(see(&mut graph, "b", &[owner("a", true)], PLAIN), ["a"]);
    assert_eq!(verdict(&graph, "a"), Some(Verdict::Verify));
    assert_eq!(graph.judge("b", &HashMap::new()).unwrap_err()[0].0.name, "a");
}

#[test]
fn one_of_two_owners_goes() {
    let mut graph = Graph::default();
    see(&mut graph, "a", &[], PLAIN);
    see(&mut graph, "b", &[], PLAIN);
    see(&mut graph, "c", &[owner("a", true), owner("b", true)], PLAIN);
    assert_eq!(names(graph.remove("a")), ["c"]);
    assert_eq!(verdict(&graph, "c"), Some(Verdict::Disown(vec![owner("b", true)])));
}

#[test]
fn an_owner_nobody_saw_is_asked_for() {
    let mut graph = Graph::default();
    assert_eq!(see(&mut graph, "c", &[owner("x", false)], PLAIN), ["x"]);
    assert_eq!(verdict(&graph, "x"), Some(Verdict::Verify));
    assert_eq!(graph.judge("c", &HashMap::new()).unwrap_err()[0].0.name, "x");
    assert_eq!(absent(&mut graph, "x"), ["c"]);
    assert_eq!(verdict(&graph, "c"), delete(Propagation::Background));
    let mut graph = Graph::default();
    see(&mut graph, "c", &[owner("x", false)], PLAIN);
    see(&mut graph, "x", &[], PLAIN);
    assert_eq!(verdict(&graph, "c"), Some(Verdict::Keep));
    assert_eq!(verified(&mut graph, "x", Answer::Absent), Verified::Settled);
}

/// A reference that misnames an owner must not cost the owner's other dependents their lives.
#[test]
fn a_wrong_name_is_nobody() {
    let mut graph = Graph::default();
    see(&mut graph, "a", &[], PLAIN);
    see(&mut graph, "b", &[owner("a", true)], PLAIN);
    let wrong = Owner { name: "z".into(), ..owner("a", true) };
    assert_eq!(see(&mut graph, "c", std::slice::from_ref(&wrong), PLAIN), ["c"]);
    let asked = graph.judge("c", &HashMap::new()).unwrap_err();
    assert_eq!(asked, [(wrong.clone(), "d".into())]);
    graph.note_absent(&wrong, "d");
    assert_eq!(verdict(&graph, "c"), delete(Propagation::Background));
    assert_eq!(verdict(&graph, "b"), Some(Verdict::Keep));
    // The same when the owner is seen last.
    let mut graph = Graph::default();
    see(&mut graph, "c", std::slice::from_ref(&wrong), PLAIN);
    see(&mut graph, "b", &[owner("a", true)], PLAIN);
    graph.note_absent(&wrong, "d");
    assert_eq!(see(&mut graph, "a", &[], PLAIN), ["b", "c"]);
    assert_eq!(verdict(&graph, "b"), Some(Verdict::Keep));
    assert_eq!(verdict(&graph, "c"), delete(Propagation::Background));
}

#[test]
fn foreground() {
    let mut graph = Graph::default();
    see(&mut graph, "a", &[], PLAIN);
    see(&mut graph, "b", &[owner("a", true)], PLAIN);
    see(&mut graph, "c", &[owner("a", false)], PLAIN);
    assert_eq!(see(&mut graph, "a", &[], FOREGROUND), ["a", "b", "c"]);
    assert_eq!(verdict(&graph, "a"), Some(Verdict::DeleteDependents(vec!["b".into()])));
    assert_eq!(verdict(&graph, "b"), delete(Propagation::Background));
    assert_eq!(names(graph.remove("b")), ["a"]);
    assert_eq!(verdict(&graph, "a"), Some(Verdict::Release));
}

#[test]
fn foreground_goes_down() {
    let mut graph = Graph::default();
    see(&mut graph, "a", &[], PLAIN);
    see(&mut graph, "b", &[owner("a", true)], PLAIN);
    see(&mut graph, "c", &[owner("b", true)], PLAIN);
    see(&mut graph, "a", &[], FOREGROUND);
    assert_eq!(verdict(&graph, "b"), delete(Propagation::Foreground));
}

#[test]
fn a_circle_is_opened() {
    let mut graph = Graph::default();
    see(&mut graph, "a", &[owner("b", true)], PLAIN);
    see(&mut graph, "b", &[owner("a", true)], PLAIN);
    see(&mut graph, "a", &[owner("b", true)], FOREGROUND);
    let unblock = Some(vec![owner("a", false)]);
    assert_eq!(verdict(&graph, "b"), Some(Verdict::Delete { propagation: Propagation::Foreground, unblock }));
    assert_eq!(see(&mut graph, "b", &[owner("a", false)], PLAIN), ["a", "b"]);
    assert_eq!(verdict(&graph, "a"), Some(Verdict::Release));
}

#[test]
fn orphans_are_freed() {
    let mut graph = Graph::default();
    see(&mut graph, "a", &[], PLAIN);
    see(&mut graph, "b", &[owner("a", true), owner("x", false)], PLAIN);
    let todo = see(&mut graph, "a", &[], Flags { deleting: true, orphan: true, foreground: false });
    assert_eq!(todo, ["a"]);
    let Some(Verdict::Orphan(freed)) = verdict(&graph, "a") else { panic!() };
    assert_eq!(freed[0].1, [owner("x", false)]);
}

#[test]
fn a_reference_into_another_namespace_is_checked() {
    let mut graph = Graph::default();
    let uid = "a".into();
    let mut seen = Seen {
        resource: resource(),
        name: "a",
        namespace: "elsewhere",
        uid: &uid,
        version: "1",
        owners: &[],
        deleting: false,
        foreground: false,
        orphan: false,
    };
    seen.namespace = "elsewhere";
    graph.insert(seen);
    assert_eq!(see(&mut graph, "b", &[owner("a", true)], PLAIN), ["b"]);
    assert!(graph.judge("b", &HashMap::new()).is_err());
    assert!(graph.lives_elsewhere(&owner("a", true), "d"));
    assert!(!graph.lives_elsewhere(&owner("a", true), "elsewhere"));
    assert!(!graph.lives_elsewhere(&Owner { name: "z".into(), ..owner("a", true) }, "d"), "that is nobody");
    let answers = HashMap::from([(named(&owner("a", true), "d"), false)]);
    let found = graph.judge("b", &answers).unwrap().unwrap().1;
    assert_eq!(Some(found), delete(Propagation::Background));
}

/// An object of the whole cluster cannot refer to a namespaced owner: it is never collected for it.
#[test]
fn a_cluster_scoped_dependent_outlives_a_namespaced_owner() {
    let mut graph = Graph::default();
    see(&mut graph, "a", &[], PLAIN);
    let owners = [owner("a", true)];
    graph.insert(Seen {
        resource: resource(),
        name: "c",
        namespace: "",
        uid: &"c".into(),
        version: "1",
        owners: &owners,
        deleting: false,
        foreground: false,
        orphan: false,
    });
    assert_eq!(names(graph.remove("a")), ["c"]);
    assert!(graph.judge("c", &HashMap::new()).is_err(), "it is to be asked for, and then kept");
}

/// It may be made and deleted while its watch is interrupted, so that no event ever says that it is gone.
#[test]
fn an_owner_nobody_saw_is_asked_for_until_it_is_seen() {
    let mut graph = Graph::default();
    see(&mut graph, "c", &[owner("x", false)], PLAIN);
    assert_eq!(verified(&mut graph, "x", Answer::Alive), Verified::AskAgain);
    assert!(see(&mut graph, "d", &[owner("x", false)], PLAIN).is_empty());
    assert_eq!(absent(&mut graph, "x"), ["c", "d"]);
    let mut graph = Graph::default();
    see(&mut graph, "c", &[owner("x", false)], PLAIN);
    see(&mut graph, "x", &[], PLAIN);
    assert_eq!(verified(&mut graph, "x", Answer::Alive), Verified::Settled);
    // No answer will ever be another one.
    see(&mut graph, "c", &[owner("y", false)], PLAIN);
    assert_eq!(verified(&mut graph, "y", Answer::Unreachable), Verified::Settled);
}

/// A definition that is deleted, or whose preferred version is another one: its objects may go unseen.
#[test]
fn owners_of_a_kind_that_is_not_watched_any_more_are_asked_for() {
    let mut graph = Graph::default();
    see(&mut graph, "a", &[], PLAIN);
    see(&mut graph, "b", &[owner("a", true)], PLAIN);
    assert_eq!(names(graph.forget(&resource())), ["a"]);
    assert!(graph.identity("b").is_none(), "nothing is kept of what nobody refers to");

    let mut graph = Graph::default();
    let other = Arc::new(ResourceRef { plural: "others".into(), ..(*resource()).clone() });
    see(&mut graph, "a", &[], FOREGROUND);
    let owners = [owner("a", true)];
    graph.insert(Seen {
        resource: other,
        name: "b",
        namespace: "d",
        uid: &"b".into(),
        version: "1",
        owners: &owners,
        deleting: false,
        foreground: false,
        orphan: false,
    });
    assert_eq!(names(graph.forget(&resource())), ["a"]);
    assert_eq!(verdict(&graph, "a"), Some(Verdict::Verify));
    assert!(graph.judge("b", &HashMap::new()).is_err(), "it is not believed to be there");
    assert_eq!(absent(&mut graph, "a"), ["b"]);
    assert_eq!(verdict(&graph, "b"), delete(Propagation::Background));
}

/// Who named it first had the wrong place for it; the others are still its dependents when it appears.
#[test]
fn dependents_outlive_an_owner_that_another_one_misnamed() {
    let mut graph = Graph::default();
    let wrong = Owner { name: "z".into(), ..owner("a", true) };
    see(&mut graph, "c", std::slice::from_ref(&wrong), PLAIN);
    see(&mut graph, "b", &[owner("a", true)], PLAIN);
    assert_eq!(absent(&mut graph, "a"), ["a", "c"], "asked for by the other name");
    assert_eq!(verdict(&graph, "c"), delete(Propagation::Background));
    see(&mut graph, "a", &[], PLAIN);
    assert_eq!(verdict(&graph, "b"), Some(Verdict::Keep));
    assert_eq!(names(graph.remove("a")), ["b"]);
    assert_eq!(verdict(&graph, "b"), delete(Propagation::Background));
}

#[test]
fn an_owner_known_from_references_only_goes_with_its_last_dependent() {
    let mut graph = Graph::default();
    see(&mut graph, "a", &[owner("x", false)], PLAIN);
    see(&mut graph, "b", &[owner("x", false)], PLAIN);
    see(&mut graph, "a", &[], PLAIN);
    assert!(graph.identity("x").is_some());
    see(&mut graph, "b", &[owner("y", false)], PLAIN);
    assert!(graph.identity("x").is_none() && graph.identity("y").is_some());
}

#[test]
fn a_change_of_no_consequence_brings_the_version() {
    let mut graph = Graph::default();
    see(&mut graph, "a", &[owner("x", false)], PLAIN);
    let resource = resource();
    let owners = [owner("x", false)];
    let uid = "a".into();
    let newer = |version| Seen {
        resource: resource.clone(),
        name: "a",
        namespace: "d",
        uid: &uid,
        version,
        owners: &owners,
        deleting: false,
        foreground: false,
        orphan: false,
    };
    assert!(names(graph.insert(newer("2"))).is_empty());
    assert_eq!(*graph.identity("a").unwrap().version, *"2");
}

#[test]
fn events_are_not_collected_and_other_things_of_that_name_are() {
    let of = |group: &'static str| ResourceRef {
        group: group.into(),
        plural: "events".into(),
        ..(*resource()).clone()
    };
    assert!(is_event(&of("")) && is_event(&of("events.k8s.io")));
    assert!(!is_event(&of("example.com")) && !is_event(&resource()));
}
