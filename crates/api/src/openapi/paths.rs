//! Paths and operations of resources.

use crate::json;
use crate::tree::{Object, Tree};

use super::Names;
use super::schema::Dialect;
use crate::model::{GroupVersionKind, Resource, Scope};
use crate::tables;

pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
pub(super) const MEDIA_TYPES: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// A query parameter of an operation: name, type, description.
type Parameter = (&'static str, &'static str, &'static str);

const DRY_RUN: Parameter = ("dryRun", "string", "`All` checks the request and changes nothing.");
const FIELD_MANAGER: Parameter =
    ("fieldManager", "string", "The name under which the changed fields are kept.");
const FIELD_VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "What becomes of unknown and duplicate fields: `Ignore`, `Warn` or `Strict`.",
);
const FORCE: Parameter = ("force", "boolean", "Apply takes over fields of other managers.");
const DELETE: [Parameter; 5] = [
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "How long the object may take to end; zero deletes at once."),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Delete an object that cannot be read any more.",
    ),
    ("orphanDependents", "boolean", "Deprecated: see `propagationPolicy`."),
    ("propagationPolicy", "string", "What becomes of dependents: `Orphan`, `Background` or `Foreground`."),
];
const LIST: [Parameter; 10] = [
    ("allowWatchBookmarks", "boolean", "A watch may get events that carry only a resource version."),
    ("continue", "string", "The token of the list that this one goes on from."),
    ("fieldSelector", "string", "Keeps objects whose fields match."),
    ("labelSelector", "string", "Keeps objects whose labels match."),
    ("limit", "integer", "The most objects to answer at once."),
    ("resourceVersion", "string", "The version to read at or watch from."),
    ("resourceVersionMatch", "string", "How `resourceVersion` applies to a list."),
    ("sendInitialEvents", "boolean", "A watch begins with the objects there are."),
    ("timeoutSeconds", "integer", "How long the request may take."),
    ("watch", "boolean", "Answer with events instead of a list."),
];

/// What a handler does with a path.
struct Operation<'a> {
    /// `list`, `post`, `get`, …: `x-kubernetes-action`.
    action: &'static str,
    id: String,
    description: String,
    parameters: &'a [Parameter],
    body: Option<String>,
    answer: String,
    codes: &'static [(&'static str, &'static str)],
}

struct Document<'a> {
    group: &'a str,
    version: &'a str,
    names: &'a mut Names,
    paths: Object,
    /// The resource at hand is not built in.
    custom: bool,
}

/// `apps`, `rbacAuthorization`: the group as one word.
pub(super) fn group_word(group: &str) -> String {
    if group.is_empty() {
        return "core".to_owned();
    }
    let mut words = group.trim_end_matches(".k8s.io").split('.');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |group, word| group + &capitalized(word))
}

/// The paths of some resources of one group and version.
pub(super) fn of(group: &str, version: &str, resources: &[&Resource], names: &mut Names) -> Object {
    let mut document = Document { group, version, names, paths: Object::new(), custom: false };
    let mut built_in = resources.is_empty();
    for resource in resources {
        document.custom = document.names.own.contains_key(&*resource.message);
        built_in |= !document.custom;
        document.resource(resource);
    }
    if built_in {
        document.custom = false;
        document.root();
    }
    document.paths
}

const OK: (&str, &str) = ("200", "OK");
const CREATED: (&str, &str) = ("201", "Created");
const ACCEPTED: (&str, &str) = ("202", "Accepted");

impl Document<'_> {
    /// The schema of a kind.
    fn name_of(&self, gvk: &GroupVersionKind) -> Option<String> {
        let custom = || {
            let package = gvk.group.rsplit('.').collect::<Vec<_>>().join(".");
            let name = format!("{package}.{}.{}", gvk.version, gvk.kind);
            self.names.own.contains_key(&name).then_some(name)
        };
        custom().or_else(|| openapi_name(gvk))
    }

    fn media_types(&self) -> &'static [&'static str] {
        if self.custom { &MEDIA_TYPES[..2] } else { &MEDIA_TYPES }
    }

    fn patch_types(&self) -> &'static [&'static str] {
        if self.custom { &PATCH_TYPES[..3] } else { &PATCH_TYPES }
    }

    fn base(&self) -> String {
        format!("/{}/", super::path_of(self.group, self.version))
    }

    /// `AppsV1`, the middle of operation ids.
    fn stem(&self) -> String {
        capitalized(&group_word(self.group)) + &capitalized(self.version)
    }

    fn root(&mut self) {
        let operation = Operation {
            action: "",
            id: format!("get{}APIResources", self.stem()),
            description: "get available resources".to_owned(),
            parameters: &[],
            body: None,
            answer: format!("{META}.APIResourceList"),
            codes: &[OK],
        };
        let get = self.operation(operation, None);
        self.paths.insert(self.base(), json!({"get": get}));
    }

    fn resource(&mut self, resource: &Resource) {
        let gvk = GroupVersionKind {
            group: resource.group.clone(),
            version: resource.version.clone(),
            kind: resource.kind.clone(),
        };
        let namespaced = resource.scope == Scope::Namespaced;
        let stem = self.stem();
        let scope = if namespaced { "Namespaced" } else { "" };
        let (kind, custom) = (&*resource.kind, self.custom);
        let Some(own) = self.name_of(&gvk) else { return };
        let list = self
            .name_of(&GroupVersionKind { kind: format!("{kind}List").into(), ..gvk.clone() })
            .unwrap_or_else(|| own.clone());
        let has = |verb: &str| resource.verbs.iter().any(|own| own == verb);
        let within = if namespaced { "namespaces/{namespace}/" } else { "" };
        let collection = format!("{}{within}{}", self.base(), resource.plural);

        let listing = |id: String| Operation {
            action: "list",
            id,
            description: match custom {
                true => format!("list objects of kind {kind}"),
                false => format!("list or watch objects of kind {kind}"),
            },
            parameters: &LIST,
            body: None,
            answer: list.clone(),
            codes: &[OK],
        };
        let mut operations = Vec::new();
        if has("list") {
            operations.push(("get", listing(format!("list{stem}{scope}{kind}"))));
        }
        if has("create") {
            operations.push((
                "post",
                writing(
                    "post",
                    format!("create{stem}{scope}{kind}"),
                    format!("create a {kind}"),
                    &own,
                    &[OK, CREATED, ACCEPTED],
                ),
            ));
        }
        if has("deletecollection") {
            let operation = Operation {
                action: "deletecollection",
                id: format!("delete{stem}Collection{scope}{kind}"),
                description: format!("delete collection of {kind}"),
                parameters: &LIST,
                body: Some(format!("{META}.DeleteOptions")),
                answer: format!("{META}.Status"),
                codes: &[OK],
            };
            operations.push(("delete", operation));
        }
        self.path(&collection, operations, &gvk, namespaced, None);
        if namespaced && has("list") {
            let path = format!("{}{}", self.base(), resource.plural);
            self.path(
                &path,
                vec![("get", listing(format!("list{stem}{kind}ForAllNamespaces")))],
                &gvk,
                false,
                None,
            );
        }

        let mut operations = Vec::new();
        if has("get") {
            operations.push((
                "get",
                reading(format!("read{stem}{scope}{kind}"), format!("read the specified {kind}"), &own),
            ));
        }
        if has("update") {
            operations.push((
                "put",
                writing(
                    "put",
                    format!("replace{stem}{scope}{kind}"),
                    format!("replace the specified {kind}"),
                    &own,
                    &[OK, CREATED],
                ),
            ));
        }
        if has("patch") {
            operations.push((
                "patch",
                patching(
                    format!("patch{stem}{scope}{kind}"),
                    format!("partially update the specified {kind}"),
                    &own,
                ),
            ));
        }
        if has("delete") {
            let operation = Operation {
                action: "delete",
                id: format!("delete{stem}{scope}{kind}"),
                description: format!("delete a {kind}"),
                parameters: &DELETE,
                body: Some(format!("{META}.DeleteOptions")),
                answer: format!("{META}.Status"),
                codes: &[OK, ACCEPTED],
            };
            operations.push(("delete", operation));
        }
        let item = format!("{collection}/{{name}}");
        self.path(&item, operations, &gvk, namespaced, Some(kind));

        for subresource in resource.subresources.iter() {
            let suffix: String = capitalized(&subresource.name);
            // streams and proxies answer with text, whatever kind their options are
            let answer = self
                .name_of(&subresource.gvk)
                .filter(|_| !subresource.gvk.kind.ends_with("Options") && subresource.name != "log");
            let body = answer.clone().unwrap_or_default();
            let what = format!("{} of the specified {kind}", subresource.name);
            let mut operations = Vec::new();
            // a stream or proxy is connected to, whatever the method
            let connected = if subresource.gvk.kind.ends_with("Options") { &*subresource.verbs } else { &[] };
            for verb in connected {
                let method = match &**verb {
                    "create" => "post",
                    "update" => "put",
                    "patch" => "patch",
                    "delete" => "delete",
                    _ => "get",
                };
                let id = format!("connect{stem}{}{scope}{kind}{suffix}", capitalized(method));
                let description = format!("connect {} requests to {what}", method.to_uppercase());
                operations.push((method, Operation { action: "connect", ..reading(id, description, "") }));
            }
            for verb in subresource.verbs.iter() {
                match &**verb {
                    _ if !connected.is_empty() => {}
                    "get" => operations.push((
                        "get",
                        reading(format!("read{stem}{scope}{kind}{suffix}"), format!("read {what}"), &body),
                    )),
                    "update" => operations.push((
                        "put",
                        writing(
                            "put",
                            format!("replace{stem}{scope}{kind}{suffix}"),
                            format!("replace {what}"),
                            &body,
                            &[OK, CREATED],
                        ),
                    )),
                    "patch" => operations.push((
                        "patch",
                        patching(
                            format!("patch{stem}{scope}{kind}{suffix}"),
                            format!("partially update {what}"),
                            &body,
                        ),
                    )),
                    "create" => operations.push((
                        "post",
                        writing(
                            "post",
                            format!("create{stem}{scope}{kind}{suffix}"),
                            format!("create {what}"),
                            &body,
                            &[OK, CREATED, ACCEPTED],
                        ),
                    )),
                    _ => {}
                }
            }
            self.path(
                &format!("{item}/{}", subresource.name),
                operations,
                &subresource.gvk,
                namespaced,
                Some(&subresource.gvk.kind),
            );
        }
    }

    fn path(
        &mut self,
        path: &str,
        operations: Vec<(&str, Operation<'_>)>,
        gvk: &GroupVersionKind,
        namespaced: bool,
        named: Option<&str>,
    ) {
        if operations.is_empty() {
            return;
        }
        let mut entry = Object::new();
        for (method, operation) in operations {
            let operation = self.operation(operation, Some(gvk));
            entry.insert(method.to_owned(), operation);
        }
        let mut parameters = Vec::new();
        if let Some(kind) = named {
            parameters.push(self.parameter("name", "path", "string", &format!("name of the {kind}")));
        }
        if namespaced {
            parameters.push(self.parameter("namespace", "path", "string", "the namespace of the object"));
        }
        parameters.push(self.parameter("pretty", "query", "string", "Answer with indented text."));
        entry.insert("parameters", Tree::from(parameters));
        self.paths.insert(path.to_owned(), Tree::Object(entry));
    }

    fn parameter(&self, name: &str, place: &str, ty: &str, description: &str) -> Tree {
        let mut parameter = json!({"description": description, "in": place, "name": name});
        match self.names.dialect {
            Dialect::V2 => {
                parameter["type"] = ty.into();
                parameter["uniqueItems"] = true.into();
            }
            Dialect::V3 => parameter["schema"] = json!({"type": ty, "uniqueItems": true}),
        }
        if place == "path" {
            parameter["required"] = true.into();
        }
        parameter
    }

    fn operation(&mut self, operation: Operation<'_>, gvk: Option<&GroupVersionKind>) -> Tree {
        let v2 = self.names.dialect == Dialect::V2;
        let mut parameters: Vec<Tree> = operation
            .parameters
            .iter()
            .map(|(name, ty, description)| self.parameter(name, "query", ty, description))
            .collect();
        let patch = operation.action == "patch";
        let mut entry = json!({"description": operation.description, "operationId": operation.id});
        if v2 {
            entry["consumes"] = match (patch, self.custom) {
                (true, _) => json!(self.patch_types()),
                (false, true) => json!(self.media_types()),
                (false, false) => json!(["*/*"]),
            };
            entry["produces"] = json!(self.media_types());
            entry["schemes"] = json!(["https"]);
        }
        if let Some(body) = operation.body.filter(|body| !body.is_empty()) {
            let required = operation.action != "delete" && operation.action != "deletecollection";
            let schema = self.names.reference(&body);
            if v2 {
                let mut parameter = json!({"in": "body", "name": "body", "schema": schema});
                if required {
                    parameter["required"] = true.into();
                }
                parameters.insert(0, parameter);
            } else {
                let types = match (patch, self.custom) {
                    (true, _) => self.patch_types(),
                    (false, true) => self.media_types(),
                    (false, false) => &["*/*"],
                };
                let content: Object =
                    types.iter().map(|ty| ((*ty).to_owned(), json!({"schema": schema}))).collect();
                entry["requestBody"] = json!({"content": content});
                if required {
                    entry["requestBody"]["required"] = true.into();
                }
            }
        }
        if !parameters.is_empty() {
            entry["parameters"] = Tree::from(parameters);
        }
        let schema = if operation.answer.is_empty() {
            json!({"type": "string"})
        } else {
            self.names.reference(&operation.answer)
        };
        let mut responses = Object::new();
        for (code, description) in operation.codes {
            let mut response = json!({"description": description});
            if v2 {
                response["schema"] = schema.clone();
            } else {
                let content: Object = self
                    .media_types()
                    .iter()
                    .map(|ty| ((*ty).to_owned(), json!({"schema": schema})))
                    .collect();
                response["content"] = Tree::Object(content);
            }
            responses.insert((*code).to_owned(), response);
        }
        responses.insert("401", json!({"description": "Unauthorized"}));
        entry["responses"] = Tree::Object(responses);
        entry["tags"] = json!([format!("{}_{}", group_word(self.group), self.version)]);
        if let Some(gvk) = gvk {
            entry["x-kubernetes-action"] = operation.action.into();
            entry["x-kubernetes-group-version-kind"] =
                json!({"group": gvk.group, "kind": gvk.kind, "version": gvk.version});
        }
        entry
    }
}

fn reading(id: String, description: String, answer: &str) -> Operation<'static> {
    Operation {
        action: "get",
        id,
        description,
        parameters: &[],
        body: None,
        answer: answer.to_owned(),
        codes: &[OK],
    }
}

fn writing(
    action: &'static str,
    id: String,
    description: String,
    kind: &str,
    codes: &'static [(&'static str, &'static str)],
) -> Operation<'static> {
    const PARAMETERS: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
    Operation {
        action,
        id,
        description,
        parameters: PARAMETERS,
        body: Some(kind.to_owned()),
        answer: kind.to_owned(),
        codes,
    }
}

fn patching(id: String, description: String, kind: &str) -> Operation<'static> {
    const PARAMETERS: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
    let body = Some(format!("{META}.Patch"));
    Operation {
        action: "patch",
        id,
        description,
        parameters: PARAMETERS,
        body,
        answer: kind.to_owned(),
        codes: &[OK, CREATED],
    }
}

fn openapi_name(gvk: &GroupVersionKind) -> Option<String> {
    let message = tables::kind_message(&gvk.group, &gvk.version, &gvk.kind)?;
    (!message.openapi.is_empty()).then(|| message.openapi.to_string())
}

pub(super) fn capitalized(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}
