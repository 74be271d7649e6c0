//! What resources the API server serves, for the controllers that must treat them all.

use client::{Client, Request, ResourceRef};
use serde::Deserialize;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A resource and what can be done to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    pub resource: ResourceRef,
    pub verbs: Vec<String>,
}

impl Served {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }
}

/// What discovery answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Discovery {
    /// Each resource once, in its group's preferred version.
    pub resources: Vec<Served>,
    /// Group versions whose server did not answer; their resources are not known now.
    pub failed: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct GroupList {
    items: Vec<Group>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Group {
    metadata: GroupMeta,
    versions: Vec<Version>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct GroupMeta {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Version {
    version: String,
    freshness: String,
    resources: Vec<Resource>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Resource {
    resource: String,
    singular_resource: String,
    response_kind: Kind,
    scope: String,
    verbs: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Kind {
    kind: String,
}

/// A resource at one of the versions in which it is served.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Named {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub singular: String,
    pub kind: String,
}

/// Every resource at every version.
pub async fn versions(client: &Client) -> client::Result<Vec<Named>> {
    let mut all = Vec::new();
    for group in ask(client).await? {
        for version in group.versions {
            all.extend(version.resources.into_iter().map(|resource| Named {
                group: group.metadata.name.clone(),
                version: version.version.clone(),
                plural: resource.resource,
                singular: resource.singular_resource,
                kind: resource.response_kind.kind,
            }));
        }
    }
    Ok(all)
}

/// Asks what is served.
pub async fn discover(client: &Client) -> client::Result<Discovery> {
    Ok(merge(ask(client).await?))
}

/// Asks for both documents, `/api` and `/apis`.
async fn ask(client: &Client) -> client::Result<impl Iterator<Item = Group> + use<>> {
    let (core, groups) = tokio::join!(
        client.call::<GroupList>(Request::get("/api").accept(AGGREGATED)),
        client.call::<GroupList>(Request::get("/apis").accept(AGGREGATED)),
    );
    let (core, groups) = (core?, groups?);
    Ok(core.items.into_iter().chain(groups.items))
}

fn merge(groups: impl Iterator<Item = Group>) -> Discovery {
    let mut discovery = Discovery::default();
    for group in groups {
        let mut seen: Vec<String> = Vec::new();
        for version in group.versions {
            if version.freshness == "Stale" {
                let name = &group.metadata.name;
                discovery.failed.push(if name.is_empty() {
                    version.version.clone()
                } else {
                    format!("{name}/{}", version.version)
                });
            }
            for resource in version.resources {
                if seen.contains(&resource.resource) {
                    continue;
                }
                seen.push(resource.resource.clone());
                discovery.resources.push(Served {
                    resource: ResourceRef {
                        group: group.metadata.name.clone().into(),
                        version: version.version.clone().into(),
                        plural: resource.resource.into(),
                        kind: resource.response_kind.kind.into(),
                        namespaced: resource.scope == "Namespaced",
                    },
                    verbs: resource.verbs,
                });
            }
        }
    }
    discovery
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn preferred_versions_and_stale_groups() {
        let document = json!({"items": [
            {"metadata": {"name": "apps"}, "versions": [
                {"version": "v1", "freshness": "Current", "resources": [
                    {"resource": "deployments", "responseKind": {"kind": "Deployment"}, "scope": "Namespaced", "verbs": ["list"]}]},
                {"version": "v1beta1", "freshness": "Current", "resources": [
                    {"resource": "deployments", "responseKind": {"kind": "Deployment"}, "scope": "Namespaced", "verbs": []},
                    {"resource": "old", "responseKind": {"kind": "Old"}, "scope": "Cluster", "verbs": []}]}]},
            {"metadata": {"name": "metrics.k8s.io"}, "versions": [{"version": "v1", "freshness": "Stale"}]},
        ]});
        let list: GroupList = serde_json::from_value(document).unwrap();
        let found = merge(list.items.into_iter());
        let names: Vec<_> = found
            .resources
            .iter()
            .map(|served| (&*served.resource.plural, &*served.resource.version))
            .collect();
        assert_eq!(names, [("deployments", "v1"), ("old", "v1beta1")]);
        assert_eq!(found.failed, ["metrics.k8s.io/v1"]);
        assert!(found.resources[0].can("list") && !found.resources[0].can("watch"));
    }
}
