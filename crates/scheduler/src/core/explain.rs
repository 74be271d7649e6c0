//! Why a pod is pending: what each plugin says of each node, and the least that would have to change. A cycle stops at a
//! node's first objection; this collects them all.

use std::sync::Arc;

use serde::Serialize;

use super::Core;
use super::algorithm::{Prepared, prepare};
use crate::cluster::{Pod, Row};

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub namespace: String,
    pub name: String,
    /// The queue that the pod is in; none while an attempt of it is under way.
    pub queue: Option<&'static str>,
    pub attempts: u32,
    /// What a plugin says of the pod, whatever the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Objection>,
    /// Nodes with the fewest objections first.
    pub nodes: Vec<NodeExplanation>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeExplanation {
    pub node: String,
    /// None: the pod would fit.
    pub objections: Vec<Objection>,
    /// It would fit without the pods of lower priority.
    pub fits_by_preemption: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Objection {
    pub plugin: &'static str,
    pub reasons: Vec<String>,
    /// What would end the objection.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<String>,
}

impl Core {
    /// Explains a pod that is not placed. None for one that is, or that another scheduler schedules.
    pub fn explain(&mut self, pod: &Arc<Pod>) -> Option<Explanation> {
        let profile = self.profile(pod)?;
        if self.table.node_of(&pod.uid).is_some() {
            return None;
        }
        self.table.arrange();
        let place = self.queue.state_of(&pod.uid);
        let mut explanation = Explanation {
            namespace: pod.key.namespace.to_string(),
            name: pod.key.name.to_string(),
            queue: place.map(|(queue, _)| queue),
            attempts: place.map_or(0, |(_, attempts)| attempts),
            rejected: profile.pre_enqueue(pod, &self.table.facts).map(|(place, message)| Objection {
                plugin: profile.plugins[place].name(),
                reasons: vec![message],
                remedies: Vec::new(),
            }),
            nodes: Vec::new(),
        };
        let Prepared { mut cycle, active, only } = match prepare(&profile, &self.table, pod) {
            Ok(prepared) => prepared,
            Err((place, message)) => {
                explanation.rejected = Some(Objection {
                    plugin: profile.plugins[place].name(),
                    reasons: vec![message],
                    remedies: Vec::new(),
                });
                return Some(explanation);
            }
        };
        for index in self.table.order() {
            let view = self.table.view(*index);
            let mut objections = Vec::new();
            if let Some((names, by)) = &only
                && !names.contains(&view.node.name)
            {
                let plugins = by.iter().map(|place| profile.plugins[*place].name());
                objections.extend(plugins.map(|plugin| Objection {
                    plugin,
                    reasons: vec![format!("node(s) didn't satisfy plugin(s) [{plugin}]")],
                    remedies: Vec::new(),
                }));
            }
            for place in &active {
                let plugin = &profile.plugins[*place];
                if let Err(reject) = plugin.filter(*place, &cycle, pod, view) {
                    objections.push(Objection {
                        plugin: plugin.name(),
                        reasons: reject.reasons.as_slice().iter().map(ToString::to_string).collect(),
                        remedies: plugin.remedies(pod, view),
                    });
                }
            }
            let trial = super::profile::Trial { profile: &profile, table: &self.table, pod, active: &active };
            let fits_by_preemption = profile.preemption.is_some()
                && !pod.needs.never_preempts
                && !objections.is_empty()
                && only.as_ref().is_none_or(|(names, _)| names.contains(&view.node.name))
                && has_lower(view.row, pod)
                && crate::plugins::fits_without_lower(&trial, &mut cycle, *index);
            explanation.nodes.push(NodeExplanation {
                node: view.node.name.to_string(),
                objections,
                fits_by_preemption,
            });
        }
        explanation.nodes.sort_by(|one, two| {
            one.objections.len().cmp(&two.objections.len()).then_with(|| one.node.cmp(&two.node))
        });
        Some(explanation)
    }
}

fn has_lower(row: &Row, pod: &Pod) -> bool {
    row.pods.values().any(|other| other.needs.priority < pod.needs.priority)
}
