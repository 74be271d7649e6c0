//! `ValidatingAdmissionPolicy`: what must hold of a request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::status::Cause;
use api::{Status, Tree, json};
use async_trait::async_trait;
use cel::{Answers, Value};

use super::policy::{Binding, Policy, Validation};
use super::request::{Invocation, Misconfigured, Shown, namespace, select};
use super::{Checked, Enforcement, error_type, is_exempt, known};
use crate::expressions::{Evaluation, OUT_OF_BUDGET};
use crate::{Attributes, Plugin, Point, Services};

/// Longest value of an audit annotation, in bytes.
const MAX_ANNOTATION: usize = 10 * 1024;
/// Failures in the audit annotation that lists them.
const MAX_FAILURES: usize = 50;

pub struct ValidatingAdmissionPolicy {
    services: Arc<dyn Services>,
}

impl ValidatingAdmissionPolicy {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }
}

/// What a validation has found.
struct Decision {
    /// Why it does not hold, or could not be evaluated. `None` where it holds.
    refusal: Option<Refusal>,
    took: Duration,
}

struct Refusal {
    message: String,
    reason: String,
    /// The policy itself has failed, which its failure policy decides about.
    failed: bool,
}

impl Refusal {
    fn failure(message: impl Into<String>) -> Refusal {
        Refusal { message: message.into(), reason: String::new(), failed: true }
    }

    fn error_type(&self) -> &'static str {
        error_type(&self.message)
    }
}

/// An audit annotation that is to be made, or why it cannot be.
struct Note<'p> {
    key: &'p str,
    value: Result<String, String>,
    took: Duration,
}

/// What has been found out about a request.
#[derive(Default)]
struct Findings {
    /// The first one, in upstream's words, with its reason.
    denied: Option<(String, String)>,
    failures: Vec<Tree>,
    /// Keys of annotations with their values, of one policy.
    notes: Vec<(String, Vec<String>)>,
}

#[async_trait]
impl Plugin for ValidatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        !is_exempt(point)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Tree) -> Result<(), Status> {
        let policies = known(&*self.services, attributes, false).await?;
        let concerning = policies.concerning(&attributes.resource.plural);
        if concerning.is_empty() {
            return Ok(());
        }
        let selected = select(&*self.services, attributes, object, &concerning, false).await;
        if selected.is_empty() {
            return Ok(());
        }
        let namespace = namespace(&*self.services, attributes).await?;
        let mut versions: Vec<Shown<'_>> = Vec::new();
        let mut answers = Answers::default();
        let mut findings = Findings::default();
        let mut last: Option<&Policy> = None;
        for invocation in &selected {
            let policy = match invocation {
                Ok(invocation) => invocation.policy,
                Err(misconfigured) => misconfigured.policy,
            };
            if let Some(last) = last.filter(|last| !std::ptr::eq(*last, policy)) {
                findings.publish(last, attributes);
            }
            last = Some(policy);
            let invocation = match invocation {
                Ok(invocation) => invocation,
                Err(misconfigured) => {
                    findings.misconfigured(misconfigured);
                    continue;
                }
            };
            let known =
                versions.iter().position(|shown| shown.resource.is_same_version(&invocation.resource));
            let place = match known {
                Some(place) => place,
                None => {
                    match Shown::of(attributes, object, &invocation.resource).await {
                        Ok(shown) => versions.push(shown),
                        Err(error) => {
                            findings.misconfigured(&Misconfigured {
                                policy,
                                binding: Some(invocation.binding),
                                message: format!(
                                    "failed to configure binding: failed to convert object version: {}",
                                    error.message
                                ),
                            });
                            continue;
                        }
                    }
                    versions.len() - 1
                }
            };
            for parameters in &invocation.parameters {
                let check = Check {
                    services: &*self.services,
                    attributes,
                    policy,
                    shown: &versions[place],
                    parameters: parameters.as_deref(),
                    namespace: &namespace,
                };
                let (decisions, notes) = check.run(&mut answers).await;
                self.enforce(attributes, invocation, decisions, notes, &mut findings);
            }
        }
        if let Some(last) = last {
            findings.publish(last, attributes);
        }
        findings.close(attributes)
    }
}

impl ValidatingAdmissionPolicy {
    /// Does what the binding asks for.
    fn enforce(
        &self,
        attributes: &Attributes<'_>,
        invocation: &Invocation<'_>,
        decisions: Vec<Decision>,
        notes: Vec<Note<'_>>,
        findings: &mut Findings,
    ) {
        let Invocation { policy, binding, .. } = invocation;
        let count = |enforcement, error, took| {
            let (policy, binding) = (&*policy.name, &*binding.name);
            self.services.checked(&Checked { policy, binding, error, enforcement, took });
        };
        for (index, decision) in decisions.iter().enumerate() {
            let Some(refusal) = &decision.refusal else { continue };
            if refusal.failed && policy.ignores_failures {
                count(Enforcement::Allow, refusal.error_type(), decision.took);
                continue;
            }
            for action in &binding.actions {
                let enforcement = match action.as_str() {
                    "Deny" => {
                        findings.deny(policy, Some(binding), &refusal.message, &refusal.reason);
                        Enforcement::Deny
                    }
                    "Audit" => {
                        findings.failures.push(json!({
                            "message": &*refusal.message,
                            "policy": &*policy.name,
                            "binding": &*binding.name,
                            "expressionIndex": index,
                            "validationActions": Tree::Array(
                                binding.actions.iter().map(|action| action.as_str().into()).collect()
                            ),
                        }));
                        Enforcement::Audit
                    }
                    "Warn" => {
                        attributes.context.warn(format!(
                            "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                            policy.name, binding.name, refusal.message
                        ));
                        Enforcement::Warn
                    }
                    _ => continue,
                };
                count(enforcement, refusal.error_type(), decision.took);
            }
        }
        for note in notes {
            match note.value {
                Ok(value) => findings.note(note.key, value),
                Err(message) => {
                    findings.deny(policy, Some(binding), &message, "");
                    count(Enforcement::Deny, error_type(&message), note.took);
                }
            }
        }
    }
}

/// The check of a request by one policy with one set of parameters.
struct Check<'a> {
    services: &'a dyn Services,
    attributes: &'a Attributes<'a>,
    policy: &'a Policy,
    shown: &'a Shown<'a>,
    parameters: Option<&'a Tree>,
    namespace: &'a Tree,
}

impl<'a> Check<'a> {
    async fn run(&self, answers: &mut Answers) -> (Vec<Decision>, Vec<Note<'a>>) {
        let failed = |message: String| {
            let refusal = Some(Refusal::failure(message));
            (vec![Decision { refusal, took: Duration::ZERO }], Vec::new())
        };
        let policy = self.policy;
        if !policy.conditions.is_empty() {
            match self.matches(answers).await {
                Ok(true) => {}
                Ok(false) => return (Vec::new(), Vec::new()),
                // a policy that ignores its failures is then not about the request
                Err(_) if policy.ignores_failures => return (Vec::new(), Vec::new()),
                Err(message) => return failed(message),
            }
        }
        let decisions = match self.validations(answers).await {
            Ok(decisions) => decisions,
            Err(message) => return failed(message),
        };
        match self.annotations(answers).await {
            Ok(notes) => (decisions, notes),
            Err(message) => failed(message),
        }
    }

    fn evaluation<'e>(
        &'e self,
        answers: &'e mut Answers,
        asks: bool,
        matching: bool,
        budget: u64,
    ) -> Result<Evaluation<'e, 'e>, String> {
        let objects = self.shown.objects(&self.shown.object, self.policy, self.parameters, self.namespace);
        let objects = if matching { self.shown.matching(objects) } else { objects };
        let activation = objects.activation(asks.then_some(self.attributes));
        Ok(Evaluation {
            services: self.services,
            attributes: self.attributes,
            composed: &self.policy.composed,
            activation: activation.map_err(|error| error.to_string())?,
            answers,
            budget,
        })
    }

    async fn matches(&self, answers: &mut Answers) -> Result<bool, String> {
        let mut evaluation = self.evaluation(answers, true, true, cel::MATCH_CONDITIONS_BUDGET)?;
        self.policy.conditions.hold(&mut evaluation).await
    }

    async fn validations(&self, answers: &mut Answers) -> Result<Vec<Decision>, String> {
        let mut results = Vec::new();
        let mut evaluation = self.evaluation(answers, true, false, cel::BUDGET)?;
        for validation in &self.policy.validations {
            let began = Instant::now();
            let value = evaluation.evaluate(&validation.expression).await;
            let holds =
                value.map_err(|_| OUT_OF_BUDGET.to_owned())?.map(|value| value.as_bool() == Some(true));
            results.push((holds, began.elapsed()));
        }
        let left = evaluation.budget;
        let mut messages = self.evaluation(answers, false, false, left)?;
        let mut said = Vec::new();
        let mut exhausted = false;
        for validation in &self.policy.validations {
            let Some(expression) = &validation.message_expression else {
                said.push(None);
                continue;
            };
            match messages.evaluate(expression).await {
                Ok(value) => said.push(value.ok().as_ref().and_then(message)),
                Err(_) => {
                    exhausted = true;
                    break;
                }
            }
        }
        let all = self.policy.validations.iter().zip(results).enumerate();
        let decided = all.map(|(index, (validation, (holds, took)))| {
            let refusal = match holds {
                Err(error) => Some(Refusal::failure(error)),
                Ok(_) if exhausted => {
                    Some(Refusal::failure(format!("failed messageExpression: {OUT_OF_BUDGET}")))
                }
                Ok(true) => None,
                Ok(false) => Some(validation.refusal(said.get_mut(index).and_then(Option::take))),
            };
            Decision { refusal, took }
        });
        Ok(decided.collect())
    }

    async fn annotations(&self, answers: &mut Answers) -> Result<Vec<Note<'a>>, String> {
        let mut notes = Vec::new();
        if self.policy.annotations.is_empty() {
            return Ok(notes);
        }
        let mut evaluation = self.evaluation(answers, false, false, cel::BUDGET)?;
        for annotation in &self.policy.annotations {
            let began = Instant::now();
            let value = evaluation.evaluate(&annotation.value).await.map_err(|_| OUT_OF_BUDGET.to_owned())?;
            let value = match value {
                Err(_) if self.policy.ignores_failures => continue,
                Err(error) => Err(error),
                Ok(Value::Null) => continue,
                Ok(value) => match value.as_str().map(str::trim) {
                    Some("") => continue,
                    Some(text) => Ok(text.to_owned()),
                    None => Err(format!(
                        "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                        annotation.value.text,
                        value.type_of().name()
                    )),
                },
            };
            notes.push(Note { key: &annotation.key, value, took: began.elapsed() });
        }
        Ok(notes)
    }
}

/// What a message expression says, where it says something that can be shown.
fn message(value: &Value<'_>) -> Option<String> {
    let text = value.as_str()?.trim();
    let fits = !text.is_empty() && text.len() <= cel::MAX_MESSAGE && !text.contains('\n');
    fits.then(|| text.to_owned())
}

impl Validation {
    fn refusal(&self, said: Option<String>) -> Refusal {
        let message = said.unwrap_or_else(|| match self.message.as_str() {
            "" => format!("failed expression: {}", self.expression.text.trim()),
            message => message.to_owned(),
        });
        let reason = if self.reason.is_empty() { "Invalid" } else { &self.reason };
        Refusal { message, reason: reason.to_owned(), failed: false }
    }
}

impl Findings {
    fn misconfigured(&mut self, misconfigured: &Misconfigured<'_>) {
        let Misconfigured { policy, binding, message } = misconfigured;
        if !policy.ignores_failures {
            self.deny(policy, *binding, message, "");
        }
    }

    fn deny(&mut self, policy: &Policy, binding: Option<&Binding>, message: &str, reason: &str) {
        let by = binding.map_or(String::new(), |binding| format!(" with binding '{}'", binding.name));
        let reason = if reason.is_empty() { "Invalid" } else { reason };
        self.denied.get_or_insert_with(|| {
            let message =
                format!("ValidatingAdmissionPolicy '{}'{by} denied request: {message}", policy.name);
            (message, reason.to_owned())
        });
    }

    fn note(&mut self, key: &str, mut value: String) {
        value.truncate(value.floor_char_boundary(MAX_ANNOTATION));
        let place = self.notes.iter().position(|(known, _)| known == key).unwrap_or_else(|| {
            self.notes.push((key.to_owned(), Vec::new()));
            self.notes.len() - 1
        });
        let values = &mut self.notes[place].1;
        if !values.contains(&value) {
            values.push(value);
        }
    }

    fn publish(&mut self, policy: &Policy, attributes: &Attributes<'_>) {
        for (key, values) in self.notes.drain(..) {
            attributes.context.annotate(format!("{}/{key}", policy.name), values.join(", "));
        }
    }

    fn close(mut self, attributes: &Attributes<'_>) -> Result<(), Status> {
        if !self.failures.is_empty() {
            self.failures.truncate(MAX_FAILURES);
            let key = "validation.policy.admission.k8s.io/validation_failure".to_owned();
            attributes.context.annotate(key, Tree::Array(self.failures).to_string());
        }
        let Some((message, reason)) = self.denied else { return Ok(()) };
        let mut status = attributes.forbid(&message);
        status.code = match reason.as_str() {
            "Forbidden" => 403,
            "Unauthorized" => 401,
            "RequestEntityTooLarge" => 413,
            _ => 422,
        };
        status.reason = reason;
        let cause = Cause { reason: String::new(), message, field: String::new() };
        status.details.get_or_insert_default().causes.push(cause);
        Err(status)
    }
}
