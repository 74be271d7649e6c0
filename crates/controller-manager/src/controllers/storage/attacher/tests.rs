use std::sync::Arc;
use std::time::Duration;

use client::Text;
use controllers::views::{CsiSource, Pod};
use serde_json::json;

use super::plan::{Act, Attachment, Place, acts, blockers};
use super::since::Since;
use super::{attachment_name, source_of, unique_name};

#[test]
fn volumes_go_where_their_pods_are() {
    let attached = |is_attached: bool| Some(Attachment { is_attached, is_leaving: false });
    let leaving = Some(Attachment { is_attached: true, is_leaving: true });
    let used = Place { is_used: true, is_managed: true, ..Place::default() };
    let left = Place { is_managed: true, attachment: attached(true), ..Place::default() };
    let check = |place: Place, act: Act, listed: bool| {
        assert_eq!((place.act(false), place.belongs_in_list()), (act, listed), "{place:?}");
    };
    check(Place::default(), Act::Nothing, false);
    check(used.clone(), Act::Attach, false);
    check(Place { is_managed: false, ..used.clone() }, Act::Nothing, false);
    assert_eq!(used.act(true), Act::AwaitOthers);
    check(Place { attachment: attached(false), ..used.clone() }, Act::AwaitAttachment, false);
    check(Place { attachment: attached(true), ..used.clone() }, Act::Nothing, true);
    check(Place { attachment: leaving.clone(), ..used }, Act::Nothing, false);
    // First out of the list, then detached.
    check(Place { is_listed: true, is_in_use: true, ..left.clone() }, Act::AwaitRelease, true);
    check(Place { is_listed: true, ..left.clone() }, Act::Unlist, false);
    check(left.clone(), Act::Detach, false);
    check(Place { attachment: attached(false), ..left.clone() }, Act::Detach, false);
    check(Place { attachment: leaving, ..left.clone() }, Act::Nothing, false);
    check(Place { is_listed: true, is_in_use: true, is_lost: true, ..left.clone() }, Act::Unlist, false);
    check(Place { is_in_use: true, is_lost: true, ..left }, Act::Detach, false);
}

#[test]
fn a_volume_for_one_node_is_attached_once_in_a_pass() {
    let wanted = Place { is_used: true, is_managed: true, ..Place::default() };
    let attached =
        Place { attachment: Some(Attachment { is_attached: true, is_leaving: false }), ..wanted.clone() };
    let check = |places: &[&Place], shares: bool, expect: &[Act]| {
        assert_eq!(acts(places.iter().copied(), shares), expect, "{places:?}");
    };
    check(&[&wanted, &wanted], false, &[Act::Attach, Act::AwaitOthers]);
    check(&[&wanted, &attached], false, &[Act::AwaitOthers, Act::Nothing]);
    check(&[&wanted, &wanted], true, &[Act::Attach, Act::Attach]);
}

#[test]
fn what_is_remembered_goes_with_the_place() {
    let (mut since, node) = (Since::default(), "n".into());
    assert!(since.report("v", &node) && !since.report("v", &node));
    since.note("v", &node, true);
    while since.unwanted("v", "n").is_zero() {}
    since.keep("v", |of| *of == node);
    assert!(!since.report("v", &node));
    since.keep("v", |_| false);
    assert_eq!(since.unwanted("v", "n"), Duration::ZERO);
    assert!(since.report("v", &node), "the same again later is news");
}

#[test]
fn nothing_is_detached_while_its_nodes_list_is_written() {
    let (mut since, node): (_, Text) = (Since::default(), "n".into());
    since.listing.insert(node.clone());
    assert!(!since.begin_detaching("csi-x", &node) && since.detaching.is_empty());
    since.listing.remove(&node);
    assert!(since.begin_detaching("csi-x", &node) && since.detaching.contains("csi-x"));
}

#[test]
fn names_are_upstreams() {
    let source: CsiSource =
        serde_json::from_value(json!({"driver": "csi.example.com", "volumeHandle": "h"})).unwrap();
    assert_eq!(unique_name(&source), "kubernetes.io/csi/csi.example.com^h");
    assert_eq!(source_of(&unique_name(&source)), Some(source.clone()));
    let name = "csi-017c0bcfdd48da495c21f2547662bc280fd062dd052bc3d696ff0de5e46b95ac";
    assert_eq!(attachment_name(&source, "n"), name);
}

#[test]
fn pods_of_other_namespaces_are_counted_alone() {
    let pod = |namespace: &str, name: &str| -> Arc<Pod> {
        let pod = json!({"metadata": {"namespace": namespace, "name": name}});
        Arc::new(serde_json::from_value(pod).unwrap())
    };
    let (own, a, b, c) = (pod("x", "own"), pod("x", "a"), pod("x", "b"), pod("y", "c"));
    let check = |others: &[&Arc<Pod>], expect: &str| {
        let text = blockers(&own, others);
        assert_eq!(text.strip_prefix("Volume is already ").unwrap(), expect);
    };
    let exclusive =
        "exclusively attached to one node, waiting on detach before it can be attached to another node";
    check(&[], exclusive);
    check(&[&a, &b], "used by pod(s) a, b");
    check(&[&a, &c], "used by pod(s) a and 1 pod(s) in different namespaces");
    check(&[&c], "used by 1 pod(s) in different namespaces");
}
