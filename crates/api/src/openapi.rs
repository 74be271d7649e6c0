//! OpenAPI documents, v2 and v3, of the kinds that are served.
//!
//! Shapes, list and merge semantics and defaults come from the tables; descriptions come from `k8s-openapi`'s
//! schemas, the words for operations and parameters are our own. Documents are made when asked for and not kept:
//! a client keeps them by the hash in the index.
//!
//! Absent on purpose: watch paths under `/watch/` (deprecated upstream).

mod descriptions;
mod enums;
mod kinds;
mod paths;
pub mod protobuf;
mod roots;
mod schema;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::json;
use crate::tree::Object;

use crate::discovery::Group;
use crate::model::Resource;
use crate::{Tree, tables};

pub use roots::{root, root_paths};
pub use schema::{Dialect, schema};

/// Schemas of kinds that are not built in, by their names.
pub type Schemas = BTreeMap<String, Tree>;

/// `/openapi/v3/GROUP-VERSION` of some resources of one group and version.
pub fn v3(group: &str, version: &str, resources: &[&Resource], own: Schemas) -> Tree {
    let mut names = Names::new(Dialect::V3, own);
    let mut paths = paths::of(group, version, resources, &mut names);
    paths.sort_keys();
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": {
            "schemas": names.schemas(),
            "securitySchemes": {"BearerToken": security()},
        },
    })
}

/// `/openapi/v2`: everything in one document.
pub fn v2(groups: &[Group<'_>], own: Schemas) -> Tree {
    let mut names = Names::new(Dialect::V2, own);
    let mut paths = Object::new();
    for group in groups {
        for version in &group.versions {
            paths.extend(paths::of(group.name, version.version, &version.resources, &mut names));
        }
    }
    paths.sort_keys();
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths,
        "definitions": names.schemas(),
        "securityDefinitions": {"BearerToken": security()},
        "security": [{"BearerToken": []}],
    })
}

/// `/openapi/v3`: where each document lies, with a hash that changes when the document does.
/// `entries` are the paths (`api/v1`, `apis/apps/v1`) and the hashes.
pub fn v3_index<'a>(entries: impl IntoIterator<Item = (&'a str, String)>) -> Tree {
    let paths: BTreeMap<&str, Tree> = entries
        .into_iter()
        .map(|(path, hash)| (path, json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")})))
        .collect();
    json!({"paths": paths})
}

/// Hash of a document. Of built-in kinds our version, the tables' size, the group version and the resources' names identify it; of
/// others what they publish, too.
pub fn hash(group: &str, version: &str, resources: &[&Resource], published: &[&[u8]]) -> String {
    let mut hasher = DefaultHasher::new();
    published.hash(&mut hasher);
    (env!("CARGO_PKG_VERSION"), tables::messages().len(), group, version).hash(&mut hasher);
    for resource in resources {
        resource.plural.hash(&mut hasher);
        for subresource in resource.subresources.iter() {
            subresource.name.hash(&mut hasher);
        }
    }
    format!("{:016X}", hasher.finish())
}

/// The hash of one of the [`root_paths`]' documents, which change with the version alone.
pub fn root_hash(path: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (env!("CARGO_PKG_VERSION"), tables::messages().len(), path).hash(&mut hasher);
    format!("{:016X}", hasher.finish())
}

/// `api/v1` or `apis/apps/v1`.
pub fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn info() -> Tree {
    json!({"title": "Kubernetes", "version": "1.37"})
}

fn security() -> Tree {
    json!({"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"})
}

/// The schemas a document refers to.
struct Names {
    dialect: Dialect,
    wanted: BTreeMap<String, Option<Tree>>,
    own: Schemas,
}

impl Names {
    fn new(dialect: Dialect, own: Schemas) -> Self {
        Self { dialect, wanted: BTreeMap::new(), own }
    }

    /// A reference to a schema, which the document will hold.
    fn reference(&mut self, name: &str) -> Tree {
        self.wanted.entry(name.to_owned()).or_default();
        self.dialect.reference(name)
    }

    /// Every schema referred to, and those that they refer to.
    fn schemas(mut self) -> Object {
        let by_name = schema::by_openapi_name();
        loop {
            let missing: Vec<String> = self
                .wanted
                .iter()
                .filter(|(_, schema)| schema.is_none())
                .map(|(name, _)| name.clone())
                .collect();
            if missing.is_empty() {
                break;
            }
            for name in missing {
                let schema = match by_name.get(name.as_str()) {
                    _ if self.own.contains_key(&name) => {
                        let schema = self.own.remove(&name).unwrap_or_default();
                        references(&schema, &mut |name| _ = self.wanted.entry(name.to_owned()).or_default());
                        schema
                    }
                    Some(message) => schema::collect(*message, self.dialect, &mut |name| {
                        self.wanted.entry(name.to_owned()).or_default();
                    }),
                    None => json!({"type": "object"}),
                };
                self.wanted.insert(name, Some(schema));
            }
        }
        self.wanted.into_iter().filter_map(|(name, schema)| Some((name, schema?))).collect()
    }
}

/// Calls `refer` with each name that a schema refers to.
fn references(schema: &Tree, refer: &mut dyn FnMut(&str)) {
    match schema {
        Tree::Object(object) => {
            for (key, value) in object {
                match value {
                    Tree::String(text) if key == "$ref" => refer(text.rsplit('/').next().unwrap_or_default()),
                    value => references(value, refer),
                }
            }
        }
        Tree::Array(items) => items.iter().for_each(|item| references(item, refer)),
        _ => {}
    }
}
