//! Fields of features that are off: dropped from what is written, unless the stored object uses the feature already.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use api::Tree;
use api::model::{Field, MessageRef, Model, Type};
use api::tables;

use crate::tree::{as_object, has, unset};

/// Message, field and feature gate, of gates that are off by default.
const FIELDS: &[(&str, &str, &str)] = &[
    ("k8s.io.api.core.v1.PodSpec", "schedulingGroup", "GenericWorkload"),
    ("k8s.io.api.core.v1.PodSpec", "evictionResponders", "EvictionRequestAPI"),
    ("k8s.io.api.core.v1.Lifecycle", "stopSignal", "ContainerStopSignals"),
    ("k8s.io.api.core.v1.GRPCAction", "mode", "GRPCContainerProbeTLS"),
    ("k8s.io.api.core.v1.HTTPGetAction", "protocol", "H2CContainerProbe"),
    ("k8s.io.api.core.v1.NodeSpec", "podPreemptionPolicy", "InPlacePodVerticalScalingSchedulerPreemption"),
    ("k8s.io.api.core.v1.VolumeMount", "bindMountOptions", "VolumeBindMountOptions"),
    ("k8s.io.api.core.v1.EmptyDirVolumeSource", "mode", "EmptyDirVolumeMode"),
    ("k8s.io.api.core.v1.ConfigMapVolumeSource", "defaultUser", USERS),
    ("k8s.io.api.core.v1.SecretVolumeSource", "defaultUser", USERS),
    ("k8s.io.api.core.v1.DownwardAPIVolumeSource", "defaultUser", USERS),
    ("k8s.io.api.core.v1.ProjectedVolumeSource", "defaultUser", USERS),
    ("k8s.io.api.core.v1.KeyToPath", "user", USERS),
    ("k8s.io.api.core.v1.DownwardAPIVolumeFile", "user", USERS),
    ("k8s.io.api.core.v1.ServiceAccountTokenProjection", "user", USERS),
    ("k8s.io.api.core.v1.ClusterTrustBundleProjection", "user", USERS),
    ("k8s.io.api.core.v1.PodCertificateProjection", "user", USERS),
    ("k8s.io.api.batch.v1.JobSpec", "scheduling", "WorkloadWithJob"),
    ("k8s.io.api.coordination.v1.LeaseSpec", "strategy", "CoordinatedLeaderElection"),
    ("k8s.io.api.coordination.v1.LeaseSpec", "preferredHolder", "CoordinatedLeaderElection"),
];
const USERS: &str = "AtomicWriteVolumeUserFields";
/// Fields that go as well when nothing else was in them.
const ALONE: &[&str] = &["lifecycle"];

/// Gated fields of each built-in message, and whether there are some in it or below.
struct Gates {
    own: Vec<Vec<(&'static str, &'static str)>>,
    reached: Vec<bool>,
}

static GATES: LazyLock<Gates> = LazyLock::new(|| {
    let messages = tables::messages();
    let mut own = vec![Vec::new(); messages.len()];
    for (name, field, gate) in FIELDS {
        if let Some(message) = tables::message(name) {
            own[message.index as usize].push((*field, *gate));
        }
    }
    let mut reached: Vec<bool> = own.iter().map(|fields| !fields.is_empty()).collect();
    // messages contain themselves: until nothing more is reached
    let mut changed = true;
    while changed {
        changed = false;
        for (index, message) in messages.iter().enumerate() {
            let below = |field: &Field| matches!(field.ty, Type::Message(inner) if reached[inner as usize]);
            if !reached[index] && message.fields.iter().any(below) {
                (reached[index], changed) = (true, true);
            }
        }
    }
    Gates { own, reached }
});

/// Drops the fields of features that are off and that `old` does not use.
pub fn drop_fields(object: &mut Tree, old: Option<&Tree>, message: MessageRef<'_>) {
    // what is made at run time has no gates
    if message.index >= Model::first_own() || !GATES.reached[message.index as usize] {
        return;
    }
    let mut used = BTreeSet::new();
    if let Some(old) = old {
        features(old, message, &mut used);
    }
    remove(object, message, &used);
}

/// The features that an object uses.
fn features(tree: &Tree, message: MessageRef<'_>, used: &mut BTreeSet<&'static str>) {
    for (name, gate) in &GATES.own[message.index as usize] {
        if has(tree, name) {
            used.insert(gate);
        }
    }
    for (field, inner) in below(message) {
        let value =
            if field.is_inline() { tree } else { tree.get(field.json.as_ref()).unwrap_or(&Tree::Null) };
        match value {
            Tree::Array(items) => items.iter().for_each(|item| features(item, inner, used)),
            value => features(value, inner, used),
        }
    }
}

fn remove(tree: &mut Tree, message: MessageRef<'_>, used: &BTreeSet<&'static str>) {
    let Some(object) = tree.as_object_mut() else { return };
    for (name, gate) in &GATES.own[message.index as usize] {
        if !used.contains(gate) {
            object.remove(name);
        }
    }
    for (field, inner) in below(message) {
        if field.is_inline() {
            remove(tree, inner, used);
            continue;
        }
        match tree.get_mut(field.json.as_ref()) {
            Some(Tree::Array(items)) => items.iter_mut().for_each(|item| remove(item, inner, used)),
            Some(value) => {
                let was_set = value.as_object().is_some_and(|object| !object.is_empty());
                remove(value, inner, used);
                if was_set && ALONE.contains(&&*field.json) && unset(value) {
                    as_object(tree).remove(&field.json);
                }
            }
            None => {}
        }
    }
}

/// The fields of a message that have gated fields below.
fn below(message: MessageRef<'_>) -> impl Iterator<Item = (&Field, MessageRef<'_>)> {
    message.fields().iter().filter_map(move |field| match field.ty {
        Type::Message(inner) if GATES.reached[inner as usize] => Some((field, message.at(inner))),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use api::json;

    use super::*;

    fn of(object: Tree, old: Option<Tree>, message: &str) -> Tree {
        let mut object = object;
        drop_fields(&mut object, old.as_ref(), tables::message(message).unwrap());
        object
    }

    #[test]
    fn every_field_is_in_the_tables() {
        for (name, field, _) in FIELDS {
            let message = tables::message(name).unwrap_or_else(|| panic!("{name}"));
            assert!(message.fields().iter().any(|one| one.json == *field), "{name} {field}");
        }
    }

    #[test]
    fn fields_of_features_that_are_off_are_dropped() {
        let spec = |lifecycle: Tree| {
            json!({"spec": {"template": {"spec": {
                "schedulingGroup": {"podGroupName": "a"},
                "containers": [{"name": "c", "lifecycle": lifecycle, "livenessProbe": {"grpc": {"port": 1, "mode": "X"}}}],
                "volumes": [{"name": "v", "configMap": {"defaultUser": 5, "items": [{"key": "a", "user": 6}]}}],
            }}}})
        };
        let out = of(spec(json!({"stopSignal": "SIGFOO"})), None, "k8s.io.api.apps.v1.Deployment");
        let expect = json!({"spec": {"template": {"spec": {
            "containers": [{"name": "c", "livenessProbe": {"grpc": {"port": 1}}}],
            "volumes": [{"name": "v", "configMap": {"items": [{"key": "a"}]}}],
        }}}});
        assert_eq!(out, expect);
        let lifecycle = |tree: Tree| tree["spec"]["template"]["spec"]["containers"][0]["lifecycle"].clone();
        let message = "k8s.io.api.apps.v1.Deployment";
        for (given, kept) in
            [(json!({}), json!({})), (json!({"stopSignal": "A", "preStop": {}}), json!({"preStop": {}}))]
        {
            assert_eq!(lifecycle(of(spec(given), None, message)), kept);
        }
        // an object that uses it already keeps it
        let old = spec(json!({"stopSignal": "SIGTERM"}));
        let out = of(spec(json!({"stopSignal": "SIGINT"})), Some(old), message);
        assert_eq!(lifecycle(out), json!({"stopSignal": "SIGINT"}));
    }
}
