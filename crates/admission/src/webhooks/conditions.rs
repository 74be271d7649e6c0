//! Match conditions: expressions about a request that must all hold before a webhook is asked about it.

use std::sync::LazyLock;

use api::Tree;
use cel::library::authorizer::Resource;
use cel::{Activation, Answers, DeclType, Environment, EvalError, Program, Type, Value};
use registry::tree::text;

use crate::{Attributes, Services};

/// What an expression may cost where it is: some milliseconds.
const AT_ONCE: u64 = 50_000;

/// The conditions of one webhook.
#[derive(Debug, Default)]
pub(super) struct Conditions(Vec<Condition>);

#[derive(Debug)]
struct Condition {
    expression: String,
    program: Result<Program, String>,
}

/// What expressions may refer to.
static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let request = std::sync::Arc::new(request().named("kubernetes.AdmissionRequest"));
    Environment::kubernetes(cel::STORED)
        .with_variable("object", Type::Dyn)
        .with_variable("oldObject", Type::Dyn)
        .with_declared("request", &request)
        .with_variable("authorizer", Type::object("kubernetes.authorization.Authorizer"))
        .with_variable("authorizer.requestResource", Type::object("kubernetes.authorization.ResourceCheck"))
});

/// The type of `request`.
fn request() -> DeclType {
    let text = || DeclType::string(cel::MAX_REQUEST);
    let texts = || DeclType::list(text(), cel::MAX_REQUEST);
    let gvk = || {
        DeclType::object([("group", text()), ("version", text()), ("kind", text())])
            .named("kubernetes.GroupVersionKind")
    };
    let gvr = || {
        DeclType::object([("group", text()), ("version", text()), ("resource", text())])
            .named("kubernetes.GroupVersionResource")
    };
    let user = DeclType::object([
        ("username", text()),
        ("uid", text()),
        ("groups", texts()),
        ("extra", DeclType::map(texts(), cel::MAX_REQUEST)),
    ]);
    DeclType::object([
        ("kind", gvk()),
        ("resource", gvr()),
        ("subResource", text()),
        ("requestKind", gvk()),
        ("requestResource", gvr()),
        ("requestSubResource", text()),
        ("name", text()),
        ("namespace", text()),
        ("operation", text()),
        ("userInfo", user.named("kubernetes.UserInfo")),
        ("dryRun", DeclType::boolean()),
        ("options", DeclType::dynamic()),
    ])
}

impl Conditions {
    pub fn of(conditions: &[Tree]) -> Conditions {
        let compiled = |condition: &Tree| {
            let expression = text(condition, "expression").to_owned();
            let program = cel::compile(&expression, &ENVIRONMENT).map_err(|error| error.to_string());
            Condition { expression, program }
        };
        Conditions(conditions.iter().map(compiled).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold: not where one does not, whatever is wrong with others. `request` is what the webhook would be sent, without
    /// the objects.
    pub async fn hold(
        &self,
        services: &dyn Services,
        attributes: &Attributes<'_>,
        request: &Tree,
        object: &Tree,
        old: &Tree,
    ) -> Result<bool, String> {
        let activation = activation(attributes, request, object, old).map_err(|error| error.to_string())?;
        let mut answers = Answers::default();
        let mut budget = cel::MATCH_CONDITIONS_BUDGET;
        let mut errors = Vec::new();
        for condition in &self.0 {
            let outcome =
                condition.evaluate(services, attributes, &activation, &mut answers, &mut budget).await;
            match outcome {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => errors.push(error),
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            [only] => Err(only.clone()),
            several => Err(format!("[{}]", several.join(", "))),
        }
    }
}

impl Condition {
    /// Asks the authorizer what the expression asks it, and evaluates anew.
    async fn evaluate(
        &self,
        services: &dyn Services,
        attributes: &Attributes<'_>,
        activation: &Activation<'_>,
        answers: &mut Answers,
        budget: &mut u64,
    ) -> Result<bool, String> {
        let program = self.program.as_ref().map_err(|error| format!("compilation error: {error}"))?;
        loop {
            let limit = (*budget).min(cel::PER_CALL_LIMIT);
            let evaluated = run(services, program, activation, answers, limit);
            match evaluated.result {
                Err(EvalError::Need(check)) => {
                    let answer = services.check(&attributes.user, &check).await;
                    answers.add(*check, answer);
                }
                result => {
                    *budget = budget.saturating_sub(evaluated.cost);
                    let value = result.map_err(|error| {
                        format!("expression '{}' resulted in error: {error}", self.expression)
                    })?;
                    return Ok(value.as_bool() == Some(true));
                }
            }
        }
    }
}

/// Evaluates at once what costs little, and other expressions aside.
fn run<'v>(
    services: &dyn Services,
    program: &Program,
    activation: &Activation<'v>,
    answers: &Answers,
    limit: u64,
) -> cel::Evaluated<'v> {
    let mut evaluated = program.run(activation, answers, limit.min(AT_ONCE));
    if limit > AT_ONCE && matches!(evaluated.result, Err(EvalError::CostLimit)) {
        services.aside(&mut || evaluated = program.run(activation, answers, limit));
    }
    evaluated
}

fn activation<'v>(
    attributes: &Attributes<'_>,
    request: &'v Tree,
    object: &'v Tree,
    old: &'v Tree,
) -> Result<Activation<'v>, EvalError> {
    let mut activation = Activation::new(&ENVIRONMENT);
    let resource = Resource {
        group: attributes.resource.group.to_string(),
        resource: attributes.resource.plural.to_string(),
        subresource: attributes.subresource.to_owned(),
        namespace: attributes.namespace.to_owned(),
        name: attributes.name.to_owned(),
        ..Resource::default()
    };
    for (name, value) in [
        ("object", Value::of_tree(object, None)?),
        ("oldObject", Value::of_tree(old, None)?),
        ("request", Value::of_tree(request, None)?),
        ("authorizer", Value::authorizer()),
        ("authorizer.requestResource", Value::request_resource(resource)),
    ] {
        if let Some(position) = ENVIRONMENT.position(name) {
            activation.set(position, value);
        }
    }
    Ok(activation)
}
