//! Which requests a webhook is asked about, and in which version it sees their objects.

use std::sync::Arc;

use api::{Status, Tree};
use cel::Answers;
use registry::Kind;

use super::hook::Hook;
use crate::described::described;
use crate::expressions::{Evaluation, Objects};
use crate::{Attributes, Services};

/// A webhook that is to be asked.
pub(super) struct Invocation<'a> {
    pub hook: &'a Hook,
    /// The resource in the version that the webhook's rule names.
    pub resource: Arc<Kind>,
}

/// Whether the webhook is to be asked about the request, whose object may have been changed by others before it, and is in
/// that version.
pub(super) async fn invocation<'a>(
    services: &dyn Services,
    hook: &'a Hook,
    attributes: &Attributes<'_>,
    object: &Tree,
    version: &Kind,
) -> Result<Option<Invocation<'a>>, Status> {
    let Some(resource) = hook.criteria.matches(services, attributes, object).await? else { return Ok(None) };
    let invocation = Invocation { hook, resource };
    if hook.conditions.is_empty() {
        return Ok(Some(invocation));
    }
    match holds(services, &invocation, attributes, object, version).await? {
        Ok(true) => Ok(Some(invocation)),
        Ok(false) => Ok(None),
        Err(_) if hook.ignores_failures => Ok(None),
        Err(why) => Err(attributes.forbid(&why)),
    }
}

/// Whether the webhook's conditions hold for the objects in the version in which it sees them.
async fn holds(
    services: &dyn Services,
    invocation: &Invocation<'_>,
    attributes: &Attributes<'_>,
    object: &Tree,
    version: &Kind,
) -> Result<Result<bool, String>, Status> {
    let shown = attributes.converted(object, version, &invocation.resource).await?;
    let old = attributes.old_in(&invocation.resource).await?;
    let request = described(attributes, &invocation.resource).into();
    let objects =
        Objects { object: &shown, old: &old, namespace: &Tree::Null, request: &request, params: None };
    let activation = match objects.activation(Some(attributes)) {
        Ok(activation) => activation,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let mut evaluation = Evaluation {
        services,
        attributes,
        composed: &Vec::new(),
        activation,
        answers: &mut Answers::default(),
        budget: cel::MATCH_CONDITIONS_BUDGET,
    };
    Ok(invocation.hook.conditions.hold(&mut evaluation).await)
}
