//! The default roles and bindings, as facts: `policy.json` says per role what it allows, here that becomes objects.

use api::Tree;
use api::json;
use api::tree::Object;
use serde::Deserialize;

use crate::authz::rules::Rule;

#[derive(Deserialize)]
struct File {
    roles: Vec<Role>,
    bindings: Vec<Binding>,
}

#[derive(Deserialize)]
struct Role {
    name: String,
    /// Empty: a ClusterRole.
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: Object,
    /// Label sets of the roles whose rules make up this one's.
    #[serde(default)]
    aggregate: Vec<Object>,
    rules: Vec<ShortRule>,
}

#[derive(Deserialize)]
struct Binding {
    name: String,
    #[serde(default)]
    namespace: String,
    /// `ClusterRole/name` or `Role/name`.
    role: String,
    /// `User/name`, `Group/name` or `ServiceAccount/namespace/name`.
    subjects: Vec<String>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct ShortRule {
    v: Vec<String>,
    g: Vec<String>,
    r: Vec<String>,
    n: Vec<String>,
    u: Vec<String>,
}

impl From<ShortRule> for Rule {
    fn from(short: ShortRule) -> Rule {
        Rule {
            verbs: short.v,
            api_groups: short.g,
            resources: short.r,
            resource_names: short.n,
            urls: short.u,
        }
    }
}

fn file() -> File {
    serde_json::from_str(include_str!("policy.json"))
        .expect("the file is part of the build and a test reads it")
}

/// The rules of a default ClusterRole.
pub fn role(name: &str) -> Vec<Rule> {
    let found = file().roles.into_iter().find(|role| role.namespace.is_empty() && role.name == name);
    found.map(|role| role.rules.into_iter().map(Rule::from).collect()).unwrap_or_default()
}

/// Plural, namespace, object.
pub type PolicyObject = (&'static str, String, Tree);

/// All default roles, then all default bindings.
pub fn objects() -> (Vec<PolicyObject>, Vec<PolicyObject>) {
    let File { roles, bindings } = file();
    let roles = roles.into_iter().map(Role::object).collect();
    let bindings = bindings.into_iter().map(Binding::object).collect();
    (roles, bindings)
}

fn metadata(name: &str, namespace: &str, mut labels: Object) -> Tree {
    labels.insert("kubernetes.io/bootstrapping", json!("rbac-defaults"));
    let mut metadata = json!({
        "name": name,
        "labels": labels,
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    });
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

impl Role {
    fn object(self) -> (&'static str, String, Tree) {
        let cluster = self.namespace.is_empty();
        let rules: Vec<Rule> = self.rules.into_iter().map(Rule::from).collect();
        let mut object = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": if cluster { "ClusterRole" } else { "Role" },
            "metadata": metadata(&self.name, &self.namespace, self.labels),
            "rules": rules,
        });
        if !self.aggregate.is_empty() {
            let selectors: Vec<Tree> =
                self.aggregate.into_iter().map(|labels| json!({"matchLabels": labels})).collect();
            object["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
            // The rules are the aggregation controller's, and not owned by who made the role.
            object["rules"] = Tree::Null;
        }
        (if cluster { "clusterroles" } else { "roles" }, self.namespace, object)
    }
}

impl Binding {
    fn object(self) -> (&'static str, String, Tree) {
        let cluster = self.namespace.is_empty();
        let (kind, role) = self.role.split_once('/').unwrap_or(("ClusterRole", &self.role));
        let subjects: Vec<Tree> = self.subjects.iter().map(|subject| subject_object(subject)).collect();
        let object = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": if cluster { "ClusterRoleBinding" } else { "RoleBinding" },
            "metadata": metadata(&self.name, &self.namespace, Object::new()),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": subjects,
        });
        (if cluster { "clusterrolebindings" } else { "rolebindings" }, self.namespace, object)
    }
}

fn subject_object(text: &str) -> Tree {
    let (kind, name) = text.split_once('/').unwrap_or(("User", text));
    if kind == "ServiceAccount" {
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        return json!({"kind": kind, "name": name, "namespace": namespace});
    }
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_the_whole_policy() {
        let (roles, bindings) = objects();
        assert_eq!((roles.len(), bindings.len()), (80, 61));
        assert!(role("system:node").iter().any(|rule| rule.resources.contains(&"nodes".to_owned())));
        let (_, _, admin) = roles.iter().find(|(_, _, role)| role["metadata"]["name"] == "admin").unwrap();
        assert_eq!(
            admin["aggregationRule"]["clusterRoleSelectors"][0]["matchLabels"]["rbac.authorization.k8s.io/aggregate-to-admin"],
            "true"
        );
    }
}
