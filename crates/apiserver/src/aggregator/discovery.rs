//! What an aggregated server says of its resources, read so that only the document's own fields are shown on.

use std::time::Duration;

use api::tree::Object;
use api::{Tree, json};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use registry::tree::{flag, get, list, text};

use super::fetch::{Fetch, Fetched};
use super::{Aggregator, Target};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const TIMEOUT: Duration = Duration::from_secs(5);
const LONGEST: usize = 4 << 20;
const USER: &str = "system:kube-aggregator";

/// What is known of one version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    etag: String,
    /// The version's resources; `None` before the server has answered.
    resources: Option<Vec<Tree>>,
    pub state: State,
}

/// Whether a server has answered the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    NotAsked,
    Current,
    Stale,
}

impl Known {
    /// The version as the aggregated document shows it, once the server was asked.
    pub fn entry(&self, version: &str) -> Option<Tree> {
        let freshness = match self.state {
            State::NotAsked => return None,
            State::Current => "Current",
            State::Stale => "Stale",
        };
        Some(match self.resources.as_deref() {
            None | Some([]) => json!({"version": version, "freshness": freshness}),
            Some(resources) => json!({"version": version, "resources": resources, "freshness": freshness}),
        })
    }
}

/// Asks for the aggregated document, and where there is none for that of the version.
pub async fn fetch(aggregator: &Aggregator, target: &Target, known: &Known) -> Result<Known, String> {
    let address = aggregator.address(target)?;
    let fetch = Fetch {
        path: "/apis",
        user: USER,
        master: true,
        accept: AGGREGATED,
        etag: &known.etag,
        longest: LONGEST,
        timeout: TIMEOUT,
    };
    let (group, version) = (target.service.group.as_str(), target.service.version.as_str());
    match aggregator.fetch(target, &address, &fetch).await? {
        answer if answer.status == StatusCode::NOT_MODIFIED => {
            Ok(Known { state: State::Current, ..known.clone() })
        }
        answer if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
            Err(format!("service {address} returned non-success response code: 503"))
        }
        answer if answer.status == StatusCode::OK && is_aggregated(&answer) => {
            let resources = daemon::aside::aside(true, || of_version(&answer.body, group, version))?;
            Ok(Known { etag: answer.etag(), resources: Some(resources), state: State::Current })
        }
        _ => {
            let path = target.service.path();
            let fetch = Fetch { path: &path, master: false, accept: "application/json", etag: "", ..fetch };
            let answer = aggregator.fetch(target, &address, &fetch).await?;
            if answer.status != StatusCode::OK {
                return Err(format!("failed to download legacy discovery for {path}: {}", answer.status));
            }
            let resources = daemon::aside::aside(true, || of_legacy(&answer.body))?;
            Ok(Known { etag: String::new(), resources: Some(resources), state: State::Current })
        }
    }
}

fn is_aggregated(answer: &Fetched) -> bool {
    let media = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = media.split(';').map(str::trim);
    let is_json = parts.next() == Some("application/json");
    let parts: Vec<&str> = parts.collect();
    is_json
        && ["g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"].iter().all(|own| parts.contains(own))
}

/// The resources of one version, of all that a server serves.
fn of_version(body: &[u8], group: &str, version: &str) -> Result<Vec<Tree>, String> {
    let message = api::tables::kind_message("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList");
    let message = message.ok_or("the model does not have the document")?;
    let decoded = api::decode::json(body, message, api::decode::Strictness::Ignore);
    let document = decoded.map_err(|error| error.to_string())?.tree;
    let groups = list(&document, "items").iter().filter(|own| text(own, "metadata.name") == group);
    let mut versions =
        groups.flat_map(|own| list(own, "versions")).filter(|own| text(own, "version") == version);
    let mut resources = versions.next().map(|own| list(own, "resources").to_vec()).unwrap_or_default();
    for resource in &mut resources {
        say_kind(resource);
        if let Some(subresources) = resource.get_mut("subresources").and_then(Tree::as_array_mut) {
            subresources.iter_mut().for_each(say_kind);
        }
    }
    Ok(resources)
}

/// Clients read the kind of every resource, also of one that has none.
fn say_kind(resource: &mut Tree) {
    if get(resource, "responseKind").is_null() {
        resource["responseKind"] = kind("", "", "");
    }
}

fn kind(group: &str, version: &str, kind: &str) -> Tree {
    json!({"group": group, "version": version, "kind": kind})
}

/// The same out of a version's own document.
fn of_legacy(body: &[u8]) -> Result<Vec<Tree>, String> {
    let document = api::decode::untyped(body)?;
    if text(&document, "kind") != "APIResourceList" {
        return Err("not an APIResourceList".to_owned());
    }
    let mut resources: Vec<Tree> = Vec::new();
    let (below, own): (Vec<_>, Vec<_>) =
        list(&document, "resources").iter().partition(|row| text(row, "name").contains('/'));
    let scope = |row: &Tree| if flag(row, "namespaced") { "Namespaced" } else { "Cluster" };
    let of = |row: &Tree| kind(text(row, "group"), text(row, "version"), text(row, "kind"));
    for row in own {
        let mut resource = Object::new();
        resource.insert("resource", json!(text(row, "name")));
        resource.insert("responseKind", of(row));
        resource.insert("scope", json!(scope(row)));
        resource.insert("singularResource", json!(text(row, "singularName")));
        for field in ["verbs", "shortNames", "categories"] {
            let values: Vec<&str> = list(row, field).iter().filter_map(Tree::as_str).collect();
            if field == "verbs" || !values.is_empty() {
                resource.insert(field, json!(values));
            }
        }
        resources.push(Tree::Object(resource));
    }
    for row in below {
        let (parent, name) = text(row, "name").split_once('/').unwrap_or_default();
        let place = match resources.iter().position(|own| text(own, "resource") == parent) {
            Some(place) => place,
            None => {
                resources.push(json!({"resource": parent, "responseKind": kind("", "", ""), "scope": scope(row), "singularResource": "", "verbs": null}));
                resources.len() - 1
            }
        };
        let resource = &mut resources[place];
        if text(resource, "scope") != scope(row) {
            let (parents, own) = (text(resource, "scope"), scope(row));
            return Err(format!(
                "Error: Parent {parent} (scope: {parents}) and subresource {name} (scope: {own}) scope do not match"
            ));
        }
        let verbs: Vec<&str> = list(row, "verbs").iter().filter_map(Tree::as_str).collect();
        let subresource = json!({"subresource": name, "responseKind": of(row), "verbs": verbs});
        match resource.get_mut("subresources").and_then(Tree::as_array_mut) {
            Some(all) => all.push(subresource),
            None => resource["subresources"] = json!([subresource]),
        }
    }
    Ok(resources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_of_many_is_read() {
        let document = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": [
            {"metadata": {"name": "other.io"}, "versions": [{"version": "v1", "resources": [{"resource": "no"}]}]},
            {"metadata": {"name": "a.io"}, "versions": [
                {"version": "v2"},
                {"version": "v1", "freshness": "Current", "resources": [
                    {"resource": "things", "scope": "Namespaced", "singularResource": "thing", "verbs": ["get"], "junk": 1,
                     "subresources": [{"subresource": "status", "verbs": ["get"]}]},
                ]},
            ]},
        ]});
        let of = |group: &str, version: &str| of_version(document.to_string().as_bytes(), group, version);
        let none = kind("", "", "");
        let expect = json!([{"resource": "things", "responseKind": none, "scope": "Namespaced", "singularResource": "thing",
            "verbs": ["get"], "subresources": [{"subresource": "status", "responseKind": none, "verbs": ["get"]}]}]);
        assert_eq!(json!(of("a.io", "v1").unwrap()), expect);
        assert_eq!(of("a.io", "v2").unwrap(), Vec::<Tree>::new());
        assert_eq!(of("nobody.io", "v1").unwrap(), Vec::<Tree>::new());
        assert!(of_version(b"{\"items\": 7}", "a.io", "v1").is_err());
        let known = |state| Known { etag: String::new(), resources: None, state };
        assert_eq!(known(State::Stale).entry("v1"), Some(json!({"version": "v1", "freshness": "Stale"})));
        assert_eq!(known(State::NotAsked).entry("v1"), None);
    }

    #[test]
    fn an_older_document_says_the_same() {
        let document = |rows: Tree| {
            of_legacy(
                json!({"kind": "APIResourceList", "groupVersion": "a.io/v1", "resources": rows})
                    .to_string()
                    .as_bytes(),
            )
        };
        let rows = json!([
            {"name": "things/status", "namespaced": true, "kind": "Thing", "verbs": ["get"]},
            {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get", "list"], "shortNames": ["th"]},
            {"name": "orphans/scale", "namespaced": false, "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get"]},
        ]);
        let expect = json!([
            {"resource": "things", "responseKind": kind("", "", "Thing"), "scope": "Namespaced", "singularResource": "thing", "verbs": ["get", "list"],
             "shortNames": ["th"], "subresources": [{"subresource": "status", "responseKind": kind("", "", "Thing"), "verbs": ["get"]}]},
            {"resource": "orphans", "responseKind": kind("", "", ""), "scope": "Cluster", "singularResource": "", "verbs": null,
             "subresources": [{"subresource": "scale", "responseKind": kind("autoscaling", "v1", "Scale"), "verbs": ["get"]}]},
        ]);
        assert_eq!(json!(document(rows).unwrap()), expect);
        let mixed = json!([{"name": "a", "namespaced": true}, {"name": "a/b", "namespaced": false}]);
        assert!(document(mixed).unwrap_err().contains("scope do not match"));
        assert!(of_legacy(b"[]").is_err());
    }
}
