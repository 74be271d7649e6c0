use api::json;

use super::*;

fn policy() -> Policy {
    let policy = Policy::default();
    {
        let mut state = policy.state.write();
        state.put(
            "clusterroles",
            "",
            "reader",
            &json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
        );
        state.put(
            "rolebindings",
            "a",
            "read",
            &json!({"roleRef": {"kind": "ClusterRole", "name": "reader"}, "subjects": [
                {"kind": "User", "name": "bob"}, {"kind": "ServiceAccount", "name": "robot", "namespace": "b"}]}),
        );
        state.put(
            "clusterrolebindings",
            "",
            "broken",
            &json!({"roleRef": {"kind": "ClusterRole", "name": "none"}, "subjects": [{"kind": "Group", "name": "staff"}]}),
        );
    }
    policy
}

fn user(name: &str, groups: &[&str]) -> User {
    User {
        name: name.into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        ..User::default()
    }
}

#[test]
fn grants_reach_subjects_in_their_scope() {
    let policy = policy();
    let ask = |user: &User, namespace: &str| {
        policy.authorize(&Attributes::resource(user, "get", "", "pods", namespace, ""))
    };
    let bob = user("bob", &[]);
    assert_eq!(
        ask(&bob, "a").reason,
        "RBAC: allowed by RoleBinding \"read/a\" of ClusterRole \"reader\" to User \"bob\""
    );
    assert!(!ask(&bob, "b").allowed() && !ask(&bob, "").allowed());
    let robot = user("system:serviceaccount:b:robot", &[]);
    assert_eq!(
        ask(&robot, "a").reason,
        "RBAC: allowed by RoleBinding \"read/a\" of ClusterRole \"reader\" to ServiceAccount \"robot/b\""
    );
    let staff = user("eve", &["staff"]);
    assert_eq!(ask(&staff, "a").reason, "RBAC: clusterrole.rbac.authorization.k8s.io \"none\" not found");
}

#[test]
fn a_binding_taken_away_grants_no_more() {
    let policy = policy();
    let bob = user("bob", &[]);
    policy.state.write().remove("rolebindings", "a", "read");
    assert!(!policy.authorize(&Attributes::resource(&bob, "get", "", "pods", "a", "")).allowed());
    assert!(policy.rules_for(&bob, "a").0.is_empty());
}
