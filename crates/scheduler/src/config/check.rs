//! What a configuration must not say, in upstream's words.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Configuration, Error, LeaderElection, ProfileConfiguration};

/// Fields of the plugins' arguments; upstream's other plugins have none.
const ARGUMENTS: &[(&str, &[&str])] = &[
    ("DefaultPreemption", &["minCandidateNodesAbsolute", "minCandidateNodesPercentage"]),
    ("DynamicResources", &["bindingTimeout", "filterTimeout"]),
    ("InterPodAffinity", &["hardPodAffinityWeight", "ignorePreferredTermsOfExistingPods"]),
    ("NodeAffinity", &["addedAffinity"]),
    ("NodeResourcesBalancedAllocation", &["resources"]),
    ("NodeResourcesFit", &["ignoredResourceGroups", "ignoredResources", "scoringStrategy"]),
    ("PodTopologySpread", &["defaultConstraints", "defaultingType"]),
    ("VolumeBinding", &["bindTimeoutSeconds", "shape"]),
];

impl Configuration {
    /// In upstream's words and order.
    pub(super) fn check(&self) -> Result<(), Error> {
        let mut errors = Vec::new();
        self.leader_election.check(&mut errors);
        if self.parallelism <= 0 {
            errors.push(format!(
                "parallelism: Invalid value: {}: should be an integer value greater than zero",
                self.parallelism
            ));
        }
        let percentage = |field: &str, value: i64| {
            (!(0..=100).contains(&value)).then(|| {
                format!("{field}percentageOfNodesToScore: Invalid value: {value}: not in valid range [0-100]")
            })
        };
        let mut names = BTreeSet::new();
        for (place, profile) in self.profiles.iter().enumerate() {
            profile.check_arguments(place, &mut errors)?;
            if profile.scheduler_name.is_empty() {
                errors.push(format!("profiles[{place}].schedulerName: Required value"));
            }
            let own = profile.percentage_of_nodes_to_score.unwrap_or(0);
            errors.extend(percentage(&format!("profiles[{place}]."), own));
            if !names.insert(&profile.scheduler_name) {
                // upstream shows no more of it
                errors.push(format!("profiles[{place}].schedulerName: Duplicate value: {{}}"));
            }
        }
        errors.extend(percentage("", self.percentage_of_nodes_to_score));
        let (initial, max) = (self.pod_initial_backoff_seconds, self.pod_max_backoff_seconds);
        if initial <= 0 {
            errors
                .push(format!("podInitialBackoffSeconds: Invalid value: {initial}: must be greater than 0"));
        }
        if max < initial {
            errors.push(format!(
                "podMaxBackoffSeconds: Invalid value: {max}: must be greater than or equal to PodInitialBackoffSeconds"
            ));
        }
        super::extenders::check(&self.extenders, &mut errors);
        match errors.as_slice() {
            [] => Ok(()),
            [one] => Err(Error::Invalid(one.clone())),
            several => Err(Error::Invalid(format!("[{}]", several.join(", ")))),
        }
    }
}

impl LeaderElection {
    fn check(&self, errors: &mut Vec<String>) {
        if !self.leader_elect {
            return;
        }
        if self.lease_duration <= self.renew_deadline {
            // The value that upstream shows is the other's.
            errors.push(format!(
                "leaderElection.leaseDuration: Invalid value: {:?}: must be greater than `RenewDeadline`",
                self.renew_deadline.to_string()
            ));
        }
        if self.resource_lock != "leases" {
            errors.push(format!(
                "leaderElection.resourceLock: Invalid value: {:?}: resourceLock value must be \"leases\"",
                self.resource_lock
            ));
        }
    }
}

impl ProfileConfiguration {
    /// Checks plugins' arguments: unknown fields, and ranges that the plugins themselves do not check.
    fn check_arguments(&self, profile: usize, errors: &mut Vec<String>) -> Result<(), Error> {
        for (place, config) in self.plugin_config.iter().enumerate() {
            let known = ARGUMENTS.iter().find(|(name, _)| *name == config.name).map(|(_, fields)| *fields);
            let (Some(known), Some(given)) = (known, config.args.as_object()) else { continue };
            let name = &config.name;
            let is_known = |field: &str| known.contains(&field) || matches!(field, "apiVersion" | "kind");
            if let Some(field) = given.keys().find(|field| !is_known(field)) {
                return Err(Error::Invalid(format!(
                    "strict decoding error: decoding .profiles[{profile}].pluginConfig[{place}]: strict decoding error: decoding args for plugin {name}: strict decoding error: unknown field {field:?}"
                )));
            }
            let place = format!("profiles[{profile}].pluginConfig[{place}].args.");
            let number = |field: &str| given.get(field).and_then(Value::as_i64);
            let (share, absolute) = ("minCandidateNodesPercentage", "minCandidateNodesAbsolute");
            for (field, most, range) in [(share, 100, "100]"), (absolute, i64::MAX, "inf)")] {
                let value = number(field).filter(|value| !(0..=most).contains(value));
                errors.extend(value.map(|value| {
                    format!("{place}{field}: Invalid value: {value}: not in valid range [0, {range}")
                }));
            }
            if (number(share), number(absolute)) == (Some(0), Some(0)) {
                for (field, other) in [(share, absolute), (absolute, share)] {
                    errors.push(format!(
                        "{place}{field}: Invalid value: 0: cannot be zero at the same time as {other}"
                    ));
                }
            }
            if let Some(value) = number("bindTimeoutSeconds").filter(|value| *value < 0) {
                errors.push(format!(
                    "{place}bindTimeoutSeconds: Invalid value: {value}: invalid BindTimeoutSeconds, should not be a negative value"
                ));
            }
            for path in ["shape", "scoringStrategy.requestedToCapacityRatio.shape"] {
                let shape = config.args.pointer(&format!("/{}", path.replace('.', "/")));
                check_shape(shape.and_then(Value::as_array), &format!("{place}{path}"), errors);
            }
            let weight = given.get("hardPodAffinityWeight").and_then(Value::as_i64).unwrap_or(0);
            if !(0..=100).contains(&weight) {
                errors.push(format!(
                    "{place}hardPodAffinityWeight: Invalid value: {weight}: not in valid range [0, 100]"
                ));
            }
        }
        Ok(())
    }
}

/// Points of a function of utilization; none where the default holds.
fn check_shape(shape: Option<&Vec<Value>>, path: &str, errors: &mut Vec<String>) {
    let Some(shape) = shape else { return };
    let number = |point: &Value, field: &str| point.get(field).and_then(Value::as_i64).unwrap_or_default();
    let utilizations: Vec<i64> = shape.iter().map(|point| number(point, "utilization")).collect();
    if let Some(at) = utilizations.windows(2).position(|pair| pair[0] >= pair[1]) {
        errors.push(format!(
            "{path}[{}].utilization: Invalid value: {}: values must be sorted in increasing order",
            at + 1,
            utilizations[at + 1]
        ));
    }
    for (at, point) in shape.iter().enumerate() {
        for (field, most) in [("utilization", 100), ("score", 10)] {
            let value = number(point, field);
            if !(0..=most).contains(&value) {
                errors.push(format!(
                    "{path}[{at}].{field}: Invalid value: {value}: not in valid range [0, {most}]"
                ));
            }
        }
    }
}
