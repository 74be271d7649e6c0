//! `MutatingAdmissionWebhook`: one after the other, each sees what those before it made of the object.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use api::decode::Strictness;
use api::{Status, Tree, json};
use async_trait::async_trait;

use super::call::{self, Ended, Failure, ask, is_exempt};
use super::hook::Hook;
use super::matching::{Invocation, invocation};
use crate::mutated::Mutated;
use crate::{Attributes, Plugin, Point, Services};

pub struct MutatingAdmissionWebhook {
    services: Arc<dyn Services>,
}

/// What a request's first round says about its second.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Those asked so far that want to see later changes, by their address.
    invoked: HashSet<usize>,
    /// Those to be asked again.
    again: HashSet<usize>,
    /// What the webhooks made of the object.
    output: Option<Tree>,
}

impl Rounds {
    fn changed(&mut self) {
        self.again.extend(self.invoked.drain());
    }
}

impl MutatingAdmissionWebhook {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }
}

#[async_trait]
impl Plugin for MutatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        !is_exempt(point)
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: &mut Tree) -> Result<(), Status> {
        let hooks = call::hooks(&*self.services, attributes, true).await?;
        if hooks.is_empty() {
            return Ok(());
        }
        let second = attributes.round.is_second();
        attributes.round.with(|rounds| {
            // in-tree plugins changed what the webhooks left
            if second && rounds.output.as_ref().is_some_and(|output| output != object) {
                rounds.changed();
            }
        });
        let mut seen = Mutated::new(attributes, object);
        let outcome = self.ask_all(attributes, &hooks, &mut seen).await;
        outcome?;
        seen.close(attributes).await?;
        attributes.round.with(|rounds| rounds.output = Some(object.clone()));
        Ok(())
    }
}

/// Takes over a patch; answers whether that changed anything.
fn apply(
    seen: &mut Mutated<'_>,
    attributes: &Attributes<'_>,
    hook: &Hook,
    patch: &Tree,
) -> Result<bool, Status> {
    if seen.object.is_null() {
        return Err(Status::internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        )));
    }
    let patched =
        machinery::patch::json(seen.object, patch).map_err(|error| Status::internal(error.to_string()))?;
    seen.replace(attributes, patched, Strictness::Ignore)
}

impl MutatingAdmissionWebhook {
    async fn ask_all(
        &self,
        attributes: &Attributes<'_>,
        hooks: &[Arc<Hook>],
        seen: &mut Mutated<'_>,
    ) -> Result<(), Status> {
        let second = attributes.round.is_second();
        for (index, hook) in hooks.iter().enumerate() {
            let matched = invocation(&*self.services, hook, attributes, seen.object, &seen.version).await?;
            let Some(invocation) = matched else { continue };
            let place = Arc::as_ptr(hook) as usize;
            // whom the first round did not ask, the second does not either
            if second && !attributes.round.with(|rounds| rounds.again.contains(&place)) {
                continue;
            }
            let began = Instant::now();
            let asked = self.one(attributes, &invocation, seen).await;
            let notes = Annotations { attributes, hook, round: u8::from(second), index };
            notes.mutation(matches!(asked, Ok((true, _))));
            if let Ok((_, Some(patch))) = &asked {
                notes.patch(patch);
            }
            let changed = matches!(asked, Ok((true, _)));
            if changed {
                attributes.round.with(|rounds| rounds.changed());
                attributes.round.ask_again();
            }
            if hook.reinvoked {
                attributes.round.with(|rounds| rounds.invoked.insert(place));
            }
            match call::end(&*self.services, attributes, &invocation, "admit", began, asked)? {
                Ended::Well(_) => {}
                Ended::FailedOpen => notes.failed_open(),
            }
        }
        Ok(())
    }

    /// Whether the webhook changed the object, and by which patch.
    async fn one(
        &self,
        attributes: &Attributes<'_>,
        invocation: &Invocation<'_>,
        seen: &mut Mutated<'_>,
    ) -> Result<(bool, Option<Tree>), Failure> {
        seen.show(attributes, &invocation.resource).await.map_err(Failure::Own)?;
        let old = attributes.old_in(&invocation.resource).await.map_err(Failure::Own)?.into_owned();
        let answer = ask(&*self.services, attributes, invocation, seen.object.clone(), old, true).await?;
        let Some(patch) = answer.patch().map_err(|why| Failure::calling(why, 503))? else {
            return Ok((false, None));
        };
        let changed = apply(seen, attributes, invocation.hook, &patch).map_err(Failure::Own)?;
        Ok((changed, Some(patch)))
    }
}

/// What the audit log says of a call.
struct Annotations<'a> {
    attributes: &'a Attributes<'a>,
    hook: &'a Hook,
    round: u8,
    index: usize,
}

impl Annotations<'_> {
    fn add(&self, prefix: &str, value: String) {
        let key =
            format!("{prefix}mutation.webhook.admission.k8s.io/round_{}_index_{}", self.round, self.index);
        self.attributes.context.annotate(key, value);
    }

    fn mutation(&self, mutated: bool) {
        let Hook { configuration, name, .. } = self.hook;
        let said = json!({"configuration": configuration, "webhook": name, "mutated": mutated});
        self.add("", said.to_string());
    }

    fn patch(&self, patch: &Tree) {
        let Hook { configuration, name, .. } = self.hook;
        let said = json!({
            "configuration": configuration, "webhook": name, "patch": patch, "patchType": "JSONPatch",
        });
        let key = format!("patch.webhook.admission.k8s.io/round_{}_index_{}", self.round, self.index);
        self.attributes.context.annotate(key, said.to_string());
    }

    fn failed_open(&self) {
        self.add("failed-open.", self.hook.name.clone());
    }
}
