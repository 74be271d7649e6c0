//! Authorization checks. A check is a value until it is asked; the answer comes from outside, between two evaluations.

use std::sync::Arc;

use machinery::names;

use super::{Context, Extended, Row, row};
use crate::error::EvalError;
use crate::value::{Outcome, Value};

pub(crate) const ROWS: &[Row] = &[
    row(
        "authorizer_path",
        ".path(kubernetes.authorization.Authorizer, string) -> kubernetes.authorization.PathCheck",
        path,
    ),
    row(
        "authorizer_group",
        ".group(kubernetes.authorization.Authorizer, string) -> kubernetes.authorization.GroupCheck",
        group,
    ),
    row(
        "authorizer_serviceaccount",
        ".serviceAccount(kubernetes.authorization.Authorizer, string, string) -> kubernetes.authorization.Authorizer",
        service_account,
    ),
    row(
        "groupcheck_resource",
        ".resource(kubernetes.authorization.GroupCheck, string) -> kubernetes.authorization.ResourceCheck",
        resource,
    ),
    row(
        "resourcecheck_subresource",
        ".subresource(kubernetes.authorization.ResourceCheck, string) -> kubernetes.authorization.ResourceCheck",
        subresource,
    ),
    row(
        "resourcecheck_namespace",
        ".namespace(kubernetes.authorization.ResourceCheck, string) -> kubernetes.authorization.ResourceCheck",
        namespace,
    ),
    row(
        "resourcecheck_name",
        ".name(kubernetes.authorization.ResourceCheck, string) -> kubernetes.authorization.ResourceCheck",
        name,
    ),
    row(
        "pathcheck_check",
        ".check(kubernetes.authorization.PathCheck, string) -> kubernetes.authorization.Decision",
        check,
    ),
    row(
        "resourcecheck_check",
        ".check(kubernetes.authorization.ResourceCheck, string) -> kubernetes.authorization.Decision",
        check,
    ),
    row("decision_errored", ".errored(kubernetes.authorization.Decision) -> bool", errored),
    row("decision_error", ".error(kubernetes.authorization.Decision) -> string", error),
    row("decision_allowed", ".allowed(kubernetes.authorization.Decision) -> bool", allowed),
    row("decision_reason", ".reason(kubernetes.authorization.Decision) -> string", reason),
];

pub(crate) const SELECTORS: &[Row] = &[
    row(
        "authorizer_fieldselector",
        ".fieldSelector(kubernetes.authorization.ResourceCheck, string) -> kubernetes.authorization.ResourceCheck",
        field_selector,
    ),
    row(
        "authorizer_labelselector",
        ".labelSelector(kubernetes.authorization.ResourceCheck, string) -> kubernetes.authorization.ResourceCheck",
        label_selector,
    ),
];

/// A question to the authorizer, for the user of the request unless a service account is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Check {
    /// Namespace and name.
    pub service_account: Option<(String, String)>,
    pub verb: String,
    pub target: Target,
}

/// What is to be accessed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Path(String),
    Resource(Resource),
}

impl Default for Target {
    fn default() -> Self {
        Target::Path(String::new())
    }
}

/// A resource of any version. Selectors are as they were written; one that cannot be read selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resource {
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
}

/// What the authorizer has answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub allowed: bool,
    pub reason: String,
    /// Set where the authorizer has failed.
    pub error: Option<String>,
}

/// Answers to the checks that have been asked.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    known: Vec<(Check, Answer)>,
}

impl Answers {
    pub fn add(&mut self, check: Check, answer: Answer) {
        self.known.push((check, answer));
    }

    fn get(&self, check: &Check) -> Option<&Answer> {
        self.known.iter().find(|(known, _)| known == check).map(|(_, answer)| answer)
    }
}

/// A step on the way to a check.
#[derive(Clone, Debug)]
pub enum Authorization {
    Authorizer { service_account: Option<(String, String)> },
    Path(Check),
    Group { service_account: Option<(String, String)>, group: String },
    Resource(Check),
    Decision(Answer),
}

impl Authorization {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Authorization::Authorizer { .. } => "kubernetes.authorization.Authorizer",
            Authorization::Path(_) => "kubernetes.authorization.PathCheck",
            Authorization::Group { .. } => "kubernetes.authorization.GroupCheck",
            Authorization::Resource(_) => "kubernetes.authorization.ResourceCheck",
            Authorization::Decision(_) => "kubernetes.authorization.Decision",
        }
    }
}

impl<'v> Value<'v> {
    /// The variable `authorizer`, which asks for the user of the request.
    pub fn authorizer() -> Value<'v> {
        value(Authorization::Authorizer { service_account: None })
    }

    /// The variable `authorizer.requestResource`, a check of the resource of the request.
    pub fn request_resource(resource: Resource) -> Value<'v> {
        value(Authorization::Resource(Check { target: Target::Resource(resource), ..Check::default() }))
    }
}

fn value<'v>(authorization: Authorization) -> Value<'v> {
    Value::Extended(Extended::Authorization(Arc::new(authorization)))
}

/// The receiver and the string arguments of a call.
fn read<'a>(context: &Context<'_>, args: &'a [Value<'_>]) -> Outcome<(&'a Authorization, Vec<&'a str>)> {
    let texts: Option<Vec<&str>> = args.iter().skip(1).map(Value::as_str).collect();
    match (args.first(), texts) {
        (Some(Value::Extended(Extended::Authorization(receiver))), Some(texts)) => Ok((receiver, texts)),
        _ => Err(super::mismatch(context.function, args)),
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn path<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match read(context, args)? {
        (Authorization::Authorizer { .. }, texts) if texts.iter().any(|text| is_blank(text)) => {
            Err(EvalError::message("path must not be empty"))
        }
        (Authorization::Authorizer { service_account }, texts) => {
            let target = Target::Path(texts.concat());
            let check = Check { service_account: service_account.clone(), target, ..Check::default() };
            Ok(value(Authorization::Path(check)))
        }
        _ => Err(super::mismatch(context.function, args)),
    }
}

fn group<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match read(context, args)? {
        (Authorization::Authorizer { service_account }, texts) => {
            let group = texts.concat();
            Ok(value(Authorization::Group { service_account: service_account.clone(), group }))
        }
        _ => Err(super::mismatch(context.function, args)),
    }
}

fn service_account<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match read(context, args)? {
        (Authorization::Authorizer { .. }, texts) => match texts.as_slice() {
            [_, name] if !names::is_dns1123_subdomain(name) => {
                Err(EvalError::message("Invalid service account name"))
            }
            [namespace, _] if !names::is_dns1123_label(namespace) => {
                Err(EvalError::message("Invalid service account namespace"))
            }
            [namespace, name] => {
                let service_account = Some(((*namespace).to_owned(), (*name).to_owned()));
                Ok(value(Authorization::Authorizer { service_account }))
            }
            _ => Err(super::mismatch(context.function, args)),
        },
        _ => Err(super::mismatch(context.function, args)),
    }
}

fn resource<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match read(context, args)? {
        (Authorization::Group { .. }, texts) if texts.iter().any(|text| is_blank(text)) => {
            Err(EvalError::message("resource must not be empty"))
        }
        (Authorization::Group { service_account, group }, texts) => {
            let resource = Resource { group: group.clone(), resource: texts.concat(), ..Resource::default() };
            let target = Target::Resource(resource);
            let check = Check { service_account: service_account.clone(), target, ..Check::default() };
            Ok(value(Authorization::Resource(check)))
        }
        _ => Err(super::mismatch(context.function, args)),
    }
}

/// Sets a part of the resource of a check.
fn with<'v>(context: &Context<'_>, args: &[Value<'v>], set: fn(&mut Resource, String)) -> Outcome<Value<'v>> {
    match read(context, args)? {
        (Authorization::Resource(check), texts) => {
            let mut check = check.clone();
            if let Target::Resource(resource) = &mut check.target {
                set(resource, texts.concat());
            }
            Ok(value(Authorization::Resource(check)))
        }
        _ => Err(super::mismatch(context.function, args)),
    }
}

fn subresource<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    with(context, args, |resource, text| resource.subresource = text)
}

fn namespace<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    with(context, args, |resource, text| resource.namespace = text)
}

fn name<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    with(context, args, |resource, text| resource.name = text)
}

fn field_selector<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    with(context, args, |resource, text| resource.field_selector = text)
}

fn label_selector<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    with(context, args, |resource, text| resource.label_selector = text)
}

fn check<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match read(context, args)? {
        (Authorization::Path(check) | Authorization::Resource(check), texts) => {
            let check = Check { verb: texts.concat(), ..check.clone() };
            match context.answers.get(&check) {
                Some(answer) => Ok(value(Authorization::Decision(answer.clone()))),
                None => Err(EvalError::Need(Box::new(check))),
            }
        }
        _ => Err(super::mismatch(context.function, args)),
    }
}

fn decision<'a>(context: &Context<'_>, args: &'a [Value<'_>]) -> Outcome<&'a Answer> {
    match read(context, args)? {
        (Authorization::Decision(answer), _) => Ok(answer),
        _ => Err(super::mismatch(context.function, args)),
    }
}

fn errored<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Bool(decision(context, args)?.error.is_some()))
}

fn error<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::text(decision(context, args)?.error.as_deref().unwrap_or_default()))
}

fn allowed<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Bool(decision(context, args)?.allowed))
}

fn reason<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::text(decision(context, args)?.reason.as_str()))
}
