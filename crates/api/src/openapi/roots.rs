//! The documents of what is no resource: which groups and versions there are, the server's version, and how its tokens
//! are verified.

use crate::json;
use crate::tree::Object;

use super::paths::{MEDIA_TYPES, META, capitalized, group_word};
use super::schema::Dialect;
use super::{Names, info, security};
use crate::Tree;
use crate::discovery::Group;

const JSON: &[&str] = &["application/json"];
const VERSION: &str = "io.k8s.apimachinery.pkg.version.Info";

/// The paths of these documents below `/openapi/v3/`, for the groups that are served.
pub fn root_paths(groups: &[Group<'_>]) -> Vec<String> {
    let fixed = [".well-known/openid-configuration", "api", "apis", "openid/v1/jwks", "version"];
    let named = groups.iter().map(|group| group.name).filter(|name| !name.is_empty());
    fixed.into_iter().map(str::to_owned).chain(named.map(|name| format!("apis/{name}"))).collect()
}

struct Root {
    id: String,
    description: &'static str,
    tag: String,
    /// The schema's name; text where there is none.
    answer: Option<String>,
    types: &'static [&'static str],
}

impl Root {
    fn at(path: &str) -> Option<Root> {
        let meta = |name: &str| Some(format!("{META}.{name}"));
        let (id, description, tag, answer, types): (_, _, _, _, &[&str]) = match path {
            "api" => {
                ("CoreAPIVersions", "get available API versions", "core", meta("APIVersions"), &MEDIA_TYPES)
            }
            "apis" => {
                ("APIVersions", "get available API versions", "apis", meta("APIGroupList"), &MEDIA_TYPES)
            }
            "version" => (
                "CodeVersion",
                "get the version information for this server",
                "version",
                Some(VERSION.to_owned()),
                JSON,
            ),
            "openid/v1/jwks" => (
                "ServiceAccountIssuerOpenIDKeyset",
                "get the keys that verify the tokens of service accounts",
                "openid",
                None,
                &["application/jwk-set+json"],
            ),
            ".well-known/openid-configuration" => (
                "ServiceAccountIssuerOpenIDConfiguration",
                "get how the tokens of service accounts are verified",
                "WellKnown",
                None,
                JSON,
            ),
            _ => {
                let tag = group_word(path.strip_prefix("apis/")?);
                return Some(Root {
                    id: format!("get{}APIGroup", capitalized(&tag)),
                    description: "get information of a group",
                    tag,
                    answer: meta("APIGroup"),
                    types: &MEDIA_TYPES,
                });
            }
        };
        Some(Root { id: format!("get{id}"), description, tag: tag.to_owned(), answer, types })
    }
}

/// The document of one of the [`root_paths`].
pub fn root(path: &str) -> Option<Tree> {
    let root = Root::at(path)?;
    let mut names = Names::new(Dialect::V3, super::Schemas::new());
    let schema = match &root.answer {
        Some(name) => names.reference(name),
        None => json!({"type": "string"}),
    };
    let content: Object = root.types.iter().map(|ty| ((*ty).to_owned(), json!({"schema": schema}))).collect();
    let operation = json!({
        "description": root.description,
        "operationId": root.id,
        "responses": {
            "200": {"description": "OK", "content": content},
            "401": {"description": "Unauthorized"},
        },
        "tags": [root.tag],
    });
    let mut components = json!({"securitySchemes": {"BearerToken": security()}});
    let mut schemas = names.schemas();
    if let Some(schema) = schemas.get_mut(VERSION) {
        *schema = version();
    }
    if !schemas.is_empty() {
        components["schemas"] = schemas.into();
    }
    let mut paths = Object::new();
    paths.insert(format!("/{path}/"), json!({"get": operation}));
    Some(json!({"openapi": "3.0.0", "info": info(), "paths": paths, "components": components}))
}

/// What `/version` answers, which is no kind of the API.
fn version() -> Tree {
    let required = [
        "major",
        "minor",
        "gitVersion",
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
    ];
    let others = ["emulationMajor", "emulationMinor", "minCompatibilityMajor", "minCompatibilityMinor"];
    let required_fields = required.iter().map(|name| (*name, json!({"type": "string", "default": ""})));
    let other_fields = others.iter().map(|name| (*name, json!({"type": "string"})));
    let fields: Object =
        required_fields.chain(other_fields).map(|(name, schema)| (name.to_owned(), schema)).collect();
    json!({
        "description": "Which version of the API the server has, and how it was built.",
        "type": "object",
        "required": required,
        "properties": fields,
    })
}
