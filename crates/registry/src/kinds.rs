//! What is particular about each kind: its profile and the rules of its messages, a module per family.

pub mod addresses;
pub mod admission;
pub mod aggregation;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod conditions;
pub mod config;
pub mod container;
pub mod coordination;
pub mod core;
pub mod devices;
pub mod discovery;
pub mod extensions;
pub mod flow_control;
pub mod migration;
pub mod networking;
pub mod node;
pub mod pod;
pub mod pod_annotations;
pub mod pod_spec;
pub mod pod_status;
pub mod pod_update;
pub mod policy;
pub mod probe;
pub mod qos;
pub mod rbac;
pub mod resources;
pub mod scale;
pub mod scheduling;
pub mod service;
pub mod storage;
pub mod template;
pub mod trust;
pub mod volume;
pub mod warnings;
pub mod workload;

use crate::profile::Profile;
use crate::rules::Table;

/// The rules of every module.
pub(crate) fn tables()
-> impl Iterator<Item = std::slice::Iter<'static, (&'static str, &'static [crate::rules::Rule])>> {
    const TABLES: &[Table] = &[
        admission::RULES,
        aggregation::RULES,
        autoscaling::RULES,
        batch::RULES,
        certificates::RULES,
        config::RULES,
        container::RULES,
        coordination::RULES,
        core::RULES,
        devices::RULES,
        discovery::RULES,
        extensions::RULES,
        flow_control::RULES,
        networking::RULES,
        node::RULES,
        pod::RULES,
        pod_spec::RULES,
        policy::RULES,
        probe::RULES,
        rbac::RULES,
        scheduling::RULES,
        service::RULES,
        storage::RULES,
        template::RULES,
        trust::RULES,
        volume::RULES,
        volume::legacy::RULES,
        workload::RULES,
    ];
    TABLES.iter().map(|table| table.iter())
}

/// The profile of a resource, at any of its versions.
pub fn profile(group: &str, plural: &str) -> Option<&'static Profile> {
    static PROFILES: &[&[Profile]] = &[
        addresses::PROFILES,
        admission::PROFILES,
        aggregation::PROFILES,
        autoscaling::PROFILES,
        batch::PROFILES,
        certificates::PROFILES,
        config::PROFILES,
        coordination::PROFILES,
        core::PROFILES,
        devices::PROFILES,
        discovery::PROFILES,
        extensions::PROFILES,
        flow_control::PROFILES,
        migration::PROFILES,
        networking::PROFILES,
        node::PROFILES,
        pod::PROFILES,
        policy::PROFILES,
        rbac::PROFILES,
        scheduling::PROFILES,
        service::PROFILES,
        storage::PROFILES,
        template::PROFILES,
        trust::PROFILES,
        workload::PROFILES,
    ];
    PROFILES
        .iter()
        .flat_map(|list| list.iter())
        .find(|profile| profile.group == group && profile.plural == plural)
}
