//! Nobody grants what they do not hold: checked at every write of a role or a binding.

use std::sync::Arc;

use access::authz::rbac::{RoleReference, role_rules};
use access::authz::rules::{Rule, uncovered};
use access::authz::{Attributes, Authorizer};
use access::user::{MASTERS, User};
use api::model::Resource;
use api::{Status, Tree};
use async_trait::async_trait;
use registry::meta::only_collection;

use crate::delegate::{Hook, Reservation};
use crate::writes::Write;

const GROUP: &str = "rbac.authorization.k8s.io";

pub struct Escalation {
    pub authorizer: Arc<Authorizer>,
}

#[async_trait]
impl Hook for Escalation {
    async fn begin(
        &self,
        write: &Write<'_>,
        object: &mut Tree,
    ) -> Result<Option<Box<dyn Reservation>>, Status> {
        if write.resource.group != GROUP
            || !write.subresource.is_empty()
            || write.request.user.in_group(MASTERS)
            || !self.authorizer.uses_rbac()
        {
            return Ok(None);
        }
        match &*write.resource.plural {
            "roles" | "clusterroles" => self.role(write, object).await?,
            "rolebindings" | "clusterrolebindings" => self.binding(write, object).await?,
            _ => {}
        }
        Ok(None)
    }
}

impl Escalation {
    async fn role(&self, write: &Write<'_>, object: &Tree) -> Result<(), Status> {
        // the right to escalate is checked for the name in the path: a POST to a collection has none
        if self
            .may(&write.request.user, "escalate", write.resource, write.namespace, &write.request.info.name)
            .await
        {
            return Ok(());
        }
        if write.old.is_some_and(|old| only_collection(object, old)) {
            return Ok(());
        }
        let name = name_of(write, object);
        self.hold(write, &name, role_rules(object))?;
        let aggregates = |role: &Tree| {
            role["aggregationRule"]["clusterRoleSelectors"].as_array().is_some_and(|all| !all.is_empty())
        };
        if !aggregates(object) && !write.old.is_some_and(aggregates) {
            return Ok(());
        }
        // an aggregated role may gather any rule later, so the user must have them all
        let list = |value: &str| vec![value.to_owned()];
        let everything = [
            Rule { verbs: list("*"), api_groups: list("*"), resources: list("*"), ..Rule::default() },
            Rule { verbs: list("*"), urls: list("*"), ..Rule::default() },
        ];
        let (owned, _) = self.authorizer.rbac.rules_for(&write.request.user, write.namespace);
        if uncovered(&owned, &everything).is_ok_and(|missing| missing.is_empty()) {
            return Ok(());
        }
        let why = "must have cluster-admin privileges to use the aggregationRule";
        Err(Status::forbidden(GROUP, &write.resource.plural, &name, why))
    }

    async fn binding(&self, write: &Write<'_>, object: &Tree) -> Result<(), Status> {
        if write.old.is_some_and(|old| only_collection(object, old)) {
            return Ok(());
        }
        let reference = &object["roleRef"];
        let role_name = reference["name"].as_str().unwrap_or_default();
        let (plural, namespace) = match reference["kind"].as_str().unwrap_or_default() {
            "Role" if write.namespace.is_empty() => {
                return Err(Status::bad_request("Namespace parameter required."));
            }
            "Role" => ("roles", write.namespace),
            "ClusterRole" => ("clusterroles", ""),
            kind => {
                return Err(Status::failure(500, "", format!("unsupported role reference kind: {kind:?}")));
            }
        };
        let group = reference["apiGroup"].as_str().unwrap_or_default();
        let bind =
            Attributes::resource(&write.request.user, "bind", group, plural, write.namespace, role_name);
        if self.authorizer.authorize(&bind).await.allowed() {
            return Ok(());
        }
        let role = RoleReference { namespace: namespace.to_owned(), name: role_name.to_owned() };
        let missing = |_| Status::not_found(GROUP, &write.resource.plural, role_name);
        let rules = self.authorizer.rbac.role(&role).map_err(missing)?;
        self.hold(write, &name_of(write, object), rules)
    }

    async fn may(&self, user: &User, verb: &str, resource: &Resource, namespace: &str, name: &str) -> bool {
        let attributes = Attributes::resource(user, verb, GROUP, &resource.plural, namespace, name);
        self.authorizer.authorize(&attributes).await.allowed()
    }

    /// Refuses when the user lacks any of `wanted` where it would be granted.
    fn hold(&self, write: &Write<'_>, name: &str, wanted: Vec<Rule>) -> Result<(), Status> {
        let (owned, errors) = self.authorizer.rbac.rules_for(&write.request.user, write.namespace);
        let missing = uncovered(&owned, &wanted)
            .map_err(|error| Status::request_entity_too_large(&error.to_string()))?;
        if missing.is_empty() {
            return Ok(());
        }
        let mut texts: Vec<String> = missing.iter().map(ToString::to_string).collect();
        texts.sort();
        let groups: Vec<String> =
            write.request.user.groups.iter().map(|group| format!("{group:?}")).collect();
        let mut why = format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            write.request.user.name,
            groups.join(" "),
            texts.join("\n")
        );
        if !errors.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", errors.join(", ")));
        }
        Err(Status::forbidden(GROUP, &write.resource.plural, name, &why))
    }
}

fn name_of(write: &Write<'_>, object: &Tree) -> String {
    match write.name {
        "" => object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        name => name.to_owned(),
    }
}
