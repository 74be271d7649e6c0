//! Rights that show only in what a write changes: who reports a pod's certificate must be allowed to sign for its signer, who
//! says where a claim's devices are must be allowed to bind claims or speak for their driver, and devices are shared with an
//! administrator in namespaces alone that say so.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use access::authn::split_username;
use access::authz::{Attributes, Authorizer};
use access::refusal;
use access::user::User;
use api::status::Cause;
use api::{Status, Tree};
use async_trait::async_trait;
use registry::tree::{Alike, flag, get, list, same, text};
use watchcache::resources::Resources;

use crate::delegate::{Hook, Reservation};
use crate::kinds;
use crate::writes::Write;

const CERTIFICATES: &str = "certificates.k8s.io";
const DEVICES: &str = "resource.k8s.io";
/// The label of namespaces in which devices may be shared with an administrator.
const ADMIN_ACCESS: &str = "resource.kubernetes.io/admin-access";

pub struct Changes {
    pub authorizer: Arc<Authorizer>,
    pub resources: Arc<Resources>,
}

#[async_trait]
impl Hook for Changes {
    async fn begin(
        &self,
        write: &Write<'_>,
        object: &mut Tree,
    ) -> Result<Option<Box<dyn Reservation>>, Status> {
        let causes = match (&*write.resource.group, &*write.resource.plural, write.subresource, write.old) {
            (CERTIFICATES, "podcertificaterequests", "status", Some(old)) => {
                self.signs(write, object, old).await
            }
            (DEVICES, "resourceclaims", "status", Some(old)) => self.reports(write, object, old).await,
            (DEVICES, "resourceclaims", "", None) => self.asks(write, object, "spec.devices.requests"),
            (DEVICES, "resourceclaimtemplates", "", None) => {
                self.asks(write, object, "spec.spec.devices.requests")
            }
            _ => return Ok(None),
        };
        match causes.is_empty() {
            true => Ok(None),
            false => {
                let name = text(object, "metadata.name");
                Err(Status::invalid(&write.resource.group, &write.resource.kind, name, causes))
            }
        }
    }
}

fn forbidden(field: &str, why: &str) -> Cause {
    let message = format!("Forbidden: {why}");
    Cause { reason: "FieldValueForbidden".to_owned(), message, field: field.to_owned() }
}

impl Changes {
    /// Whoever changes the status of a pod's certificate request signs it.
    async fn signs(&self, write: &Write<'_>, request: &Tree, old: &Tree) -> Vec<Cause> {
        if same(get(request, "status"), get(old, "status")) {
            return Vec::new();
        }
        let signer = text(old, "spec.signerName");
        let domain = signer.split('/').next().unwrap_or_default();
        let all = format!("{domain}/*");
        for name in [signer, &all] {
            let sign = Attributes::resource(&write.request.user, "sign", CERTIFICATES, "signers", "", name);
            if self.authorizer.authorize(&sign).await.allowed() {
                return Vec::new();
            }
        }
        let user = &write.request.user.name;
        let why = format!("User {user:?} is not permitted to \"sign\" for signer {signer:?}");
        vec![forbidden("spec.signerName", &why)]
    }

    /// A claim's status has parts of the scheduler and parts of the drivers.
    async fn reports(&self, write: &Write<'_>, claim: &Tree, old: &Tree) -> Vec<Cause> {
        let (status, before) = (get(claim, "status"), get(old, "status"));
        let mut causes = Vec::new();
        let shared = |status: &Tree| {
            list(status, "allocation.devices.results").iter().position(|result| flag(result, "adminAccess"))
        };
        if let (None, Some(index)) = (shared(before), shared(status)) {
            let field = format!("status.allocation.devices.results[{index}].adminAccess");
            causes.extend(self.admin_access(write.namespace, &field));
        }
        let changed = |field: &str| !same(get(status, field), get(before, field));
        if changed("allocation") || changed("reservedFor") {
            let bind = Attributes {
                subresource: "binding",
                ..Attributes::resource(
                    &write.request.user,
                    &write.request.info.verb,
                    DEVICES,
                    "resourceclaims",
                    "",
                    "",
                )
            };
            if let Some(refusal) = self.refusal(&bind).await {
                let verb = &write.request.info.verb;
                causes.push(forbidden(
                    "status.allocation",
                    &format!("changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb={verb:?} permission: {refusal}"),
                ));
            }
        }
        if !get(status, "allocation").is_null() {
            self.drivers(write, status, before, &mut causes).await;
        }
        causes
    }

    /// What is said of a device, its driver says; one that runs on the devices' node may do so with a lesser right.
    async fn drivers(&self, write: &Write<'_>, status: &Tree, before: &Tree, causes: &mut Vec<Cause>) {
        let drivers = changed_drivers(status, before);
        let mut verbs = vec![format!("arbitrary-node:{}", write.request.info.verb)];
        if is_of_node(&write.request.user, allocated_node(get(status, "allocation"))) {
            verbs.insert(0, format!("associated-node:{}", write.request.info.verb));
        }
        for driver in drivers {
            let mut refusals = Vec::new();
            for verb in &verbs {
                let user = &write.request.user;
                let asked = Attributes {
                    subresource: "driver",
                    ..Attributes::resource(user, verb, DEVICES, "resourceclaims", write.namespace, driver)
                };
                match self.refusal(&asked).await {
                    Some(refusal) => refusals.push(refusal),
                    None => break,
                }
            }
            if refusals.len() == verbs.len() {
                let (verbs, refusal) = (verbs.join(" "), &refusals[0]);
                causes.push(forbidden(
                    "status.devices",
                    &format!("changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{verbs}]\" permission: {refusal}"),
                ));
            }
        }
    }

    /// A new claim may ask for devices that others have.
    fn asks(&self, write: &Write<'_>, claim: &Tree, requests: &str) -> Vec<Cause> {
        let shared = list(claim, requests).iter().position(|request| flag(request, "exactly.adminAccess"));
        let field = shared.map(|index| format!("spec.devices.requests[{index}].adminAccess"));
        field.and_then(|field| self.admin_access(write.namespace, &field)).into_iter().collect()
    }

    fn admin_access(&self, namespace: &str, field: &str) -> Option<Cause> {
        // one that cannot be read has no label that allows it
        let namespace = self.resources.read(kinds::namespaces(), "", namespace).ok().flatten();
        let label =
            namespace.as_ref().and_then(|found| get(found, "metadata.labels").get(ADMIN_ACCESS)?.as_str());
        let why = format!(
            "admin access to devices requires the `{ADMIN_ACCESS}: true` label on the containing namespace"
        );
        (label != Some("true")).then(|| forbidden(field, &why))
    }

    /// Why something is not allowed; `None` where it is.
    async fn refusal(&self, asked: &Attributes<'_>) -> Option<String> {
        let answer = self.authorizer.authorize(asked).await;
        (!answer.allowed()).then(|| refusal::denied(asked, &answer.reason).message)
    }
}

/// The drivers of devices whose reports came, went or changed.
fn changed_drivers<'t>(status: &'t Tree, before: &'t Tree) -> BTreeSet<&'t str> {
    let identity =
        |device: &'t Tree| ["driver", "pool", "device", "shareID"].map(|field| text(device, field));
    let mut old: HashMap<[&str; 4], Alike<'t>> =
        list(before, "devices").iter().map(|device| (identity(device), Alike(device))).collect();
    let changed = list(status, "devices").iter().map(|device| (identity(device), Alike(device)));
    let mut drivers: BTreeSet<&str> = changed
        .filter_map(|(identity, device)| (old.remove(&identity) != Some(device)).then_some(identity[0]))
        .collect();
    drivers.extend(old.keys().map(|identity| identity[0]));
    drivers
}

/// The one node that has the allocated devices; empty where they are not of one node.
fn allocated_node(allocation: &Tree) -> &str {
    let [term] = list(allocation, "nodeSelector.nodeSelectorTerms") else { return "" };
    let [field] = list(term, "matchFields") else { return "" };
    let [node] = list(field, "values") else { return "" };
    let by_name = (text(field, "key"), text(field, "operator")) == ("metadata.name", "In");
    match by_name && list(term, "matchExpressions").is_empty() {
        true => node.as_str().unwrap_or_default(),
        false => "",
    }
}

/// Whether a service account's token is of a pod on this node.
fn is_of_node(user: &User, node: &str) -> bool {
    let own = user.extra.get("authentication.kubernetes.io/node-name").map(Vec::as_slice);
    !node.is_empty() && split_username(&user.name).is_some() && matches!(own, Some([own]) if own == node)
}

#[cfg(test)]
mod tests {
    use api::json;

    use super::*;

    #[test]
    fn drivers_answer_for_their_devices() {
        let device = |driver: &str, name: &str, ready: bool| json!({"driver": driver, "pool": "p", "device": name, "conditions": [{"ready": ready}]});
        let before = json!({"devices": [device("kept", "a", true), device("changed", "a", true), device("gone", "a", true)]});
        let after = json!({"devices": [device("new", "a", true), device("changed", "a", false), device("kept", "a", true)]});
        assert_eq!(
            changed_drivers(&after, &before).into_iter().collect::<Vec<_>>(),
            ["changed", "gone", "new"]
        );
        assert!(changed_drivers(&before, &before).is_empty());
    }

    #[test]
    fn only_accounts_of_the_one_node_are_of_it() {
        let term = |values: Tree| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": values}]});
        let allocation = |terms: Tree| json!({"nodeSelector": {"nodeSelectorTerms": terms}});
        let own = allocation(json!([term(json!(["n"]))]));
        assert_eq!(allocated_node(&own), "n");
        for terms in
            [json!([]), json!([term(json!(["n", "m"]))]), json!([term(json!(["n"])), term(json!(["n"]))])]
        {
            assert_eq!(allocated_node(&allocation(terms)), "");
        }
        let user = |name: &str, nodes: &[&str]| User {
            name: name.to_owned(),
            extra: [(
                "authentication.kubernetes.io/node-name".to_owned(),
                nodes.iter().map(|n| (*n).to_owned()).collect(),
            )]
            .into(),
            ..User::default()
        };
        assert!(is_of_node(&user("system:serviceaccount:a:b", &["n"]), "n"));
        for (name, nodes, node) in [
            ("system:serviceaccount:a:b", &["m"][..], "n"),
            ("system:serviceaccount:a:b", &["n", "m"], "n"),
            ("system:serviceaccount:a:b", &[""], ""),
            ("someone", &["n"], "n"),
        ] {
            assert!(!is_of_node(&user(name, nodes), node));
        }
    }
}
