//! Amounts of a pod that can be resized, container by container.

use crate::qos;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::{Format, Quantity};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What a pod was given, as upstream's checkpoints spell it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PodResources {
    /// By container name, sidecars and init containers included.
    #[serde(deserialize_with = "null_is_empty")]
    pub container_resources: BTreeMap<String, ResourceRequirements>,
    pub pod_level_resources: Option<ResourceRequirements>,
    /// Sizes of volumes in memory cannot be resized yet; kept as read.
    empty_dir_volume_limits: Option<BTreeMap<String, Option<Text>>>,
}

fn null_is_empty<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, ResourceRequirements>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Bytes of memory and thousandths of processors; 0 is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub memory_limit: i64,
    pub memory_request: i64,
    pub cpu_limit: i64,
    pub cpu_request: i64,
}

type Quantities = BTreeMap<String, Text>;

impl Size {
    fn of(resources: &ResourceRequirements) -> Self {
        let amount = |list: &Option<Quantities>, name| qos::amount(list.as_ref(), name).unwrap_or_default();
        Self {
            memory_limit: amount(&resources.limits, "memory"),
            memory_request: amount(&resources.requests, "memory"),
            cpu_limit: amount(&resources.limits, "cpu"),
            cpu_request: amount(&resources.requests, "cpu"),
        }
    }

    /// A container's. One without a limit of its own has the pod's.
    pub fn of_container(pod: Option<&ResourceRequirements>, container: &ResourceRequirements) -> Self {
        let (own, pod) = (Self::of(container), pod.map(Self::of).unwrap_or_default());
        let or = |own: i64, pod: i64| if own == 0 { pod } else { own };
        Self {
            memory_limit: or(own.memory_limit, pod.memory_limit),
            cpu_limit: or(own.cpu_limit, pod.cpu_limit),
            ..own
        }
    }

    pub fn requirements(self) -> ResourceRequirements {
        self.with_at_least(1)
    }

    /// With a zero for what there is none of: nothing else is derived in its place.
    pub fn with_zeros(self) -> ResourceRequirements {
        self.with_at_least(0)
    }

    fn with_at_least(self, least: i128) -> ResourceRequirements {
        let list = |cpu: i64, memory: i64| {
            let cpu = ("cpu", i128::from(cpu), Format::DecimalSi);
            let memory = ("memory", i128::from(memory) * 1000, Format::BinarySi);
            let all = [cpu, memory].into_iter().filter(|(_, milli, _)| *milli >= least);
            let all = all.map(|(name, milli, format)| (name.to_owned(), quantity(milli, format)));
            Some(all.collect::<Quantities>()).filter(|all| !all.is_empty())
        };
        ResourceRequirements {
            requests: list(self.cpu_request, self.memory_request),
            limits: list(self.cpu_limit, self.memory_limit),
            ..Default::default()
        }
    }
}

/// The text of an amount in thousandths of its unit.
pub fn quantity(milli: i128, format: Format) -> Text {
    Text(Quantity::from_milli(milli, format).to_string())
}

/// Every container that has resources of its own.
fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
}

impl PodResources {
    /// What a pod asks for.
    pub fn of(pod: &Pod) -> Self {
        let of = |it: &Container| (it.name.clone(), it.resources.clone().unwrap_or_default());
        Self {
            container_resources: containers(pod).map(of).collect(),
            pod_level_resources: pod.spec.as_ref().and_then(|spec| spec.resources.clone()),
            empty_dir_volume_limits: None,
        }
    }

    /// What a pod's containers are made with: limits of the pod included.
    pub fn effective(pod: &Pod) -> Self {
        let mut all = Self::of(pod);
        let names: Vec<String> = all.container_resources.keys().cloned().collect();
        for name in names {
            let requirements = all.size(&name).requirements();
            all.container_resources.insert(name, requirements);
        }
        all
    }

    pub fn size(&self, container: &str) -> Size {
        let none = ResourceRequirements::default();
        let own = self.container_resources.get(container).unwrap_or(&none);
        Size::of_container(self.pod_level_resources.as_ref(), own)
    }

    pub fn pod_size(&self) -> Size {
        self.pod_level_resources.as_ref().map(Size::of).unwrap_or_default()
    }

    /// The pod with these in place of what it asks for.
    pub fn apply<'a>(&self, pod: &'a Pod) -> Cow<'a, Pod> {
        let mut pod = Cow::Borrowed(pod);
        let whole = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
        if !is_same(whole, self.pod_level_resources.as_ref())
            && let Some(spec) = &mut pod.to_mut().spec
        {
            spec.resources.clone_from(&self.pod_level_resources);
        }
        self.replace(pod, |asked, given| (!is_same(asked, Some(given))).then(|| given.clone()))
    }

    /// The pod with the larger requests of what it has and these.
    pub fn raise<'a>(&self, pod: Cow<'a, Pod>) -> Cow<'a, Pod> {
        let mut pod = self.replace(pod, larger);
        let whole = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
        let more = whole.and_then(|has| larger(Some(has), self.pod_level_resources.as_ref()?));
        if more.is_some()
            && let Some(spec) = &mut pod.to_mut().spec
        {
            spec.resources = more;
        }
        pod
    }

    fn replace<'a>(
        &self,
        mut pod: Cow<'a, Pod>,
        replacement: impl Fn(Option<&ResourceRequirements>, &ResourceRequirements) -> Option<ResourceRequirements>,
    ) -> Cow<'a, Pod> {
        let found = containers(&pod).filter_map(|it| {
            let other = self.container_resources.get(&it.name)?;
            Some((it.name.clone(), replacement(it.resources.as_ref(), other)?))
        });
        let replacements: BTreeMap<String, ResourceRequirements> = found.collect();
        if replacements.is_empty() {
            return pod;
        }
        if let Some(spec) = &mut pod.to_mut().spec {
            for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
                if let Some(resources) = replacements.get(&container.name) {
                    container.resources = Some(resources.clone());
                }
            }
        }
        pod
    }
}

fn is_same(a: Option<&ResourceRequirements>, b: Option<&ResourceRequirements>) -> bool {
    let amounts = |it: Option<&ResourceRequirements>| {
        let list = |of: fn(&ResourceRequirements) -> Option<&Quantities>| qos::amounts(it.and_then(of));
        (list(|it| it.requests.as_ref()), list(|it| it.limits.as_ref()))
    };
    amounts(a) == amounts(b)
}

/// `has` with the larger requests of both; `None` where these are its own.
fn larger(has: Option<&ResourceRequirements>, other: &ResourceRequirements) -> Option<ResourceRequirements> {
    let mut all = has.cloned().unwrap_or_default();
    let mut changed = false;
    for name in ["cpu", "memory"] {
        let own = qos::amount(all.requests.as_ref(), name).unwrap_or_default();
        if let Some(amount) = other.requests.as_ref().and_then(|list| list.get(name))
            && qos::amount(other.requests.as_ref(), name).is_some_and(|amount| amount > own)
        {
            all.requests.get_or_insert_default().insert(name.to_owned(), amount.clone());
            changed = true;
        }
    }
    changed.then_some(all)
}
