//! Whether a pod may be on this node by the node's own labels and taints, which others set through the API.

use super::{Refusal, predicate};
use crate::node::Facts;
use crate::pods;
use crate::run::Kubelet;
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};
use machinery::labels::{Operator, Requirement};
use std::collections::BTreeMap;
use tracing::warn;

/// Asks the API server how the node is described, where a pod would be refused by what is known of it: that may be old, and
/// a refusal is for good.
pub async fn refresh(kubelet: &Kubelet, pod: &Pod) {
    let Some(client) = &kubelet.client else { return };
    let facts = kubelet.node_facts.read().clone();
    let fits = belongs(pod, &kubelet.node_name, &facts.labels);
    if fits && (pods::is_static(pod) || taints(pod, &facts).is_ok()) {
        return;
    }
    match client.get::<Node>(None, &kubelet.node_name).await {
        Ok(node) => kubelet.note_node(&node),
        Err(error) => {
            warn!(pod = pods::title(pod), %error, "Cannot look up the node that a pod does not fit")
        }
    }
}

pub(super) fn affinity(pod: &Pod, name: &str, node: &Facts) -> Result<(), Refusal> {
    // While the API server has not described the node, it may have more labels than we know. A pod that ran here before
    // the kubelet was restarted would end by a refusal.
    let unknown = node.uid.is_empty() && !pods::is_static(pod);
    match unknown || belongs(pod, name, &node.labels) {
        true => Ok(()),
        false => Err(predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")),
    }
}

fn belongs(pod: &Pod, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let mut asked = spec.node_selector.iter().flatten();
    let affinity = spec.affinity.as_ref().and_then(|it| it.node_affinity.as_ref());
    let required = affinity.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref());
    asked.all(|(key, value)| labels.get(key) == Some(value))
        && required.is_none_or(|it| it.node_selector_terms.iter().any(|term| matches(term, name, labels)))
}

/// A term that asks for nothing matches nothing.
fn matches(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let (expressions, fields) = (term.match_expressions.iter().flatten(), term.match_fields.iter().flatten());
    if expressions.clone().next().is_none() && fields.clone().next().is_none() {
        return false;
    }
    let label = |key: &str| labels.get(key).map(String::as_str);
    let field = |key: &str| (key == "metadata.name").then_some(name);
    let holds = |asked: &NodeSelectorRequirement, value: Option<&str>| {
        requirement(asked).is_some_and(|requirement| requirement.matches(value))
    };
    expressions.into_iter().all(|it| holds(it, label(&it.key)))
        && fields.into_iter().all(|it| holds(it, field(&it.key)))
}

fn requirement(asked: &NodeSelectorRequirement) -> Option<Requirement> {
    let operator = Operator::of_node_selector(asked.operator.as_str())?;
    Some(Requirement::new(asked.key.clone(), operator, asked.values.clone().unwrap_or_default()))
}

/// The taints that would have it leave at once.
pub(super) fn taints(pod: &Pod, node: &Facts) -> Result<(), Refusal> {
    let text = "node(s) had taints that the pod didn't tolerate";
    let mut evicting = node.taints.iter().filter(|taint| taint.effect == "NoExecute");
    match evicting.all(|taint| tolerates(pod, taint)) {
        true => Ok(()),
        false => Err(predicate("TaintToleration", text)),
    }
}

pub(super) fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    let tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    tolerations.into_iter().any(|it| covers(it, taint))
}

fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    let value = taint.value.clone().unwrap_or_default();
    let number = |text: &str| text.parse::<i64>().ok();
    let compared = |holds: fn(&i64, &i64) -> bool| {
        let both = number(&value).zip(number(&text(&toleration.value)));
        both.is_some_and(|(left, right)| holds(&left, &right))
    };
    (effect.is_empty() || effect == taint.effect)
        && (key.is_empty() || key == taint.key)
        && match toleration.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => text(&toleration.value) == value,
            "Exists" => true,
            "Lt" => compared(i64::lt),
            "Gt" => compared(i64::gt),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts() -> Facts {
        let node = json!({"metadata": {"uid": "1", "labels": {"zone": "a", "cores": "4"}},
            "spec": {"taints": [{"key": "gone", "effect": "NoExecute"}, {"key": "full", "effect": "NoSchedule"}]}});
        Facts::of(&serde_json::from_value(node).unwrap())
    }

    fn pod(mut spec: serde_json::Value) -> Pod {
        spec["containers"] = json!([]);
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn labels() {
        let fits = |spec| affinity(&pod(spec), "node", &facts()).is_ok();
        assert!(fits(json!({})));
        assert!(fits(json!({"nodeSelector": {"zone": "a"}})));
        assert!(!fits(json!({"nodeSelector": {"zone": "b"}})));
        assert!(!fits(json!({"nodeSelector": {"nope": "x"}})));
        let terms = |terms: serde_json::Value| {
            let required =
                json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
            fits(json!({"affinity": {"nodeAffinity": required}}))
        };
        let labelled = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        assert!(terms(json!([labelled("zone", "In", &["a", "b"])])));
        assert!(
            terms(json!([labelled("zone", "In", &["b"]), labelled("cores", "Gt", &["3"])])),
            "any of them"
        );
        assert!(terms(json!([labelled("nope", "DoesNotExist", &[])])));
        assert!(!terms(json!([labelled("nope", "In", &["a"])])));
        assert!(!terms(json!([{}])), "nothing asked for");
        let named = |name: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
        assert!(terms(json!([named("node")])));
        assert!(!terms(json!([named("other")])));
    }

    #[test]
    fn unknown_labels_reject_no_pod() {
        let asks = pod(json!({"nodeSelector": {"zone": "a"}}));
        let first = Facts::first(&BTreeMap::new(), "node");
        assert!(affinity(&asks, "node", &first).is_ok());
        let other = json!({"metadata": {"uid": "1"}});
        let known = Facts::of(&serde_json::from_value(other).unwrap());
        assert!(affinity(&asks, "node", &known).is_err());
    }

    #[test]
    fn evicting_taints() {
        let stays = |spec| taints(&pod(spec), &facts()).is_ok();
        assert!(!stays(json!({})));
        assert!(stays(json!({"tolerations": [{"operator": "Exists"}]})));
        assert!(stays(json!({"tolerations": [{"key": "gone", "effect": "NoExecute"}]})));
        assert!(!stays(json!({"tolerations": [{"key": "gone", "effect": "NoSchedule"}]})));
        assert!(!stays(json!({"tolerations": [{"key": "gone", "value": "x"}]})));
    }
}
