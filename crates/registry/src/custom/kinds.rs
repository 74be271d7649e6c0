//! A definition's kinds, one for each of its versions.

use std::sync::Arc;

use api::Tree;
use api::model::{GroupVersionKind, Model, Resource, Scope, Subresource, Text};
use base64::Engine as _;
use machinery::jsonpath::JsonPath;
use sha2::{Digest as _, Sha256};

use super::expressions::Expressions;
use super::rule::ByDefinition;
use super::schema::Schema;
use super::{Column, Custom, ScalePaths, compile};
use crate::kind::Kind;
use crate::profile::{ALL_METADATA, Generation, Profile};
use crate::rules::{Rule, RuleSet};
use crate::tree::{flag, get, has, list, number, text, texts};

/// What is answered of each kind.
pub const VERBS: [Text; 8] = [
    Text::Borrowed("delete"),
    Text::Borrowed("deletecollection"),
    Text::Borrowed("get"),
    Text::Borrowed("list"),
    Text::Borrowed("patch"),
    Text::Borrowed("create"),
    Text::Borrowed("update"),
    Text::Borrowed("watch"),
];
/// What the rules of a kind may cost before they count as work for long: some milliseconds.
const COSTLY: u64 = 100_000;
/// While a definition is being deleted.
const LAST_VERBS: [&str; 5] = ["delete", "deletecollection", "get", "list", "watch"];

/// The kinds of a definition's versions, in the order in which discovery has them. Those that are not served are among
/// them, disabled: objects may be stored at them. A conversion by webhook is the caller's to put into them.
pub fn kinds(definition: &Tree) -> Vec<Kind> {
    let spec = get(definition, "spec");
    let storage = list(spec, "versions").iter().find(|version| flag(version, "storage"));
    let storage = storage.map_or("", |version| text(version, "name"));
    let mut versions: Vec<&Tree> = list(spec, "versions").iter().collect();
    versions.sort_by(|one, other| machinery::versions::compare(text(other, "name"), text(one, "name")));
    versions.into_iter().map(|version| kind(definition, version, storage)).collect()
}

fn owned(text: &str) -> Text {
    Text::from(text.to_owned())
}

fn kind(definition: &Tree, version: &Tree, storage: &str) -> Kind {
    let (spec, names) = (get(definition, "spec"), get(definition, "status.acceptedNames"));
    let (group, name, plural) = (text(spec, "group"), text(version, "name"), text(names, "plural"));
    let kind = text(names, "kind");
    let terminating = list(definition, "status.conditions")
        .iter()
        .any(|condition| text(condition, "type") == "Terminating" && text(condition, "status") == "True")
        || has(definition, "metadata.deletionTimestamp");
    let own = GroupVersionKind { group: owned(group), version: owned(name), kind: owned(kind) };
    let scale = scale(get(version, "subresources.scale"));
    let mut subresources = Vec::new();
    if has(version, "subresources.status") {
        subresources.push(subresource("status", own));
    }
    if scale.is_some() {
        let scale =
            GroupVersionKind { group: "autoscaling".into(), version: "v1".into(), kind: "Scale".into() };
        subresources.push(subresource("scale", scale));
    }
    let status = has(version, "subresources.status");
    let verbs = match terminating {
        true => LAST_VERBS.map(Text::from).to_vec(),
        false => VERBS.to_vec(),
    };
    let row = Resource {
        group: owned(group),
        version: owned(name),
        kind: owned(kind),
        plural: owned(plural),
        singular: owned(text(names, "singular")),
        short_names: texts(names, "shortNames").map(owned).collect::<Vec<_>>().into(),
        categories: texts(names, "categories").map(owned).collect::<Vec<_>>().into(),
        scope: if text(spec, "scope") == "Namespaced" { Scope::Namespaced } else { Scope::Cluster },
        verbs: verbs.into(),
        subresources: subresources.into(),
        storage_group: owned(group),
        storage_version: owned(storage),
        storage_prefix: owned(&format!("{group}/{plural}")),
        storage_json: true,
        storage_hash: owned(&storage_hash(group, storage, kind)),
        enabled: flag(version, "served"),
        message: owned(&format!("{}.{name}.{kind}", reversed(group))),
    };
    let published = get(version, "schema.openAPIV3Schema");
    let schema = Schema::of(published);
    let open = flag(spec, "preserveUnknownFields") || published.is_null();
    let model = compile::model(&row.message, &schema, open);
    let rule = ByDefinition {
        schema,
        kind: kind.to_owned(),
        api_version: row.api_version(),
        scale: scale.clone(),
        expressions: Expressions::of(published),
    };
    let costly = rule.expressions.as_ref().is_some_and(|expressions| expressions.cost > COSTLY);
    let rules = RuleSet::with(&model, vec![vec![Rule::Schema(Box::new(rule))]]);
    let profile = Profile {
        status,
        generation: if status { Generation::Spec } else { Generation::SpecAndStatus },
        unconditional_update: false,
        any_finalizer: true,
        status_keeps: ALL_METADATA,
        warn: Some(super::warnings::finalizers),
        full: true,
        ..Profile::new("", "")
    };
    let custom = Custom {
        definition: text(definition, "metadata.uid").to_owned(),
        terminating,
        costly,
        columns: columns(version),
        scale,
        selectable: list(version, "selectableFields")
            .iter()
            .map(|field| owned(text(field, "jsonPath").trim_start_matches('.')))
            .collect(),
        deprecated: deprecated(spec, version, &row),
        published: api::json::to_vec(published).into(),
        list_kind: text(names, "listKind").to_owned(),
    };
    Kind::of_definition(row, Arc::new(model), Model::first_own(), Arc::new(rules), profile, custom)
}

fn subresource(name: &'static str, gvk: GroupVersionKind) -> Subresource {
    let verbs = ["get", "patch", "update"].map(Text::from).to_vec().into();
    Subresource { name: name.into(), gvk, verbs }
}

fn scale(scale: &Tree) -> Option<ScalePaths> {
    let path = |field| text(scale, field).to_owned();
    let selector = path("labelSelectorPath");
    (!scale.is_null()).then(|| ScalePaths {
        spec_replicas: path("specReplicasPath"),
        status_replicas: path("statusReplicasPath"),
        selector: (!selector.is_empty()).then_some(selector),
    })
}

/// `example.com` as the beginning of a message's name.
fn reversed(group: &str) -> String {
    group.rsplit('.').collect::<Vec<_>>().join(".")
}

fn storage_hash(group: &str, version: &str, kind: &str) -> String {
    let hash = Sha256::digest(format!("{group}/{version}/{kind}"));
    base64::engine::general_purpose::STANDARD.encode(&hash[..8])
}

/// The warning about a version that is deprecated, which names a better one.
fn deprecated(spec: &Tree, version: &Tree, row: &Resource) -> Option<String> {
    if !flag(version, "deprecated") {
        return None;
    }
    if let Some(Tree::String(own)) = version.get("deprecationWarning") {
        return Some(own.to_string());
    }
    let better = |other: &&Tree| {
        let later = machinery::versions::compare(text(other, "name"), &row.version).is_gt();
        flag(other, "served") && !flag(other, "deprecated") && later
    };
    let by_name =
        |one: &&Tree, other: &&Tree| machinery::versions::compare(text(one, "name"), text(other, "name"));
    let best = list(spec, "versions").iter().filter(better).max_by(by_name);
    let (group, kind) = (&row.group, &row.kind);
    let instead = best.map(|best| format!("; use {group}/{} {kind}", text(best, "name"))).unwrap_or_default();
    Some(format!("{} {kind} is deprecated{instead}", row.api_version()))
}

/// The columns of a version, up to the first whose path is none; the age where it has none.
fn columns(version: &Tree) -> Vec<Column> {
    let own = list(version, "additionalPrinterColumns");
    let column = |column: &Tree| {
        let path = text(column, "jsonPath");
        let description = match text(column, "description") {
            "" => format!("Custom resource definition column (in JSONPath format): {path}"),
            own => own.to_owned(),
        };
        Some(Column {
            name: text(column, "name").to_owned(),
            ty: text(column, "type").to_owned(),
            format: text(column, "format").to_owned(),
            description,
            priority: number(column, "priority"),
            path: JsonPath::parse(path).ok()?,
        })
    };
    if own.is_empty() {
        let description = crate::columns::everywhere("Age");
        let age = api::json!({"name": "Age", "type": "date", "description": description, "jsonPath": ".metadata.creationTimestamp"});
        return column(&age).into_iter().collect();
    }
    own.iter().map_while(column).collect()
}
