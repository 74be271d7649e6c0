//! The kinds that a policy is about, and what is wrong with its expressions for each of them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use api::Tree;
use cel::DeclType;
use cel::admission::{Parameters, TypeCheck};
use controllers::kinds::discovery::Named;
use serde::Deserialize;
use serde_json::{Value, json};

/// A rule's kinds that are looked at.
const MOST: usize = 10;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    match_constraints: Constraints,
    param_kind: Option<ParamKind>,
    variables: Vec<Variable>,
    validations: Vec<Validation>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Constraints {
    resource_rules: Vec<Rule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    api_groups: Vec<String>,
    api_versions: Vec<String>,
    resources: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ParamKind {
    api_version: String,
    kind: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Variable {
    name: String,
    expression: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Validation {
    expression: String,
    message_expression: String,
}

/// In the order of group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub group: String,
    pub version: String,
    pub kind: String,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

impl Kind {
    /// The path of the document that it is published in.
    pub fn path(&self) -> String {
        match self.group.as_str() {
            "" => format!("api/{}", self.version),
            group => format!("apis/{group}/{}", self.version),
        }
    }
}

/// The names, sorted, each once: lists of a policy may be long, and every combination of their names is looked for.
fn sorted(names: &[String]) -> BTreeSet<&str> {
    names.iter().map(String::as_str).collect()
}

impl Rule {
    /// The kinds of its resources. A rule for all groups or versions has none, and what it says of all resources or of
    /// subresources is passed over.
    fn kinds<'r>(&'r self, served: &'r [Named]) -> impl Iterator<Item = Kind> + 'r {
        let any = |names: &[String]| names.iter().any(|name| name.contains('*'));
        let all = any(&self.api_groups) || any(&self.api_versions);
        let groups = if all { BTreeSet::new() } else { sorted(&self.api_groups) };
        let known: HashSet<&str> = served.iter().flat_map(|own| [&*own.plural, &*own.singular]).collect();
        let resources = self.resources.iter().map(|name| name.to_ascii_lowercase());
        let resources: BTreeSet<String> = resources.filter(|name| known.contains(&**name)).collect();
        let mut versions = sorted(&self.api_versions);
        versions.retain(|version| version.is_empty() || served.iter().any(|own| own.version == *version));
        groups.into_iter().flat_map(move |group| {
            let of_group = |own: &&Named| group.is_empty() || own.group == group;
            let of_group: Vec<&Named> = served.iter().filter(of_group).collect();
            let mut kinds = Vec::new();
            for version in versions.iter().take_while(|_| !of_group.is_empty()) {
                for resource in &resources {
                    kinds.extend(find(&of_group, version, resource));
                }
            }
            kinds
        })
    }
}

/// The kinds of a resource of a group's. The core group's name is empty, as is one that is not given: any group serves.
fn find(served: &[&Named], version: &str, resource: &str) -> Vec<Kind> {
    let named = |known: &&&Named| {
        (version.is_empty() || known.version == version)
            && (known.plural == resource || known.singular == resource)
    };
    let kind = |known: &&Named| Kind {
        group: known.group.clone(),
        version: known.version.clone(),
        kind: known.kind.clone(),
    };
    served.iter().filter(named).map(kind).collect()
}

impl Spec {
    pub fn has_rules(&self) -> bool {
        !self.match_constraints.resource_rules.is_empty()
    }

    /// The kinds of the objects that it is about, as far as their types are looked at.
    pub fn kinds(&self, served: &[Named]) -> Vec<Kind> {
        let mut kinds = BTreeSet::new();
        for rule in &self.match_constraints.resource_rules {
            let mut count = 0;
            for kind in rule.kinds(served) {
                kinds.insert(kind);
                count += 1;
                if count == MOST {
                    return kinds.into_iter().collect();
                }
            }
        }
        kinds.into_iter().collect()
    }

    /// The kind of its parameters.
    pub fn parameters(&self) -> Option<Kind> {
        let named = self.param_kind.as_ref()?;
        let (group, version) = named.api_version.split_once('/').unwrap_or(("", &named.api_version));
        Some(Kind { group: group.to_owned(), version: version.to_owned(), kind: named.kind.clone() })
    }
}

/// `components.schemas` of documents, by the path of their group and version.
pub type Schemas = HashMap<String, Tree>;

/// The type of a kind's objects, where it is published. `number` keeps its name apart from those of other types.
fn declared(kind: &Kind, schemas: &Schemas, number: i32) -> Option<Arc<DeclType>> {
    let schemas = schemas.get(&kind.path())?;
    let is_of = |own: &Tree| {
        own["group"] == *kind.group && own["version"] == *kind.version && own["kind"] == *kind.kind
    };
    let named = |schema: &Tree| {
        schema["x-kubernetes-group-version-kind"].as_array().is_some_and(|kinds| kinds.iter().any(is_of))
    };
    let (name, _) = schemas.as_object()?.iter().find(|(_, schema)| named(schema))?;
    let declared = cel::declare_published(schemas, name)?;
    Some(Arc::new(declared.named(&format!("{}{number}", kind.kind))))
}

/// What is wrong with the expressions, as `status.typeChecking.expressionWarnings`.
pub fn warnings(spec: &Spec, kinds: &[Kind], schemas: &Schemas, number: i32) -> Vec<Value> {
    let of_parameters = spec.parameters();
    let parameters = of_parameters.as_ref().and_then(|kind| declared(kind, schemas, number));
    let checks: Vec<(&Kind, TypeCheck)> = kinds
        .iter()
        .filter_map(|kind| {
            let object = declared(kind, schemas, number)?;
            let parameters = match (&of_parameters, &parameters) {
                (None, _) => Parameters::None,
                (Some(_), None) => Parameters::Unknown,
                (Some(_), Some(declared)) => Parameters::Declared(declared),
            };
            let mut check = TypeCheck::new(&object, parameters);
            spec.variables.iter().for_each(|variable| check.declare(&variable.name, &variable.expression));
            Some((kind, check))
        })
        .collect();
    let mut warnings = Vec::new();
    for (index, validation) in spec.validations.iter().enumerate() {
        let expressions =
            [("expression", &validation.expression), ("messageExpression", &validation.message_expression)];
        for (field, expression) in expressions {
            if expression.is_empty() && field == "messageExpression" {
                continue;
            }
            let issues = checks.iter().filter_map(|(kind, check)| {
                let issues = check.check(expression).err()?;
                Some(format!("{kind}: {issues}\n"))
            });
            let issues: Vec<String> = issues.collect();
            if !issues.is_empty() {
                let place = format!("spec.validations[{index}].{field}");
                warnings.push(json!({"fieldRef": place, "warning": issues.join("\n")}));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(tree: Value) -> Spec {
        serde_json::from_value(tree).unwrap()
    }

    fn served() -> Vec<Named> {
        let rows = [
            ("", "v1", "pods", "pod", "Pod"),
            ("apps", "v1", "deployments", "deployment", "Deployment"),
            ("apps", "v1", "replicasets", "replicaset", "ReplicaSet"),
            ("example.com", "v1", "pods", "pod", "Pod"),
        ];
        let own = |(group, version, plural, singular, kind): (&str, &str, &str, &str, &str)| Named {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: plural.to_owned(),
            singular: singular.to_owned(),
            kind: kind.to_owned(),
        };
        rows.into_iter().map(own).collect()
    }

    #[test]
    fn kinds_of_rules() {
        let check = |groups: &[&str], versions: &[&str], resources: &[&str], expect: &[&str]| {
            let rule = json!({"apiGroups": groups, "apiVersions": versions, "resources": resources});
            let spec = spec(json!({"matchConstraints": {"resourceRules": [rule]}}));
            let kinds: Vec<String> = spec.kinds(&served()).iter().map(Kind::to_string).collect();
            assert_eq!(kinds, expect, "{groups:?} {versions:?} {resources:?}");
        };
        let both = ["apps/v1, Kind=Deployment", "apps/v1, Kind=ReplicaSet"];
        check(&["apps"], &["v1"], &["replicasets", "deployments"], &both);
        check(&["apps"], &["v1"], &["Deployment", "*", "deployments/scale"], &both[..1]);
        check(&["apps"], &["*"], &["deployments"], &[]);
        check(&["*", "apps"], &["v1"], &["deployments"], &[]);
        check(&["apps"], &["v2"], &["deployments"], &[]);
        check(&[""], &["v1"], &["pods"], &["/v1, Kind=Pod", "example.com/v1, Kind=Pod"]);
    }

    #[test]
    fn long_rules_without_kinds_end() {
        let names = |prefix: &str| (0..5_000).map(|at| format!("{prefix}{at}")).collect::<Vec<_>>();
        let groups = [names("g"), vec!["apps".to_owned(); 5_000]].concat();
        let versions = [names("v"), vec!["v1".to_owned(); 5_000]].concat();
        let resources = [names("r"), vec!["pods".to_owned(); 5_000]].concat();
        let rule = json!({"apiGroups": groups, "apiVersions": versions, "resources": resources});
        let spec = spec(json!({"matchConstraints": {"resourceRules": [rule]}}));
        assert_eq!(spec.kinds(&served()), []);
    }

    #[test]
    fn expressions_that_do_not_fit() {
        let text = json!({"type": "string"});
        let gvk = json!([{"group": "apps", "version": "v1", "kind": "Deployment"}]);
        let schemas = json!({
            "Deployment": {"type": "object", "x-kubernetes-group-version-kind": gvk, "properties": {
                "spec": {"$ref": "#/components/schemas/Spec"}}},
            "Spec": {"type": "object", "properties": {"replicas": {"type": "integer"}, "paused": text}},
        });
        let schemas = HashMap::from([("apis/apps/v1".to_owned(), serde_json::from_value(schemas).unwrap())]);
        let kind = Kind { group: "apps".to_owned(), version: "v1".to_owned(), kind: "Deployment".to_owned() };
        let spec = spec(json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "variables": [{"name": "n", "expression": "object.spec.replicas"}],
            "validations": [
                {"expression": "object.spec.replicas > 1 && params.data.x == 1"},
                {"expression": "variables.n > '1'", "messageExpression": "object.spec.bar"},
                {"expression": "object.metadata.name == oldObject.metadata.name"},
            ],
        }));
        let warnings = warnings(&spec, &[kind], &schemas, 7);
        assert_eq!(
            warnings,
            [
                json!({
                    "fieldRef": "spec.validations[1].expression",
                    "warning": "apps/v1, Kind=Deployment: ERROR: <input>:1:13: found no matching overload for '_>_' \
                        applied to '(int, string)'\n | variables.n > '1'\n | ............^\n",
                }),
                json!({
                    "fieldRef": "spec.validations[1].messageExpression",
                    "warning": "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'bar'\n | object.spec.bar\n \
                        | ...........^\n",
                }),
            ]
        );
    }
}
