//! How many pods a metric asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use controllers::views::{Container, Pod, is_of_whole_pods};
use jiff::{SignedDuration, Timestamp};
use machinery::quantity::Quantity;

/// What was measured of one pod, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) value: i64,
    pub(super) time: Timestamp,
    pub(super) window: SignedDuration,
}

/// An amount in thousandths; the nearest that there is where it is too large.
pub(super) fn thousandths(amount: &Quantity) -> i64 {
    let milli = amount.milli();
    i64::try_from(milli).unwrap_or(if milli < 0 { i64::MIN } else { i64::MAX })
}

pub(super) type Samples = BTreeMap<String, Sample>;

#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerances {
    pub(super) down: f64,
    pub(super) up: f64,
}

impl Tolerances {
    fn has(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

pub(super) struct Input<'a> {
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) current: i32,
    pub(super) tolerances: Tolerances,
    /// How long after its start a pod's use of CPU says little.
    pub(super) initialization: SignedDuration,
    pub(super) readiness_delay: SignedDuration,
    pub(super) now: Timestamp,
}

/// A proposal with what it is based on.
#[derive(Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    pub(super) utilization: Option<i32>,
    /// The average, in thousandths.
    pub(super) usage: i64,
}

/// How the use of all is compared with the target.
struct Use {
    ratio: f64,
    utilization: Option<i32>,
    usage: i64,
}

#[derive(Default)]
struct Groups {
    ready: usize,
    unready: Vec<String>,
    missing: Vec<String>,
}

const NO_METRICS: &str = "did not receive metrics for targeted pods (pods might be unready)";
const NO_PODS: &str = "no pods returned by selector while calculating replica count";

/// By the share of what pods request; `container` is empty for whole pods.
pub(super) fn by_utilization(
    input: &Input,
    samples: Samples,
    resource: &str,
    container: &str,
    target: i32,
) -> Result<Proposal, String> {
    if input.pods.is_empty() {
        return Err(NO_PODS.to_owned());
    }
    let (groups, samples) = grouped(input, samples, resource);
    if samples.is_empty() {
        return Err(NO_METRICS.to_owned());
    }
    let mut requests = BTreeMap::new();
    for pod in input.pods {
        requests.insert(pod.metadata.name.clone(), request(pod, container, resource)?);
    }
    let compare = |samples: &BTreeMap<String, i64>| {
        let known = samples.iter().filter_map(|(pod, value)| Some((*value, *requests.get(pod)?)));
        let (mut used, mut requested, mut count) = (0i64, 0i64, 0i64);
        for (value, request) in known {
            used = used.saturating_add(value);
            requested = requested.saturating_add(request);
            count += 1;
        }
        if requested == 0 {
            return Err("no metrics returned matched known pods".to_owned());
        }
        let percent = i32::try_from(i128::from(used) * 100 / i128::from(requested)).unwrap_or(i32::MAX);
        let ratio = f64::from(percent) / f64::from(target);
        Ok(Use { ratio, utilization: Some(percent), usage: used / count.max(1) })
    };
    // Who is not seen counts as one that uses what it may, or more.
    let fallback = |pod: &str| {
        let request = requests.get(pod).copied().unwrap_or(0);
        request.saturating_mul(i64::from(target.max(100))) / 100
    };
    propose(input, groups, samples, compare, fallback)
}

/// By an average amount, in thousandths; `resource` is empty for metrics that are none of a resource.
pub(super) fn by_average(
    input: &Input,
    samples: Samples,
    resource: &str,
    target: i64,
) -> Result<Proposal, String> {
    if input.pods.is_empty() {
        return Err(NO_PODS.to_owned());
    }
    let (groups, samples) = grouped(input, samples, resource);
    if samples.is_empty() {
        return Err(NO_METRICS.to_owned());
    }
    let compare = |samples: &BTreeMap<String, i64>| {
        let sum = samples.values().fold(0i64, |sum, value| sum.saturating_add(*value));
        let usage = sum / i64::try_from(samples.len()).unwrap_or(1).max(1);
        Ok(Use { ratio: usage as f64 / target as f64, utilization: None, usage })
    };
    propose(input, groups, samples, compare, |_| target)
}

fn propose(
    input: &Input,
    groups: Groups,
    mut samples: BTreeMap<String, i64>,
    compare: impl Fn(&BTreeMap<String, i64>) -> Result<Use, String>,
    fallback: impl Fn(&str) -> i64,
) -> Result<Proposal, String> {
    let seen = compare(&samples)?;
    let proposal = |replicas| Ok(Proposal { replicas, utilization: seen.utilization, usage: seen.usage });
    let up_with_unready = !groups.unready.is_empty() && seen.ratio > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        if input.tolerances.has(seen.ratio) {
            return proposal(input.current);
        }
        return proposal(ceiling(seen.ratio * groups.ready as f64));
    }
    for pod in groups.missing {
        if seen.ratio < 1.0 {
            let value = fallback(&pod);
            samples.insert(pod, value);
        } else if seen.ratio > 1.0 {
            samples.insert(pod, 0);
        }
    }
    if up_with_unready {
        samples.extend(groups.unready.into_iter().map(|pod| (pod, 0)));
    }
    let ratio = compare(&samples)?.ratio;
    let turned = (seen.ratio < 1.0 && ratio > 1.0) || (seen.ratio > 1.0 && ratio < 1.0);
    if input.tolerances.has(ratio) || turned {
        return proposal(input.current);
    }
    let replicas = ceiling(ratio * samples.len() as f64);
    let against = (ratio < 1.0 && replicas > input.current) || (ratio > 1.0 && replicas < input.current);
    proposal(if against { input.current } else { replicas })
}

/// By one value for all pods, in thousandths.
pub(super) fn by_value(input: &Input, usage: i64, target: i64) -> Result<i32, String> {
    let ratio = usage as f64 / target as f64;
    if input.current == 0 {
        return Ok(ceiling(ratio));
    }
    if input.tolerances.has(ratio) {
        return Ok(input.current);
    }
    if input.pods.is_empty() {
        return Err(format!("unable to calculate ready pods: {NO_PODS}"));
    }
    let ready = input.pods.iter().filter(|pod| pod.status.phase == "Running" && pod.is_ready()).count();
    Ok(ceiling(ratio * ready as f64))
}

/// By one value that is shared among the pods, and the share of each.
pub(super) fn by_share(replicas: i32, tolerances: Tolerances, usage: i64, target: i64) -> (i32, i64) {
    let ratio = usage as f64 / (target as f64 * f64::from(replicas));
    let wanted = if tolerances.has(ratio) { replicas } else { ceiling(usage as f64 / target as f64) };
    (wanted, (usage as f64 / f64::from(replicas)).ceil() as i64)
}

fn ceiling(number: f64) -> i32 {
    // A conversion from a number too large ends at the largest one.
    number.ceil() as i32
}

/// Sorts the pods, and drops samples of those that do not count yet, or any more.
fn grouped(input: &Input, samples: Samples, resource: &str) -> (Groups, BTreeMap<String, i64>) {
    let mut groups = Groups::default();
    let mut kept: BTreeMap<String, i64> =
        samples.iter().map(|(name, sample)| (name.clone(), sample.value)).collect();
    for pod in input.pods {
        let name = &pod.metadata.name;
        if pod.metadata.is_deleting() || pod.status.phase == "Failed" {
            kept.remove(name);
        } else if pod.status.phase == "Pending" {
            kept.remove(name);
            groups.unready.push(name.clone());
        } else {
            match samples.get(name) {
                None => groups.missing.push(name.clone()),
                Some(sample) if resource == "cpu" && !is_settled(input, pod, sample) => {
                    kept.remove(name);
                    groups.unready.push(name.clone());
                }
                Some(_) => groups.ready += 1,
            }
        }
    }
    (groups, kept)
}

/// Whether a pod's use of CPU says how much it needs: it uses more while it starts.
fn is_settled(input: &Input, pod: &Pod, sample: &Sample) -> bool {
    let (Some(ready), Some(start)) = (pod.condition("Ready"), &pod.status.start_time) else { return false };
    let changed = ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let not_ready = ready.status == "False";
    let after = |time: Timestamp, more: SignedDuration| time.checked_add(more).unwrap_or(Timestamp::MAX);
    if after(start.0, input.initialization) > input.now {
        !(not_ready || sample.time < after(changed, sample.window))
    } else {
        !(not_ready && after(start.0, input.readiness_delay) > changed)
    }
}

/// What a pod, or one of its containers, requests, in thousandths.
fn request(pod: &Pod, container: &str, resource: &str) -> Result<i64, String> {
    let whole = &pod.spec.resources.requests;
    if container.is_empty() && whole.keys().any(|name| is_of_whole_pods(name)) {
        let own = whole.get(resource).and_then(|text| Quantity::parse(text).ok());
        if let Some(own) = own.filter(|_| is_of_whole_pods(resource)) {
            return Ok(thousandths(&own));
        }
        let missing = format!("missing pod-level request for {resource} in Pod {}", pod.metadata.name);
        return of_containers(pod, "", resource).map_err(|_| missing);
    }
    of_containers(pod, container, resource)
}

fn of_containers(pod: &Pod, container: &str, resource: &str) -> Result<i64, String> {
    let sidecars = pod.spec.init_containers.iter().filter(|one| one.restart_policy == "Always");
    let mut sum = 0i64;
    let of = |one: &Container| {
        let text = one.resources.requests.get(resource);
        text.and_then(|text| Quantity::parse(text).ok()).map(|amount| thousandths(&amount)).ok_or_else(|| {
            format!("missing request for {resource} in container {} of Pod {}", one.name, pod.metadata.name)
        })
    };
    for one in pod.spec.containers.iter().chain(sidecars) {
        if container.is_empty() || one.name == *container {
            sum = sum.saturating_add(of(one)?);
        }
        if one.name == *container {
            return Ok(sum);
        }
    }
    match container.is_empty() {
        true => Ok(sum),
        false => Err(format!("container {container} not found in Pod {}", pod.metadata.name)),
    }
}
