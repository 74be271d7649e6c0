//! Privileged containers where a cluster does not allow them (`--allow-privileged=false`).

use api::Tree;
use api::model::Resource;
use api::status::Cause;

/// Path of the pod spec in objects of a kind.
fn place(resource: &Resource) -> Option<&'static str> {
    Some(match (resource.group.as_ref(), resource.plural.as_ref()) {
        ("", "pods") => "spec",
        ("", "podtemplates") => "template.spec",
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "daemonsets" | "statefulsets")
        | ("batch", "jobs") => "spec.template.spec",
        ("batch", "cronjobs") => "spec.jobTemplate.spec.template.spec",
        _ => return None,
    })
}

/// Errors of an object in a cluster that does not allow privileged containers.
pub fn causes(resource: &Resource, object: &Tree) -> Vec<Cause> {
    let Some(place) = place(resource) else { return Vec::new() };
    let spec = crate::tree::get(object, place);
    let mut causes = Vec::new();
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for (number, container) in crate::tree::list(spec, list).iter().enumerate() {
            if crate::tree::get(container, "securityContext.privileged") == &Tree::Bool(true) {
                causes.push(Cause {
                    reason: "FieldValueForbidden".into(),
                    message: "Forbidden: disallowed by cluster policy".into(),
                    field: format!("{place}.{list}[{number}].securityContext.privileged"),
                });
            }
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn every_privileged_container_is_named() {
        let check = |group: &str, plural: &str, object: Tree, expected: &[&str]| {
            let resource = api::tables::resource(group, "v1", plural).unwrap();
            let found: Vec<String> = causes(resource, &object).into_iter().map(|cause| cause.field).collect();
            assert_eq!(found, expected);
        };
        let spec = json!({
            "containers": [{"name": "a"}, {"name": "b", "securityContext": {"privileged": true}}],
            "initContainers": [{"name": "c", "securityContext": {"privileged": false}}],
        });
        check("", "pods", json!({"spec": spec}), &["spec.containers[1].securityContext.privileged"]);
        let job = json!({"spec": {"template": {"spec": spec}}});
        check("batch", "jobs", job.clone(), &["spec.template.spec.containers[1].securityContext.privileged"]);
        let field = "spec.jobTemplate.spec.template.spec.containers[1].securityContext.privileged";
        check("batch", "cronjobs", json!({"spec": {"jobTemplate": job}}), &[field]);
        check("", "configmaps", json!({"data": {}}), &[]);
    }
}
