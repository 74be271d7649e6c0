//! Brings the stored roles and bindings up to the default policy: what is missing is added; what someone added stays;
//! an object annotated `autoupdate: "false"` is left alone.

use access::authz::rbac::role_rules;
use access::authz::rules::{Rule, uncovered};
use access::policy;
use api::json;
use api::{Status, Tree};
use futures::StreamExt as _;

use super::{Bootstrap, PARALLEL};
use crate::kinds;

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

pub async fn reconcile(bootstrap: &Bootstrap) -> Result<(), Status> {
    // the aggregated rules of admin, edit and view are written by a controller
    let (roles, bindings) = policy::objects();
    bootstrap.namespaces_known().await;
    for objects in [roles, bindings] {
        let writes: Vec<_> = objects
            .into_iter()
            .map(|(plural, namespace, object)| one(bootstrap, plural, namespace, object))
            .collect();
        let mut writes = futures::stream::iter(writes).buffer_unordered(PARALLEL);
        let mut first_error = None;
        while let Some(result) = writes.next().await {
            if let Err(status) = result {
                first_error.get_or_insert(status);
            }
        }
        if let Some(status) = first_error {
            return Err(status);
        }
    }
    // Clients that see the server ready must have the rights of the default policy.
    bootstrap.resources.catch_up().await;
    bootstrap.policy.caught_up(&bootstrap.resources).await;
    Ok(())
}

async fn one(
    bootstrap: &Bootstrap,
    plural: &'static str,
    namespace: String,
    object: Tree,
) -> Result<(), Status> {
    let resource = match plural {
        "clusterroles" => kinds::cluster_roles(),
        "roles" => kinds::roles(),
        "clusterrolebindings" => kinds::cluster_role_bindings(),
        _ => kinds::role_bindings(),
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let Some(mut wanted) = bootstrap.resources.read(resource, &namespace, &name)? else {
        return bootstrap.ensure(resource, &namespace, object).await.map(drop);
    };
    if !merge(&mut wanted, &object) {
        return Ok(());
    }
    let change = move |stored: &mut Tree| Ok(merge(stored, &object));
    bootstrap.server.update(resource, "", &namespace, &name, &change).await.map(drop)
}

/// Adds to `stored` what `default` has and it lacks. Answers whether that changed anything.
fn merge(stored: &mut Tree, default: &Tree) -> bool {
    if stored["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return false;
    }
    let mut changed = false;
    for field in ["labels", "annotations"] {
        for (key, value) in default["metadata"][field].as_object().into_iter().flatten() {
            if stored["metadata"][field].get(key).is_none() {
                stored["metadata"][field][key] = value.clone();
                changed = true;
            }
        }
    }
    let aggregated = default["aggregationRule"].is_object();
    if aggregated && stored["aggregationRule"].is_null() {
        stored["aggregationRule"] = default["aggregationRule"].clone();
        changed = true;
    }
    if default["rules"].is_array() {
        let have = role_rules(stored);
        // a role that was made too large to compare stays as it is
        let missing = uncovered(&have, &role_rules(default)).unwrap_or_default();
        if !missing.is_empty() {
            let rules: Vec<Rule> = have.into_iter().chain(missing).collect();
            stored["rules"] = json!(rules);
            changed = true;
        }
    }
    let subjects: Vec<Tree> = default["subjects"].as_array().into_iter().flatten().cloned().collect();
    for subject in subjects {
        let same =
            |other: &Tree| ["kind", "name", "namespace"].iter().all(|field| other[*field] == subject[*field]);
        let list = stored["subjects"].as_array().cloned().unwrap_or_default();
        if !list.iter().any(same) {
            let mut list = list;
            list.push(subject);
            stored["subjects"] = json!(list);
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_added() {
        let (roles, _) = policy::objects();
        let default =
            &roles.iter().find(|(_, _, role)| role["metadata"]["name"] == "system:discovery").unwrap().2;
        let mut stored = default.clone();
        assert!(!merge(&mut stored, default));
        stored["rules"] = json!([]);
        stored["metadata"]["annotations"][AUTOUPDATE] = json!("false");
        assert!(!merge(&mut stored, default));
        stored["metadata"]["annotations"][AUTOUPDATE] = json!("true");
        assert!(merge(&mut stored, default));
    }
}
