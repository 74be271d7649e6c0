//! `KubeSchedulerConfiguration` v1 and the profiles that follow from it.

mod check;
pub mod extenders;

use std::sync::Arc;
use std::time::Duration;

use client::Rate;
use daemon::flags;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::profile::{MOST_PLUGINS, Profile};
use crate::core::queue::Backoff;
use crate::extenders::Extenders;
use crate::framework::{Plugin, Point};
use crate::options::Options;
use crate::plugins::{ABSENT, REGISTRY, find};
use extenders::ExtenderConfiguration;

pub const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
pub const KIND: &str = "KubeSchedulerConfiguration";

/// Upstream's fields that are taken without effect.
const WITHOUT_EFFECT: &[&str] = &[
    "clientConnection.acceptContentTypes",
    "clientConnection.contentType",
    "delayCacheUntilActive",
    "enableContentionProfiling",
    "enableProfiling",
];

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Configuration {
    pub parallelism: i64,
    pub leader_election: LeaderElection,
    pub client_connection: ClientConnection,
    pub percentage_of_nodes_to_score: i64,
    pub pod_initial_backoff_seconds: i64,
    pub pod_max_backoff_seconds: i64,
    pub profiles: Vec<ProfileConfiguration>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extenders: Vec<ExtenderConfiguration>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaderElection {
    pub leader_elect: bool,
    pub lease_duration: flags::Duration,
    pub renew_deadline: flags::Duration,
    pub retry_period: flags::Duration,
    pub resource_lock: String,
    pub resource_name: String,
    pub resource_namespace: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ClientConnection {
    pub kubeconfig: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qps: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<i32>,
}

impl ClientConnection {
    /// How fast the scheduler may ask, where that is limited.
    pub fn rate(&self) -> Option<Rate> {
        Rate::given(self.qps, self.burst, Rate { per_second: 50.0, burst: 100 })
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProfileConfiguration {
    pub scheduler_name: String,
    pub percentage_of_nodes_to_score: Option<i64>,
    pub plugins: Plugins,
    pub plugin_config: Vec<PluginConfiguration>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Plugins {
    multi_point: PluginSet,
    pre_enqueue: PluginSet,
    queue_sort: PluginSet,
    pre_filter: PluginSet,
    filter: PluginSet,
    post_filter: PluginSet,
    pre_score: PluginSet,
    score: PluginSet,
    reserve: PluginSet,
    permit: PluginSet,
    pre_bind: PluginSet,
    bind: PluginSet,
    post_bind: PluginSet,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct PluginSet {
    enabled: Vec<PluginName>,
    disabled: Vec<PluginName>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct PluginName {
    name: String,
    weight: i64,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct PluginConfiguration {
    name: String,
    args: Value,
}

impl Default for Configuration {
    fn default() -> Self {
        Configuration {
            parallelism: 16,
            leader_election: LeaderElection::default(),
            client_connection: ClientConnection::default(),
            percentage_of_nodes_to_score: 0,
            pod_initial_backoff_seconds: 1,
            pod_max_backoff_seconds: 10,
            profiles: vec![ProfileConfiguration::default()],
            extenders: Vec::new(),
        }
    }
}

impl Default for LeaderElection {
    fn default() -> Self {
        LeaderElection {
            leader_elect: true,
            lease_duration: flags::Duration::seconds(15),
            renew_deadline: flags::Duration::seconds(10),
            retry_period: flags::Duration::seconds(2),
            resource_lock: "leases".into(),
            resource_name: "kube-scheduler".into(),
            resource_namespace: "kube-system".into(),
        }
    }
}

impl LeaderElection {
    /// What a file leaves empty is upstream's default.
    fn fill_in(&mut self) {
        let LeaderElection {
            lease_duration,
            renew_deadline,
            retry_period,
            resource_lock,
            resource_name,
            resource_namespace,
            ..
        } = LeaderElection::default();
        for (own, default) in [
            (&mut self.lease_duration, lease_duration),
            (&mut self.renew_deadline, renew_deadline),
            (&mut self.retry_period, retry_period),
        ] {
            if own.is_zero() {
                *own = default;
            }
        }
        for (own, default) in [
            (&mut self.resource_lock, resource_lock),
            (&mut self.resource_name, resource_name),
            (&mut self.resource_namespace, resource_namespace),
        ] {
            if own.is_empty() {
                *own = default;
            }
        }
    }
}

impl Default for ProfileConfiguration {
    fn default() -> Self {
        ProfileConfiguration {
            scheduler_name: "default-scheduler".into(),
            percentage_of_nodes_to_score: None,
            plugins: Plugins::default(),
            plugin_config: Vec::new(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] daemon::config::Error),
    #[error("initializing profiles: creating profile for scheduler name {profile}: {message}")]
    Profile { profile: String, message: String },
    #[error("{0}")]
    Invalid(String),
}

impl Configuration {
    /// The file where one is given, with the flags over it.
    pub fn from_options(options: &Options) -> Result<Configuration, Error> {
        let mut configuration: Configuration = if options.config.is_empty() {
            Configuration::default()
        } else {
            daemon::config::load_strict(options.config.as_ref(), API_VERSION, KIND, WITHOUT_EFFECT)?
        };
        if configuration.profiles.is_empty() {
            configuration.profiles.push(ProfileConfiguration::default());
        }
        if configuration.client_connection.kubeconfig.is_empty() {
            configuration.client_connection.kubeconfig.clone_from(&options.kubeconfig);
        }
        if options.config.is_empty() {
            configuration.client_connection.qps = options.kube_api_qps;
            configuration.client_connection.burst = options.kube_api_burst;
        }
        let election = &mut configuration.leader_election;
        election.fill_in();
        election.leader_elect = options.leader_elect.unwrap_or(election.leader_elect);
        let durations = [
            (&mut election.lease_duration, options.leader_elect_lease_duration),
            (&mut election.renew_deadline, options.leader_elect_renew_deadline),
            (&mut election.retry_period, options.leader_elect_retry_period),
        ];
        for (own, given) in durations {
            *own = given.unwrap_or(*own);
        }
        for (own, given) in [
            (&mut election.resource_lock, &options.leader_elect_resource_lock),
            (&mut election.resource_name, &options.leader_elect_resource_name),
            (&mut election.resource_namespace, &options.leader_elect_resource_namespace),
        ] {
            if let Some(given) = given {
                own.clone_from(given);
            }
        }
        configuration.check()?;
        Ok(configuration)
    }

    pub fn backoff(&self) -> Backoff {
        Backoff {
            initial: Duration::from_secs(self.pod_initial_backoff_seconds.unsigned_abs()),
            max: Duration::from_secs(self.pod_max_backoff_seconds.unsigned_abs()),
        }
    }

    pub fn profiles(&self) -> Result<Vec<Profile>, Error> {
        let extenders = Arc::new(Extenders::new(&self.extenders).map_err(Error::Invalid)?);
        let ignored = extenders::ignored_resources(&self.extenders);
        self.profiles
            .iter()
            .map(|profile| {
                profile
                    .build(self.percentage_of_nodes_to_score, &ignored)
                    .map(|profile| profile.with_extenders(extenders.clone()))
                    .map_err(|message| Error::Profile { profile: profile.scheduler_name.clone(), message })
            })
            .collect()
    }
}

impl Plugins {
    fn set(&self, point: Point) -> &PluginSet {
        match point {
            Point::PreEnqueue => &self.pre_enqueue,
            Point::QueueSort => &self.queue_sort,
            Point::PreFilter => &self.pre_filter,
            Point::Filter => &self.filter,
            Point::PostFilter => &self.post_filter,
            Point::PreScore => &self.pre_score,
            Point::Score => &self.score,
            Point::Reserve => &self.reserve,
            Point::Permit => &self.permit,
            Point::PreBind => &self.pre_bind,
            Point::Bind => &self.bind,
            Point::PostBind => &self.post_bind,
        }
    }

    fn points(&self) -> [&PluginSet; Point::COUNT] {
        Point::ALL.map(|point| self.set(point))
    }
}

fn disables(set: &PluginSet, name: &str) -> bool {
    set.disabled.iter().any(|disabled| disabled.name == "*" || disabled.name == name)
}

fn named<'a>(set: &'a PluginSet, name: &str) -> Option<&'a PluginName> {
    set.enabled.iter().find(|enabled| enabled.name == name)
}

impl ProfileConfiguration {
    fn build(&self, percentage: i64, ignored_resources: &[&str]) -> Result<Profile, String> {
        let plugins = &self.plugins;
        let multi = &plugins.multi_point;
        // Plugins at all their points: upstream's defaults, and what is named besides.
        let mut whole: Vec<&str> = REGISTRY
            .iter()
            .map(|entry| entry.name)
            .filter(|name| !disables(multi, name) || named(multi, name).is_some())
            .collect();
        // Upstream looks for what is named at all points at this one first.
        let points = Point::ALL.map(|point| (plugins.set(point), point.name()));
        for (set, point) in std::iter::once((multi, "PreFilter")).chain(points) {
            for enabled in &set.enabled {
                if find(&enabled.name).is_none() {
                    if ABSENT.contains(&enabled.name.as_str()) {
                        tracing::warn!(
                            plugin = enabled.name,
                            "The plugin is not supported and has no effect"
                        );
                        continue;
                    }
                    return Err(format!("{point}Plugin {:?} does not exist", enabled.name));
                }
            }
        }
        let at_some_point = |name: &str| plugins.points().iter().any(|set| named(set, name).is_some());
        let defaults = whole.clone();
        whole.extend(
            REGISTRY
                .iter()
                .map(|entry| entry.name)
                .filter(|name| !defaults.contains(name) && at_some_point(name)),
        );
        let mut made: Vec<(Arc<dyn Plugin>, i64)> = Vec::new();
        for name in &whole {
            let Some(entry) = find(name) else { continue };
            let arguments = self.plugin_config.iter().find(|config| config.name == *name);
            let mut arguments = arguments.map_or(Value::Null, |config| config.args.clone());
            if entry.name == "NodeResourcesFit" && !ignored_resources.is_empty() {
                if arguments.is_null() {
                    arguments = serde_json::json!({});
                }
                // Upstream leaves nothing of those that the arguments name.
                arguments["ignoredResources"] = ignored_resources.into();
            }
            let plugin = (entry.make)(&arguments)
                .map_err(|message| format!("initializing plugin {name:?}: {message}"))?;
            let weights = [named(&plugins.score, name), named(multi, name)];
            let weight = weights.into_iter().flatten().map(|named| named.weight).find(|weight| *weight > 0);
            made.push((plugin, weight.unwrap_or(entry.weight)));
        }
        debug_assert!(made.len() <= MOST_PLUGINS);
        let percentage = self.percentage_of_nodes_to_score.unwrap_or(percentage);
        let profile = Profile::new(&self.scheduler_name, made, percentage, |name, point| {
            let set = plugins.set(point);
            named(set, name).is_some() || (defaults.contains(&name) && !disables(set, name))
        });
        if profile.at(Point::QueueSort).len() != 1 {
            return Err("only one queue sort plugin can be enabled".into());
        }
        if profile.at(Point::Bind).is_empty() {
            return Err("at least one bind plugin is needed".into());
        }
        Ok(profile)
    }
}

#[cfg(test)]
mod tests;
