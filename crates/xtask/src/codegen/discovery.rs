//! Resources, from the published discovery documents.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::fields::Model;

#[derive(Default)]
pub struct Discovery {
    pub groups: Vec<Group>,
    pub resources: Vec<Resource>,
}

pub struct Group {
    pub name: String,
    /// The preferred one first.
    pub versions: Vec<String>,
}

pub struct Resource {
    pub group: String,
    pub version: String,
    pub row: Row,
    pub storage: (String, String),
    pub prefix: String,
    pub storage_json: bool,
    pub enabled: bool,
    pub message: usize,
    pub subresources: Vec<Row>,
}

/// An `APIResource` of a legacy discovery document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub struct Row {
    pub name: String,
    pub singular_name: String,
    pub namespaced: bool,
    pub group: String,
    pub version: String,
    pub kind: String,
    pub verbs: Vec<String>,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub storage_version_hash: String,
}

impl Discovery {
    pub fn load(directory: &Path, model: &Model) -> Result<Self> {
        let mut discovery = Self::default();
        discovery.groups.push(Group { name: String::new(), versions: vec!["v1".to_owned()] });
        let aggregated = read(&directory.join("aggregated_v2.json"))?;
        for group in aggregated["items"].as_array().into_iter().flatten() {
            let name = group["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let versions = group["versions"].as_array().into_iter().flatten();
            let versions =
                versions.filter_map(|version| version["version"].as_str().map(str::to_owned)).collect();
            discovery.groups.push(Group { name, versions });
        }
        let gvs: Vec<(String, String)> = discovery
            .groups
            .iter()
            .flat_map(|group| group.versions.iter().map(|version| (group.name.clone(), version.clone())))
            .collect();
        for (group, version) in gvs {
            let file = match group.as_str() {
                "" => "api__v1.json".to_owned(),
                _ => format!("apis__{group}__{version}.json"),
            };
            discovery.take(&group, &version, read(&directory.join(file))?, model)?;
        }
        Ok(discovery)
    }

    fn take(&mut self, group: &str, version: &str, mut document: Value, model: &Model) -> Result<()> {
        let rows: Vec<Row> = serde_json::from_value(document["resources"].take())?;
        let (subresources, resources): (Vec<Row>, Vec<Row>) =
            rows.into_iter().partition(|row| row.name.contains('/'));
        for row in resources {
            let prefix = format!("{}/", row.name);
            let kind = model
                .kind(group, version, &row.kind)
                .ok_or_else(|| anyhow!("no type for {group}/{version} {}", row.kind))?;
            let stored = !row.storage_version_hash.is_empty();
            self.resources.push(Resource {
                group: group.to_owned(),
                version: version.to_owned(),
                storage: storage(group, version, &row, model),
                prefix: if stored { storage_prefix(group, &row.name) } else { String::new() },
                storage_json: matches!(group, "apiextensions.k8s.io" | "apiregistration.k8s.io"),
                enabled: !version.contains("alpha") && !version.contains("beta"),
                message: kind.message,
                row,
                subresources: Vec::new(),
            });
            let Some(resource) = self.resources.last_mut() else { continue };
            for sub in subresources.iter().filter(|sub| sub.name.starts_with(&prefix)) {
                let given = !sub.version.is_empty();
                resource.subresources.push(Row {
                    name: sub.name[prefix.len()..].to_owned(),
                    group: if given { sub.group.clone() } else { group.to_owned() },
                    version: if given { sub.version.clone() } else { version.to_owned() },
                    kind: sub.kind.clone(),
                    verbs: sub.verbs.clone(),
                    ..Row::default()
                });
            }
        }
        Ok(())
    }
}

/// The version whose hash discovery publishes: the first eight bytes of the SHA-256 of `group/version/kind`.
fn storage(group: &str, version: &str, row: &Row, model: &Model) -> (String, String) {
    let candidates = model.kinds.iter().filter(|kind| kind.kind == row.kind);
    for candidate in candidates {
        let text = format!("{}/{}/{}", candidate.group, candidate.version, candidate.kind);
        let hash = Sha256::digest(text.as_bytes());
        if base64::engine::general_purpose::STANDARD.encode(&hash[..8]) == row.storage_version_hash {
            return (candidate.group.clone(), candidate.version.clone());
        }
    }
    (group.to_owned(), version.to_owned())
}

/// Below `/registry`. Seen in etcd under an upstream API server; what is not named here lies under its plural.
fn storage_prefix(group: &str, plural: &str) -> String {
    match (group, plural) {
        ("", "nodes") => "minions",
        ("", "services") => "services/specs",
        ("", "endpoints") => "services/endpoints",
        ("", "replicationcontrollers") => "controllers",
        ("networking.k8s.io", "ingresses") => "ingress",
        ("apiextensions.k8s.io", _) => "apiextensions.k8s.io/customresourcedefinitions",
        ("apiregistration.k8s.io", _) => "apiregistration.k8s.io/apiservices",
        _ => plural,
    }
    .to_owned()
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}
