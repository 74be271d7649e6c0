//! Parsed roles and bindings, and the index of bindings by subject.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use api::Tree;

use super::super::rules::Rule;
use crate::user::User;

/// Namespace (empty: cluster) and name.
type Key = (String, String);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoleReference {
    /// Empty: a ClusterRole.
    pub namespace: String,
    pub name: String,
}

#[derive(Debug)]
pub struct Binding {
    namespace: String,
    name: String,
    role: RoleReference,
    subjects: Vec<String>,
}

#[derive(Default)]
pub struct State {
    cluster_roles: HashMap<String, Arc<[Rule]>>,
    roles: HashMap<Key, Arc<[Rule]>>,
    bindings: HashMap<Key, Arc<Binding>>,
    /// Namespace, then subject.
    by_subject: HashMap<String, HashMap<String, Vec<Arc<Binding>>>>,
}

/// A binding and the subject through which it reaches a user.
pub struct Grant<'a> {
    binding: &'a Binding,
    subject: String,
}

impl Grant<'_> {
    pub fn role(&self) -> &RoleReference {
        &self.binding.role
    }
}

impl fmt::Display for Grant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Binding { namespace, name, role, .. } = self.binding;
        match namespace.as_str() {
            "" => write!(f, "ClusterRoleBinding {name:?}")?,
            namespace => write!(f, "RoleBinding {:?}", format!("{name}/{namespace}"))?,
        }
        let kind = if role.namespace.is_empty() { "ClusterRole" } else { "Role" };
        write!(f, " of {kind} {:?} to ", role.name)?;
        let (kind, rest) = self.subject.split_once('/').unwrap_or(("", &self.subject));
        match (kind, rest.split_once('/')) {
            ("ServiceAccount", Some((namespace, name))) => {
                write!(f, "{kind} {:?}", format!("{name}/{namespace}"))
            }
            _ => write!(f, "{kind} {rest:?}"),
        }
    }
}

/// The rules of a Role or ClusterRole object.
pub fn role_rules(object: &Tree) -> Vec<Rule> {
    object["rules"].parse().unwrap_or_default()
}

pub fn missing(role: &RoleReference) -> String {
    let plural = if role.namespace.is_empty() { "clusterrole" } else { "role" };
    format!("{plural}.rbac.authorization.k8s.io {:?} not found", role.name)
}

impl State {
    /// Takes all of one resource from a state that has nothing else.
    pub fn replace(&mut self, plural: &str, only: State) {
        match plural {
            "clusterroles" => self.cluster_roles = only.cluster_roles,
            "roles" => self.roles = only.roles,
            plural => {
                let cluster = plural == "clusterrolebindings";
                self.bindings.retain(|(namespace, _), _| namespace.is_empty() != cluster);
                self.bindings.extend(only.bindings);
                self.by_subject.retain(|namespace, _| namespace.is_empty() != cluster);
                self.by_subject.extend(only.by_subject);
            }
        }
    }

    pub fn put(&mut self, plural: &str, namespace: &str, name: &str, object: &Tree) {
        match plural {
            "clusterroles" => drop(self.cluster_roles.insert(name.into(), role_rules(object).into())),
            "roles" => {
                self.roles.insert((namespace.into(), name.into()), role_rules(object).into());
            }
            _ => {
                self.remove(plural, namespace, name);
                let binding = Arc::new(Binding::of(namespace, name, object));
                let subjects = self.by_subject.entry(namespace.into()).or_default();
                for subject in &binding.subjects {
                    subjects.entry(subject.clone()).or_default().push(binding.clone());
                }
                self.bindings.insert((namespace.into(), name.into()), binding);
            }
        }
    }

    pub fn remove(&mut self, plural: &str, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        match plural {
            "clusterroles" => drop(self.cluster_roles.remove(name)),
            "roles" => drop(self.roles.remove(&key)),
            _ => {
                let Some(old) = self.bindings.remove(&key) else { return };
                let Some(subjects) = self.by_subject.get_mut(namespace) else { return };
                for subject in &old.subjects {
                    if let Some(bindings) = subjects.get_mut(subject) {
                        bindings.retain(|binding| !Arc::ptr_eq(binding, &old));
                        if bindings.is_empty() {
                            subjects.remove(subject);
                        }
                    }
                }
                if subjects.is_empty() {
                    self.by_subject.remove(namespace);
                }
            }
        }
    }

    pub fn rules(&self, role: &RoleReference) -> Option<&[Rule]> {
        match role.namespace.as_str() {
            "" => self.cluster_roles.get(&role.name).map(AsRef::as_ref),
            _ => self.roles.get(&(role.namespace.clone(), role.name.clone())).map(AsRef::as_ref),
        }
    }

    /// Bindings that reach the user: the cluster's, then the namespace's.
    pub fn grants(&self, user: &User, namespace: &str) -> Vec<Grant<'_>> {
        let mut subjects = vec![format!("User/{}", user.name)];
        if let Some((home, account)) =
            user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
        {
            subjects.push(format!("ServiceAccount/{home}/{account}"));
        }
        subjects.extend(user.groups.iter().map(|group| format!("Group/{group}")));
        let scopes = if namespace.is_empty() { vec![""] } else { vec!["", namespace] };
        let mut grants = Vec::new();
        for index in scopes.into_iter().filter_map(|scope| self.by_subject.get(scope)) {
            for subject in &subjects {
                for binding in index.get(subject).into_iter().flatten() {
                    grants.push(Grant { binding, subject: subject.clone() });
                }
            }
        }
        grants
    }
}

impl Binding {
    fn of(namespace: &str, name: &str, object: &Tree) -> Binding {
        let text = |value: &Tree| value.as_str().unwrap_or_default().to_owned();
        let subject = |subject: &Tree| {
            let kind = text(&subject["kind"]);
            let home = match text(&subject["namespace"]) {
                home if kind == "ServiceAccount" && home.is_empty() => namespace.to_owned(),
                home => home,
            };
            let name = text(&subject["name"]);
            if kind == "ServiceAccount" { format!("{kind}/{home}/{name}") } else { format!("{kind}/{name}") }
        };
        let reference = &object["roleRef"];
        let role = RoleReference {
            namespace: if reference["kind"] == "Role" { namespace.to_owned() } else { String::new() },
            name: text(&reference["name"]),
        };
        Binding {
            namespace: namespace.into(),
            name: name.into(),
            role,
            subjects: object["subjects"].as_array().into_iter().flatten().map(subject).collect(),
        }
    }
}
