//! `ExtendedResourceToleration`: a pod that asks for a device tolerates the taint that keeps others away from it.

use std::collections::BTreeSet;

use api::{Status, Tree, json};
use async_trait::async_trait;
use machinery::quota::is_extended_resource;
use registry::tree::{ensure, entries, list, text};

use crate::{Attributes, Plugin, Point};

pub struct ExtendedResourceToleration;

#[async_trait]
impl Plugin for ExtendedResourceToleration {
    fn name(&self) -> &'static str {
        "ExtendedResourceToleration"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.is("", "pods") && point.operation.writes()
    }

    async fn admit(&self, _: &Attributes<'_>, pod: &mut Tree) -> Result<(), Status> {
        let containers = list(pod, "spec.containers").iter().chain(list(pod, "spec.initContainers"));
        let asked: BTreeSet<String> = containers
            .flat_map(|container| entries(container, "resources.requests"))
            .map(|(name, _)| name)
            .filter(|name| is_extended_resource(name))
            .map(str::to_owned)
            .collect();
        if asked.is_empty() {
            return Ok(());
        }
        let tolerations = ensure(pod, "spec").entry("tolerations").or_insert(Tree::Null);
        let mut all = match std::mem::take(tolerations) {
            Tree::Array(all) => all,
            _ => Vec::new(),
        };
        for name in asked {
            let is_same = |own: &Tree| {
                let parts =
                    [("key", name.as_str()), ("operator", "Exists"), ("effect", "NoSchedule"), ("value", "")];
                parts.iter().all(|(field, value)| text(own, field) == *value)
            };
            // one for a time becomes one for ever
            let toleration = json!({"key": name, "operator": "Exists", "effect": "NoSchedule"});
            match all.iter().position(is_same) {
                Some(place) => all[place] = toleration,
                None => all.push(toleration),
            }
        }
        *tolerations = Tree::Array(all);
        Ok(())
    }
}
