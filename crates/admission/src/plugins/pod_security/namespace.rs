//! Namespaces: labels that cannot be read are refused, and pods that a new level would refuse are named.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Status, Tree};
use registry::tree::{get, list, text};

use super::checks::{reasons, violations};
use super::{Level, LevelVersion, PodSecurity, Policy};
use crate::{Attributes, Operation};

/// Pods that are looked at, and for how long.
const MOST_PODS: usize = 3000;
const LONGEST: Duration = Duration::from_secs(1);
/// Pods between which other requests have their turn.
const PART: usize = 50;

impl PodSecurity {
    pub(super) async fn namespace(
        &self,
        attributes: &Attributes<'_>,
        namespace: &Tree,
    ) -> Result<(), Status> {
        let (policy, causes) = Policy::of_namespace(namespace, &self.settings.defaults);
        let invalid = |causes| Err(Status::invalid("", "Namespace", attributes.name, causes));
        let is_exempt = self.settings.exempt_namespaces.contains(attributes.namespace);
        if attributes.operation == Operation::Create {
            if !causes.is_empty() {
                return invalid(causes);
            }
            if is_exempt {
                self.warn_of_exemption(attributes, namespace, &policy);
            }
            return Ok(());
        }
        let Some(old) = attributes.old else { return Ok(()) };
        let (before, old_causes) = Policy::of_namespace(old, &self.settings.defaults);
        if !causes.is_empty() && causes != old_causes {
            return invalid(causes);
        }
        let (now, before) = (policy.enforce, before.enforce);
        let asks_no_more = now == before
            || now.level == Level::Privileged
            || now.version == before.version && now.level <= before.level;
        if asks_no_more {
            return Ok(());
        }
        if is_exempt {
            self.warn_of_exemption(attributes, namespace, &policy);
            return Ok(());
        }
        for warning in self.pods_that_violate(attributes.name, now).await {
            attributes.context.warn(warning);
        }
        Ok(())
    }

    fn warn_of_exemption(&self, attributes: &Attributes<'_>, namespace: &Tree, policy: &Policy) {
        if policy.is_privileged() || policy.allows_as(&self.settings.defaults) {
            return;
        }
        let (name, asked) = (text(namespace, "metadata.name"), policy.asked_for(namespace));
        attributes.context.warn(format!(
            "namespace {name:?} is exempt from Pod Security, and the policy ({asked}) will be ignored"
        ));
    }

    /// Warnings of pods that could not be created any more.
    async fn pods_that_violate(&self, namespace: &str, policy: LevelVersion) -> Vec<String> {
        let begun = Instant::now();
        let Ok(pods) = self.services.list("", "pods", namespace) else {
            return vec!["failed to list pods while checking new PodSecurity enforce level".to_owned()];
        };
        let pods = self.ordered(pods);
        let mut checked = 0;
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in pods.iter().take(MOST_PODS) {
            let violations = violations(policy, pod);
            if !violations.is_empty() {
                found.entry(reasons(&violations)).or_default().push(text(pod, "metadata.name").to_owned());
            }
            checked += 1;
            if begun.elapsed() > LONGEST {
                break;
            }
            if checked % PART == 0 {
                tokio::task::yield_now().await;
            }
        }
        let mut warnings = Vec::new();
        if checked < pods.len() {
            let all = pods.len();
            warnings.push(format!(
                "new PodSecurity enforce level only checked against the first {checked} of {all} existing pods"
            ));
        }
        if !found.is_empty() {
            warnings.push(format!(
                "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{policy}\""
            ));
        }
        let mut of_pods: Vec<String> = found.into_iter().map(|(why, names)| named(names, &why)).collect();
        of_pods.sort();
        warnings.extend(of_pods);
        warnings
    }

    /// One of each controller's pods first: the others are likely the same.
    fn ordered(&self, pods: Vec<Arc<Tree>>) -> Vec<Arc<Tree>> {
        let mut controllers = HashSet::new();
        let exempt = &self.settings.exempt_runtime_classes;
        let pods = pods.into_iter().filter(|pod| !exempt.contains(text(pod, "spec.runtimeClassName")));
        let (mut first, others): (Vec<_>, Vec<_>) = pods.partition(|pod| {
            let owners = list(pod, "metadata.ownerReferences").iter();
            let controller =
                owners.into_iter().find(|owner| get(owner, "controller").as_bool() == Some(true));
            controller.is_none_or(|controller| controllers.insert(text(controller, "uid").to_owned()))
        });
        first.extend(others);
        first
    }
}

/// `a (and 2 other pods): why`
fn named(mut names: Vec<String>, why: &str) -> String {
    names.sort();
    let others = match names.len() {
        1 => String::new(),
        2 => " (and 1 other pod)".to_owned(),
        count => format!(" (and {} other pods)", count - 1),
    };
    format!("{}{others}: {why}", names[0])
}
