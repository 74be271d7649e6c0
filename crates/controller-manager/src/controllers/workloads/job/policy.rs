//! `spec.podFailurePolicy`: what a pod's failure means, by exit code or condition.

use k8s_openapi::api::batch::v1::{PodFailurePolicy, PodFailurePolicyRule};

use controllers::views::{Pod, Terminated};

#[derive(Debug, PartialEq)]
pub(super) enum Meaning {
    /// A failure like any other.
    Count,
    /// Does not count as a failure of the job.
    Ignore,
    /// The end of the job, and why.
    FailJob(String),
    /// The end of the pod's index.
    FailIndex,
}

pub(super) fn meaning(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Meaning {
    if pod.status.phase != "Failed" {
        return Meaning::Count;
    }
    for (number, rule) in policy.into_iter().flat_map(|policy| &policy.rules).enumerate() {
        let Some(why) = matches(rule, pod, number) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Meaning::Ignore,
            "FailJob" => Meaning::FailJob(why),
            "FailIndex" => Meaning::FailIndex,
            _ => Meaning::Count,
        };
    }
    Meaning::Count
}

fn matches(rule: &PodFailurePolicyRule, pod: &Pod, number: usize) -> Option<String> {
    let key = pod.metadata.key();
    if let Some(codes) = &rule.on_exit_codes {
        let statuses = pod.status.container_statuses.iter().chain(&pod.status.init_container_statuses);
        let named = |name: &str| {
            codes.container_name.as_ref().is_none_or(|wanted| wanted.is_empty() || wanted == name)
        };
        let ended: Vec<(&str, &Terminated)> = statuses
            .filter(|status| named(&status.name))
            .filter_map(|status| Some((status.name.as_str(), status.state.terminated.as_ref()?)))
            .filter(|(_, terminated)| terminated.exit_code != 0)
            .collect();
        let found = ended
            .into_iter()
            .find(|(_, terminated)| codes.values.contains(&terminated.exit_code) == (codes.operator == "In"));
        if let Some((name, terminated)) = found {
            let code = terminated.exit_code;
            let action = &rule.action;
            return Some(format!(
                "Container {name} for pod {key} failed with exit code {code} matching {action} rule at index {number}"
            ));
        }
    }
    let patterns = rule.on_pod_conditions.iter().flatten();
    for pattern in patterns {
        let status = pattern.status.as_deref().unwrap_or("True");
        if pod
            .status
            .conditions
            .iter()
            .any(|condition| condition.type_ == pattern.type_ && condition.status == status)
        {
            let (type_, action) = (&pattern.type_, &rule.action);
            return Some(format!("Pod {key} has condition {type_} matching {action} rule at index {number}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn first_matching_rule() {
        let policy: PodFailurePolicy = serde_json::from_value(json!({"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}},
        ]}))
        .unwrap();
        let pod = |code: i32, condition: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "d"}, "status": {
                "phase": "Failed",
                "conditions": [{"type": condition, "status": "True"}],
                "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": code}}}],
            }}))
            .unwrap()
        };
        assert_eq!(meaning(Some(&policy), &pod(42, "DisruptionTarget")), Meaning::Ignore);
        assert_eq!(meaning(Some(&policy), &pod(1, "Ready")), Meaning::Count);
        let message = "Container c for pod d/p failed with exit code 42 matching FailJob rule at index 1";
        assert_eq!(meaning(Some(&policy), &pod(42, "Ready")), Meaning::FailJob(message.into()));
        assert_eq!(meaning(None, &pod(42, "Ready")), Meaning::Count);
    }
}
