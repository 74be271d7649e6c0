//! `ValidatingAdmissionWebhook`: all at once, since none of them changes anything.

use std::sync::Arc;
use std::time::Instant;

use api::{Status, Tree};
use async_trait::async_trait;
use futures::future::join_all;

use super::call::{self, Ended, Failure, ask, is_exempt};
use super::matching::{Invocation, invocation};
use crate::{Attributes, Plugin, Point, Services};

pub struct ValidatingAdmissionWebhook {
    services: Arc<dyn Services>,
}

impl ValidatingAdmissionWebhook {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }
}

#[async_trait]
impl Plugin for ValidatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        !is_exempt(point)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Tree) -> Result<(), Status> {
        let hooks = call::hooks(&*self.services, attributes, false).await?;
        let mut invocations = Vec::new();
        for hook in hooks.iter() {
            invocations
                .extend(invocation(&*self.services, hook, attributes, object, attributes.shown).await?);
        }
        let asked = invocations.iter().enumerate().map(|(index, invocation)| async move {
            let began = Instant::now();
            let outcome = self.one(attributes, invocation, object).await;
            let ended = call::end(&*self.services, attributes, invocation, "validating", began, outcome)?;
            if let Ended::FailedOpen = ended {
                let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
                attributes.context.annotate(key, invocation.hook.name.clone());
            }
            Ok(())
        });
        join_all(asked).await.into_iter().collect()
    }
}

impl ValidatingAdmissionWebhook {
    async fn one(
        &self,
        attributes: &Attributes<'_>,
        invocation: &Invocation<'_>,
        object: &Tree,
    ) -> Result<(), Failure> {
        let resource = &invocation.resource;
        let shown = attributes.converted(object, attributes.shown, resource).await.map_err(Failure::Own)?;
        let old = attributes.old_in(resource).await.map_err(Failure::Own)?;
        let (shown, old) = (shown.into_owned(), old.into_owned());
        ask(&*self.services, attributes, invocation, shown, old, false).await.map(drop)
    }
}
