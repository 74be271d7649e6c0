//! Whether a node fits a daemon pod, and how a pod is tied to its node.

use machinery::labels::{Operator, Requirement};
use serde_json::{Value, json};

use controllers::taints::untolerated;
use controllers::views::{Node, Pod, Toleration};

const PINNED_FIELD: &str = "metadata.name";

/// Taints that daemon pods bear, as they may be what the node needs to become better.
const BORNE: [(&str, &str); 6] = [
    ("NoExecute", "node.kubernetes.io/not-ready"),
    ("NoExecute", "node.kubernetes.io/unreachable"),
    ("NoSchedule", "node.kubernetes.io/disk-pressure"),
    ("NoSchedule", "node.kubernetes.io/memory-pressure"),
    ("NoSchedule", "node.kubernetes.io/pid-pressure"),
    ("NoSchedule", "node.kubernetes.io/unschedulable"),
];

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fit {
    /// A pod should be made here.
    pub(super) runs: bool,
    /// A pod that is here already may stay.
    pub(super) stays: bool,
}

pub(super) fn added(template: &Value) -> Vec<Toleration> {
    let network = ("NoSchedule", "node.kubernetes.io/network-unavailable");
    let host = template.pointer("/spec/hostNetwork") == Some(&Value::Bool(true));
    let all = BORNE.into_iter().chain(host.then_some(network));
    let toleration = |(effect, key): (&str, &str)| Toleration {
        key: key.into(),
        operator: "Exists".into(),
        effect: effect.into(),
        ..Default::default()
    };
    all.map(toleration).collect()
}

/// What a template asks of nodes, read once for all of them.
pub(super) struct Needs {
    node_name: String,
    labels: Vec<(String, Option<String>)>,
    /// One of these has to match; none where the template requires nothing.
    terms: Option<Vec<Term>>,
    tolerations: Vec<Toleration>,
}

/// Requirements on labels and on fields, of which all have to hold. None for a term that matches nothing.
type Term = Option<(Vec<Requirement>, Vec<Requirement>)>;

const REQUIRED: &str =
    "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";

impl Needs {
    pub(super) fn of(template: &Value) -> Needs {
        let spec = &template["spec"];
        let own: Vec<Toleration> = serde_json::from_value(spec["tolerations"].clone()).unwrap_or_default();
        let labels = spec["nodeSelector"].as_object().into_iter().flatten();
        Needs {
            node_name: spec["nodeName"].as_str().unwrap_or_default().to_owned(),
            labels: labels.map(|(key, value)| (key.clone(), value.as_str().map(str::to_owned))).collect(),
            terms: spec
                .pointer(REQUIRED)
                .and_then(Value::as_array)
                .map(|terms| terms.iter().map(term).collect()),
            tolerations: own.into_iter().chain(added(template)).collect(),
        }
    }

    pub(super) fn fit(&self, node: &Node) -> Fit {
        let name = node.metadata.name.as_str();
        let labels = &node.metadata.labels;
        let named = self.node_name.is_empty() || self.node_name == name;
        if !named
            || !self.labels.iter().all(|(key, value)| labels.get(key) == value.as_deref())
            || !self.affine(node)
        {
            return Fit { runs: false, stays: false };
        }
        let taints = &node.spec.taints;
        Fit {
            runs: untolerated(taints, &self.tolerations, &["NoSchedule", "NoExecute"]).is_none(),
            stays: untolerated(taints, &self.tolerations, &["NoExecute"]).is_none(),
        }
    }

    fn affine(&self, node: &Node) -> bool {
        let field = |key: &str| (key == PINNED_FIELD).then_some(&*node.metadata.name);
        let Some(terms) = &self.terms else { return true };
        terms.iter().flatten().any(|(labels, fields)| {
            labels.iter().all(|one| one.matches(node.metadata.labels.get(&one.key)))
                && fields.iter().all(|one| one.matches(field(&one.key)))
        })
    }
}

/// Whether a change of a node may change what fits there.
pub(super) fn differs(old: &Node, new: &Node) -> bool {
    old.metadata.labels != new.metadata.labels || old.spec.taints != new.spec.taints
}

fn term(term: &Value) -> Term {
    let list = |name: &str| -> Option<Vec<Requirement>> {
        term[name].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(requirement).collect()
    };
    let (labels, fields) = (list("matchExpressions")?, list("matchFields")?);
    (!(labels.is_empty() && fields.is_empty())).then_some((labels, fields))
}

fn requirement(requirement: &Value) -> Option<Requirement> {
    let key = requirement["key"].as_str().unwrap_or_default();
    let operator = Operator::of_node_selector(requirement["operator"].as_str().unwrap_or_default())?;
    let values = requirement["values"].as_array().into_iter().flatten();
    let values = values.filter_map(Value::as_str).map(str::to_owned).collect();
    Some(Requirement::new(key, operator, values))
}

/// Ties a pod to a node, in place of what the template requires of nodes, which was judged already.
pub(super) fn pin(spec: &mut Value, node: &str) {
    let terms = json!([{"matchFields": [{"key": PINNED_FIELD, "operator": "In", "values": [node]}]}]);
    spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
        json!({"nodeSelectorTerms": terms});
}

/// The node a pod is on, or tied to.
pub(super) fn node_of(pod: &Pod) -> Option<&str> {
    if !pod.spec.node_name.is_empty() {
        return Some(&pod.spec.node_name);
    }
    let terms = pod.spec.affinity.as_ref()?.pointer(REQUIRED.strip_prefix("/affinity")?)?;
    terms.as_array()?.iter().find_map(|term| {
        let fields = term["matchFields"].as_array()?;
        let field = fields.iter().find(|field| field["key"] == PINNED_FIELD && field["operator"] == "In")?;
        match field["values"].as_array()?.as_slice() {
            [only] => only.as_str(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(node: Value, spec: Value, runs: bool, stays: bool) {
        let mut full = json!({"metadata": {"name": "n", "labels": {"zone": "z"}}});
        json_patch::merge(&mut full, &node);
        let node: Node = serde_json::from_value(full).unwrap();
        assert_eq!(Needs::of(&json!({"spec": spec})).fit(&node), Fit { runs, stays }, "{spec}");
    }

    #[test]
    fn fits() {
        let taint = |key: &str, effect: &str| json!({"spec": {"taints": [{"key": key, "effect": effect}]}});
        check(json!({}), json!({}), true, true);
        check(json!({}), json!({"nodeSelector": {"zone": "z"}}), true, true);
        check(json!({}), json!({"nodeSelector": {"zone": "y"}}), false, false);
        check(taint("k", "NoSchedule"), json!({}), false, true);
        check(taint("k", "NoExecute"), json!({}), false, false);
        check(taint("k", "NoExecute"), json!({"tolerations": [{"operator": "Exists"}]}), true, true);
        check(taint("node.kubernetes.io/not-ready", "NoExecute"), json!({}), true, true);
        check(taint("node.kubernetes.io/network-unavailable", "NoSchedule"), json!({}), false, true);
        check(
            taint("node.kubernetes.io/network-unavailable", "NoSchedule"),
            json!({"hostNetwork": true}),
            true,
            true,
        );
        let affinity = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
        check(
            json!({}),
            affinity(
                json!([{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["y", "z"]}]}]),
            ),
            true,
            true,
        );
        check(
            json!({}),
            affinity(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["m"]}]}])),
            false,
            false,
        );
        check(json!({}), affinity(json!([{}])), false, false);
    }

    #[test]
    fn pinned_pods_are_found_again() {
        let mut spec = json!({"affinity": {"podAffinity": {}, "nodeAffinity": {"preferred": []}}});
        pin(&mut spec, "n");
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        assert_eq!(node_of(&pod), Some("n"));
        assert!(spec["affinity"]["podAffinity"].is_object());
    }
}
