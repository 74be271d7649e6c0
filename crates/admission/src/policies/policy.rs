//! Policies and bindings in the form in which requests meet them.

use std::sync::Arc;

use api::Tree;
use cel::admission::{Compiler, Given, results};
use machinery::labels::Selector;
use registry::tree::{get, has, list, text, texts};

use crate::criteria::Criteria;
use crate::expressions::{Composed, Conditions, Expression};

/// A policy of either kind.
#[derive(Debug)]
pub struct Policy {
    pub name: String,
    pub(super) criteria: Criteria,
    pub(super) ignores_failures: bool,
    pub(super) parameters: Option<ParameterKind>,
    pub(super) composed: Composed,
    pub(super) conditions: Conditions,
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) mutations: Vec<Mutation>,
    /// Whether it acts again when others have changed the object after it.
    pub(super) reinvoked: bool,
}

#[derive(Debug)]
pub(super) struct ParameterKind {
    pub group: String,
    pub version: String,
    pub kind: String,
}

#[derive(Debug)]
pub(super) struct Validation {
    pub expression: Expression,
    pub message_expression: Option<Expression>,
    pub message: String,
    pub reason: String,
}

#[derive(Debug)]
pub(super) struct Annotation {
    pub key: String,
    pub value: Expression,
}

#[derive(Debug)]
pub(super) enum Mutation {
    ApplyConfiguration(Expression),
    JsonPatch(Expression),
}

impl Policy {
    /// Compiles a policy. Expressions that cannot be compiled are errors of the requests that they would be evaluated on.
    pub fn of(policy: &Tree) -> Policy {
        let spec = get(policy, "spec");
        let given = Given { params: has(spec, "paramKind"), authorizer: true, patches: false };
        let mut compiler = Compiler::composing();
        let variables = list(spec, "variables").iter().map(|variable| {
            let name = text(variable, "name");
            let program = compiler.declare(name, text(variable, "expression"), given, cel::STORED);
            (Arc::from(name), program)
        });
        let composed = variables.collect();
        let validations = list(spec, "validations").iter();
        let annotations = list(spec, "auditAnnotations").iter();
        let mutations = list(spec, "mutations").iter();
        Policy {
            name: text(policy, "metadata.name").to_owned(),
            criteria: Criteria::of_policy(get(spec, "matchConstraints")),
            ignores_failures: text(spec, "failurePolicy") == "Ignore",
            parameters: has(spec, "paramKind").then(|| ParameterKind::of(get(spec, "paramKind"))),
            composed,
            conditions: Conditions::of(list(spec, "matchConditions"), &compiler, given),
            validations: validations.map(|tree| Validation::of(tree, &compiler, given)).collect(),
            annotations: annotations
                .map(|tree| Annotation {
                    key: text(tree, "key").to_owned(),
                    value: Expression::new(
                        text(tree, "valueExpression"),
                        &compiler,
                        &results::annotation(),
                        given,
                    ),
                })
                .collect(),
            mutations: mutations.filter_map(|tree| Mutation::of(tree, &compiler, given)).collect(),
            reinvoked: text(spec, "reinvocationPolicy") == "IfNeeded",
        }
    }
}

impl ParameterKind {
    fn of(tree: &Tree) -> ParameterKind {
        let (group, version) =
            text(tree, "apiVersion").split_once('/').unwrap_or(("", text(tree, "apiVersion")));
        ParameterKind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: text(tree, "kind").to_owned(),
        }
    }
}

impl Validation {
    fn of(tree: &Tree, compiler: &Compiler, given: Given) -> Validation {
        let said = |field: &str| text(tree, field).trim().to_owned();
        // messages cannot ask the authorizer
        let of_message = Given { authorizer: false, ..given };
        Validation {
            expression: Expression::new(text(tree, "expression"), compiler, &results::condition(), given),
            message_expression: has(tree, "messageExpression").then(|| {
                Expression::new(text(tree, "messageExpression"), compiler, &results::message(), of_message)
            }),
            message: said("message"),
            reason: said("reason"),
        }
    }
}

impl Mutation {
    fn of(tree: &Tree, compiler: &Compiler, given: Given) -> Option<Mutation> {
        let given = Given { patches: true, ..given };
        let expression = |field: &str, results: &[cel::Type]| {
            has(tree, field)
                .then(|| Expression::new(text(get(tree, field), "expression"), compiler, results, given))
        };
        match text(tree, "patchType") {
            "ApplyConfiguration" => {
                expression("applyConfiguration", &results::configuration()).map(Mutation::ApplyConfiguration)
            }
            "JSONPatch" => expression("jsonPatch", &results::patch()).map(Mutation::JsonPatch),
            _ => None,
        }
    }
}

/// A binding of either kind.
#[derive(Debug)]
pub struct Binding {
    pub name: String,
    pub(super) policy: String,
    pub(super) criteria: Option<Criteria>,
    pub(super) parameters: Option<ParameterReference>,
    /// `Deny`, `Warn`, `Audit`.
    pub(super) actions: Vec<String>,
}

#[derive(Debug)]
pub(super) struct ParameterReference {
    pub name: String,
    pub namespace: String,
    pub selector: Option<Result<Selector, String>>,
    /// Without parameters the request is refused.
    pub denies: bool,
}

impl Binding {
    pub fn of(binding: &Tree) -> Binding {
        let spec = get(binding, "spec");
        Binding {
            name: text(binding, "metadata.name").to_owned(),
            policy: text(spec, "policyName").to_owned(),
            criteria: has(spec, "matchResources").then(|| Criteria::of_policy(get(spec, "matchResources"))),
            parameters: has(spec, "paramRef").then(|| ParameterReference::of(get(spec, "paramRef"))),
            actions: texts(spec, "validationActions").map(str::to_owned).collect(),
        }
    }
}

impl ParameterReference {
    fn of(tree: &Tree) -> ParameterReference {
        ParameterReference {
            name: text(tree, "name").to_owned(),
            namespace: text(tree, "namespace").to_owned(),
            selector: has(tree, "selector").then(|| Selector::from_label_selector(get(tree, "selector"))),
            denies: text(tree, "parameterNotFoundAction") == "Deny",
        }
    }
}
