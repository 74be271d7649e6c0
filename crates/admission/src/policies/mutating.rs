//! `MutatingAdmissionPolicy`: what is to become of a request's object. One policy after the other, each sees what those before it made.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use api::decode::Strictness;
use api::status::Cause;
use api::{Status, Tree};
use async_trait::async_trait;
use cel::Answers;
use machinery::ownership::types::Type;
use registry::tree::text;

use super::patch::{Failure, configured, patched};
use super::policy::{Binding, Mutation, Policy};
use super::request::{Invocation, Misconfigured, Shown, namespace, select};
use super::{Checked, Enforcement, error_type, is_exempt, known};
use crate::expressions::{Evaluation, Expression, OUT_OF_BUDGET, Objects};
use crate::mutated::Mutated;
use crate::{Attributes, Operation, Plugin, Point, Services};

pub struct MutatingAdmissionPolicy {
    services: Arc<dyn Services>,
}

impl MutatingAdmissionPolicy {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }
}

/// A policy, its binding, and namespace and name of its parameters.
type Key = (String, String, String, String);

/// What a request's first round says about its second.
#[derive(Debug, Default)]
pub(crate) struct Invoked {
    /// Those that have acted and want to see later changes.
    invoked: HashSet<Key>,
    /// Those that act again.
    again: HashSet<Key>,
    /// What the policies made of the object.
    output: Option<Tree>,
}

impl Invoked {
    fn changed(&mut self) {
        self.again.extend(self.invoked.drain());
    }
}

/// A policy that has failed.
struct Error<'p> {
    policy: &'p Policy,
    binding: Option<&'p Binding>,
    message: String,
    /// Empty for `Forbidden`.
    reason: &'static str,
}

impl Error<'_> {
    fn text(&self) -> String {
        let Error { policy, binding, message, .. } = self;
        match binding {
            Some(binding) => {
                format!("policy '{}' with binding '{}' denied request: {message}", policy.name, binding.name)
            }
            None => format!("policy {:?} denied request: {message}", policy.name),
        }
    }
}

#[async_trait]
impl Plugin for MutatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "MutatingAdmissionPolicy"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.operation != Operation::Delete && !is_exempt(point)
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: &mut Tree) -> Result<(), Status> {
        let policies = known(&*self.services, attributes, true).await?;
        let concerning = policies.concerning(&attributes.resource.plural);
        if concerning.is_empty() {
            return Ok(());
        }
        let selected = select(&*self.services, attributes, object, &concerning, true).await;
        let mut errors = Vec::new();
        let mut invocations = Vec::new();
        for selected in selected {
            match selected {
                Ok(invocation) => invocations.push(invocation),
                Err(Misconfigured { policy, binding, message }) => {
                    errors.push(Error { policy, binding, message, reason: "" });
                }
            }
        }
        if invocations.iter().any(|invocation| !invocation.parameters.is_empty()) {
            let second = attributes.round.is_second();
            attributes.round.with_policies(|invoked| {
                // in-tree plugins changed what the policies left
                if second && invoked.output.as_ref().is_some_and(|output| output != object) {
                    invoked.changed();
                }
            });
            let mut seen = Mutated::new(attributes, object);
            self.invoke_all(attributes, &invocations, &mut seen, &mut errors).await?;
            seen.close(attributes).await?;
            attributes.round.with_policies(|invoked| invoked.output = Some(object.clone()));
        }
        errors.retain(|error| !error.policy.ignores_failures);
        refuse(attributes, &errors)
    }
}

impl MutatingAdmissionPolicy {
    async fn invoke_all<'p>(
        &self,
        attributes: &Attributes<'_>,
        invocations: &[Invocation<'p>],
        seen: &mut Mutated<'_>,
        errors: &mut Vec<Error<'p>>,
    ) -> Result<(), Status> {
        let namespace = namespace(&*self.services, attributes).await?;
        let mut answers = Answers::default();
        for invocation in invocations {
            for parameters in &invocation.parameters {
                seen.show(attributes, &invocation.resource).await?;
                let mut run = Run {
                    services: &*self.services,
                    attributes,
                    invocation,
                    parameters: parameters.as_deref(),
                    namespace: &namespace,
                    answers: &mut answers,
                };
                let failed = run.act(seen).await?;
                errors.extend(failed.into_iter().map(|message| Error {
                    policy: invocation.policy,
                    binding: Some(invocation.binding),
                    message,
                    reason: "Invalid",
                }));
            }
        }
        Ok(())
    }
}

/// One policy acting on a request with one set of parameters.
struct Run<'a> {
    services: &'a dyn Services,
    attributes: &'a Attributes<'a>,
    invocation: &'a Invocation<'a>,
    parameters: Option<&'a Tree>,
    namespace: &'a Tree,
    answers: &'a mut Answers,
}

impl Run<'_> {
    /// Makes the mutations of a policy whose conditions hold; answers those that have failed.
    async fn act(&mut self, seen: &mut Mutated<'_>) -> Result<Vec<String>, Status> {
        let (attributes, policy) = (self.attributes, self.invocation.policy);
        if !policy.conditions.is_empty() {
            match self.matches(seen).await? {
                Ok(true) => {}
                Ok(false) => return Ok(Vec::new()),
                Err(message) => return Ok(vec![message]),
            }
        }
        let key = self.key();
        // who did not act in the first round does not in the second either
        if attributes.round.is_second()
            && !attributes.round.with_policies(|invoked| invoked.again.contains(&key))
        {
            return Ok(Vec::new());
        }
        let (mut failed, mut changed) = (Vec::new(), false);
        if !seen.object.is_null() {
            for mutation in &policy.mutations {
                let began = Instant::now();
                let made = self.mutate(mutation, seen).await;
                let error = match made {
                    Ok(made) => {
                        changed |= made;
                        "no_error"
                    }
                    Err(Failure::Policy(message)) => {
                        let error = error_type(&message);
                        failed.push(message);
                        error
                    }
                    Err(Failure::Request(status)) => {
                        self.count(error_type(&status.message), began);
                        return Err(*status);
                    }
                };
                self.count(error, began);
            }
        }
        attributes.round.with_policies(|invoked| {
            if changed {
                invoked.changed();
            }
            if policy.reinvoked {
                invoked.invoked.insert(key);
            }
        });
        if changed {
            attributes.round.ask_again();
        }
        Ok(failed)
    }

    fn key(&self) -> Key {
        let of = |field: &str| self.parameters.map_or("", |parameters| text(parameters, field)).to_owned();
        let Invocation { policy, binding, .. } = self.invocation;
        (policy.name.clone(), binding.name.clone(), of("metadata.namespace"), of("metadata.name"))
    }

    fn count(&self, error: &'static str, began: Instant) {
        let Invocation { policy, binding, .. } = self.invocation;
        self.services.checked(&Checked {
            policy: &policy.name,
            binding: &binding.name,
            error,
            enforcement: Enforcement::Mutation,
            took: began.elapsed(),
        });
    }

    fn evaluation<'e>(&'e mut self, objects: Objects<'e>, budget: u64) -> Result<Evaluation<'e, 'e>, String> {
        let activation = objects.activation(Some(self.attributes)).map_err(|error| error.to_string())?;
        Ok(Evaluation {
            services: self.services,
            attributes: self.attributes,
            composed: &self.invocation.policy.composed,
            activation,
            answers: self.answers,
            budget,
        })
    }

    async fn matches(&mut self, seen: &Mutated<'_>) -> Result<Result<bool, String>, Status> {
        let policy = self.invocation.policy;
        let shown = Shown::of(self.attributes, &Tree::Null, &self.invocation.resource).await?;
        let objects = shown.matching(shown.objects(seen.object, policy, self.parameters, &Tree::Null));
        let mut evaluation = match self.evaluation(objects, cel::MATCH_CONDITIONS_BUDGET) {
            Ok(evaluation) => evaluation,
            Err(error) => return Ok(Err(error)),
        };
        Ok(policy.conditions.hold(&mut evaluation).await)
    }

    /// Makes one mutation; answers whether it changed anything.
    async fn mutate(&mut self, mutation: &Mutation, seen: &mut Mutated<'_>) -> Result<bool, Failure> {
        let attributes = self.attributes;
        // options of connections are in no published schema
        let described = attributes.operation != Operation::Connect;
        let Some(message) = seen.message(attributes).filter(|_| described) else {
            let kind = attributes.kind_in(&seen.version);
            return Err(Failure::from(Status::failure(
                503,
                "ServiceUnavailable",
                format!(
                    "Resource kind {}/{}, Kind={} not found. There can be a delay between when CustomResourceDefinitions are created and when they are available.",
                    kind.group, kind.version, kind.kind
                ),
            )));
        };
        let (expression, strictness) = match mutation {
            Mutation::ApplyConfiguration(expression) => (expression, Strictness::Ignore),
            Mutation::JsonPatch(expression) => (expression, Strictness::Strict),
        };
        if let Expression { program: Err(error), .. } = expression {
            return Err(error.clone().into());
        }
        let made = {
            let shown = Shown::of(attributes, &Tree::Null, &self.invocation.resource).await?;
            let (policy, namespace) = (self.invocation.policy, self.namespace);
            let objects = shown.objects(seen.object, policy, self.parameters, namespace);
            let mut evaluation = self.evaluation(objects, cel::BUDGET)?;
            let value = evaluation.evaluate(expression).await;
            let value = value.map_err(|_| OUT_OF_BUDGET.to_owned())??;
            match mutation {
                Mutation::ApplyConfiguration(_) => {
                    configured(seen.object, &value, Type::of_message(message))?
                }
                Mutation::JsonPatch(_) => patched(seen.object, &value)?,
            }
        };
        Ok(seen.replace(attributes, made, strictness)?)
    }
}

/// The refusal of a request whose policies have failed.
fn refuse(attributes: &Attributes<'_>, errors: &[Error<'_>]) -> Result<(), Status> {
    let Some(first) = errors.first() else { return Ok(()) };
    let mut status = attributes.forbid("admission request denied by policy");
    status.message = first.text();
    if !first.reason.is_empty() {
        status.reason = first.reason.to_owned();
    }
    let causes = errors.iter().map(|error| Cause {
        reason: String::new(),
        message: error.text(),
        field: String::new(),
    });
    status.details.get_or_insert_default().causes.extend(causes);
    Err(status)
}
