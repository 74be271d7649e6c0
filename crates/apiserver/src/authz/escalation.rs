//! Nobody grants what they do not hold: checked at every write of a role or a binding.

use std::sync::Arc;

use api::model::Resource;
use api::{Status, Tree};
use async_trait::async_trait;

use super::rbac::{RoleReference, role_rules};
use super::rules::{Rule, uncovered};
use super::{Attributes, Authorizer};
use crate::delegate::{Hook, Reservation, Write};
use crate::user::{MASTERS, User};

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
            || write.user.in_group(MASTERS)
            || !self.authorizer.uses_rbac()
            || object["metadata"]["deletionTimestamp"].is_string()
        {
            return Ok(None);
        }
        match &*write.resource.plural {
            "roles" | "clusterroles" => self.role(write, object)?,
            "rolebindings" | "clusterrolebindings" => self.binding(write, object)?,
            _ => {}
        }
        Ok(None)
    }
}

impl Escalation {
    fn role(&self, write: &Write<'_>, object: &Tree) -> Result<(), Status> {
        let name = name_of(write, object);
        let same = |field: &str| write.old.is_some_and(|old| old[field] == object[field]);
        if same("rules") && same("aggregationRule") {
            return Ok(());
        }
        if self.may(write.user, "escalate", write.resource, write.namespace, &name) {
            return Ok(());
        }
        if object["aggregationRule"].is_object() && !same("aggregationRule") {
            let list = |value: &str| vec![value.to_owned()];
            let everything = [
                Rule { verbs: list("*"), api_groups: list("*"), resources: list("*"), ..Rule::default() },
                Rule { verbs: list("*"), urls: list("*"), ..Rule::default() },
            ];
            let (held, _) = self.authorizer.rbac.rules_for(write.user, "");
            if !uncovered(&held, &everything).is_empty() {
                let why = "must have cluster-admin privileges to use the aggregationRule";
                return Err(Status::forbidden(GROUP, &write.resource.plural, &name, why));
            }
        }
        if same("rules") {
            return Ok(());
        }
        self.hold(write, &name, role_rules(object))
    }

    fn binding(&self, write: &Write<'_>, object: &Tree) -> Result<(), Status> {
        let name = name_of(write, object);
        let same = |field: &str| write.old.is_some_and(|old| old[field] == object[field]);
        if same("roleRef") && same("subjects") {
            return Ok(());
        }
        let reference = &object["roleRef"];
        let role_name = reference["name"].as_str().unwrap_or_default();
        let of_namespace = reference["kind"] == "Role";
        let plural = if of_namespace { "roles" } else { "clusterroles" };
        let namespace = if of_namespace { write.namespace } else { "" };
        let scope = write.namespace;
        if self
            .authorizer
            .authorize(&Attributes::resource(write.user, "bind", GROUP, plural, scope, role_name))
            .allowed()
        {
            return Ok(());
        }
        let role = RoleReference { namespace: namespace.to_owned(), name: role_name.to_owned() };
        let rules =
            self.authorizer.rbac.role(&role).map_err(|_| Status::not_found(GROUP, plural, role_name))?;
        self.hold(write, &name, rules)
    }

    fn may(&self, user: &User, verb: &str, resource: &Resource, namespace: &str, name: &str) -> bool {
        let attributes = Attributes::resource(user, verb, GROUP, &resource.plural, namespace, name);
        self.authorizer.authorize(&attributes).allowed()
    }

    /// Refuses when the user does not hold all of `wanted` where it would be granted.
    fn hold(&self, write: &Write<'_>, name: &str, wanted: Vec<Rule>) -> Result<(), Status> {
        let (held, errors) = self.authorizer.rbac.rules_for(write.user, write.namespace);
        let missing = uncovered(&held, &wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let mut texts: Vec<String> = missing.iter().map(ToString::to_string).collect();
        texts.sort();
        let groups: Vec<String> = write.user.groups.iter().map(|group| format!("{group:?}")).collect();
        let mut why = format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            write.user.name,
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
