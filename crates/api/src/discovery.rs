//! Discovery documents from resource rows: the legacy ones (`APIVersions`, `APIGroup`, `APIGroupList`,
//! `APIResourceList`) and the aggregated one (`apidiscovery.k8s.io/v2`).
//!
//! The functions take groups, so that the API server can put custom resources beside the built-in ones.

use crate::json;

use crate::model::{GroupVersionKind, Resource, Scope};
use crate::{Tree, tables};

/// An API group as it is served, its preferred version first.
#[derive(Clone, Debug, Default)]
pub struct Group<'a> {
    /// `""` for the core group.
    pub name: &'a str,
    pub versions: Vec<Version<'a>>,
}

#[derive(Clone, Debug, Default)]
pub struct Version<'a> {
    pub version: &'a str,
    pub resources: Vec<&'a Resource>,
}

impl Group<'_> {
    fn group_version(&self, version: &str) -> String {
        if self.name.is_empty() { version.to_owned() } else { format!("{}/{version}", self.name) }
    }
}

/// The built-in groups that are served by default, the core group first.
pub fn built_in() -> Vec<Group<'static>> {
    select(|resource| resource.enabled)
}

/// The built-in groups with the resources that `served` takes; a group or version without any is left out.
pub fn select(served: impl Fn(&Resource) -> bool) -> Vec<Group<'static>> {
    let mut groups = Vec::new();
    for group in tables::groups() {
        let versions = group.versions.iter().map(|version| Version {
            version,
            resources: tables::all_resources()
                .iter()
                .filter(|resource| {
                    resource.group == group.name && resource.version == *version && served(resource)
                })
                .collect(),
        });
        let versions: Vec<_> = versions.filter(|version| !version.resources.is_empty()).collect();
        if !versions.is_empty() {
            groups.push(Group { name: &group.name, versions });
        }
    }
    groups
}

/// `/api`.
pub fn api_versions(server_address: &str) -> Tree {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

/// `/apis`. The core group does not belong into it.
pub fn api_group_list(groups: &[Group<'_>]) -> Tree {
    let groups: Vec<Tree> = groups.iter().filter(|group| !group.name.is_empty()).map(group_entry).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub fn api_group(group: &Group<'_>) -> Tree {
    let mut tree = json!({"kind": "APIGroup", "apiVersion": "v1"});
    if let (Tree::Object(tree), Tree::Object(entry)) = (&mut tree, group_entry(group)) {
        tree.extend(entry);
    }
    tree
}

fn group_entry(group: &Group<'_>) -> Tree {
    let version = |version: &Version<'_>| json!({"groupVersion": group.group_version(version.version), "version": version.version});
    let versions: Vec<Tree> = group.versions.iter().map(version).collect();
    let preferred = versions.first().cloned().unwrap_or_default();
    json!({"name": group.name, "versions": versions, "preferredVersion": preferred})
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
pub fn api_resource_list(group: &str, version: &str, resources: &[&Resource]) -> Tree {
    let group_version = Group { name: group, versions: Vec::new() }.group_version(version);
    let mut rows = Vec::new();
    for resource in resources {
        let namespaced = resource.scope == Scope::Namespaced;
        let mut row = json!({
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": namespaced,
            "kind": resource.kind,
            "verbs": resource.verbs,
        });
        if !resource.short_names.is_empty() {
            row["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            row["categories"] = json!(resource.categories);
        }
        if !resource.storage_hash.is_empty() {
            row["storageVersionHash"] = json!(resource.storage_hash);
        }
        rows.push(row);
        for subresource in resource.subresources.iter() {
            let GroupVersionKind { group, version, kind } = &subresource.gvk;
            let name = format!("{}/{}", resource.plural, subresource.name);
            let foreign = (group, version) != (&resource.group, &resource.version);
            rows.push(if foreign {
                json!({"name": name, "singularName": "", "namespaced": namespaced, "group": group, "version": version, "kind": kind, "verbs": subresource.verbs})
            } else {
                json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": subresource.verbs})
            });
        }
    }
    // the core group's document has never said its version
    if group.is_empty() {
        return json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": rows});
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": rows})
}

/// The aggregated document: of the core group for `/api`, of the others for `/apis`. `other` has the entries of versions that are
/// answered elsewhere.
pub fn aggregated(groups: &[Group<'_>], other: impl Fn(&str, &str) -> Option<Tree>) -> Tree {
    let items: Vec<Tree> = groups
        .iter()
        .map(|group| {
            let metadata = if group.name.is_empty() { json!({}) } else { json!({"name": group.name}) };
            let versions: Vec<Tree> = group
                .versions
                .iter()
                .map(|version| {
                    let resources = || -> Vec<Tree> {
                        version.resources.iter().map(|resource| aggregated_resource(resource)).collect()
                    };
                    let own = || json!({"version": version.version, "resources": resources(), "freshness": "Current"});
                    other(group.name, version.version).unwrap_or_else(own)
                })
                .collect();
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_resource(resource: &Resource) -> Tree {
    // built-in kinds of the document's own group and version say so by leaving both empty
    let custom = tables::resource(&resource.group, &resource.version, &resource.plural).is_none();
    let kind_of = |group: &str, version: &str, kind: &str| {
        if !custom && (group, version) == (&*resource.group, &*resource.version) {
            json!({"group": "", "version": "", "kind": kind})
        } else {
            json!({"group": group, "version": version, "kind": kind})
        }
    };
    let mut row = json!({
        "resource": resource.plural,
        "responseKind": kind_of(&resource.group, &resource.version, &resource.kind),
        "scope": if resource.scope == Scope::Namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        row["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        row["categories"] = json!(resource.categories);
    }
    if !resource.subresources.is_empty() {
        let subresources = resource.subresources.iter().map(|subresource| {
            let GroupVersionKind { group, version, kind } = &subresource.gvk;
            json!({"subresource": subresource.name, "responseKind": kind_of(group, version, kind), "verbs": subresource.verbs})
        });
        row["subresources"] = subresources.collect();
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_upstreams_shape() {
        let groups = built_in();
        let apps = groups.iter().find(|group| group.name == "apps").unwrap();
        assert_eq!(
            api_group(apps).to_string(),
            r#"{"kind":"APIGroup","apiVersion":"v1","name":"apps","versions":[{"groupVersion":"apps/v1","version":"v1"}],"preferredVersion":{"groupVersion":"apps/v1","version":"v1"}}"#
        );
        let list = api_resource_list("apps", "v1", &apps.versions[0].resources);
        assert_eq!(
            list["resources"][4].to_string(),
            r#"{"name":"deployments/scale","singularName":"","namespaced":true,"group":"autoscaling","version":"v1","kind":"Scale","verbs":["get","patch","update"]}"#
        );
        assert_eq!(api_group_list(&groups)["groups"][0]["name"], "apiregistration.k8s.io");
        let document = aggregated(&groups, |_, _| None);
        assert_eq!(document["items"][0]["metadata"].to_string(), "{}");
        assert_eq!(
            document["items"][2]["versions"][0]["resources"][0]["responseKind"].to_string(),
            r#"{"group":"","version":"","kind":"ControllerRevision"}"#
        );
    }
}
