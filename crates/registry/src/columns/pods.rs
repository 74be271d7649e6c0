//! Pods, pod templates and events.

use api::Tree;
use jiff::Timestamp;

use super::format::{
    NONE, age, condition, condition_is_true, containers, human_duration, labels, or, since, time,
};
use super::{AGE, Column, NAME, Printer, name, string, wide};
use crate::tree::{flag, get, has, list, number, text};

pub(super) const PRINTERS: &[Printer] = &[
    Printer {
        group: "",
        plural: "pods",
        columns: &[
            NAME,
            string("Ready"),
            string("Status"),
            string("Restarts"),
            AGE,
            wide("IP"),
            wide("Node"),
            wide("Nominated Node"),
            wide("Readiness Gates"),
        ],
        cells: pod,
    },
    Printer {
        group: "",
        plural: "podtemplates",
        columns: &[NAME, string("Containers"), string("Images"), string("Pod Labels")],
        cells: |object, _| {
            let [names, images] = containers(get(object, "template.spec"));
            vec![name(object), names, images, labels(object, "template.metadata.labels").into()]
        },
    },
    Printer { group: "", plural: "events", columns: EVENT, cells: event },
    Printer { group: "events.k8s.io", plural: "events", columns: EVENT, cells: event },
];

const EVENT: &[Column] = &[
    string("Last Seen"),
    string("Type"),
    string("Reason"),
    string("Object"),
    wide("Subobject"),
    wide("Source"),
    string("Message"),
    wide("First Seen"),
    wide("Count"),
    Column { priority: 1, ..NAME },
];

/// What the containers' states add up to.
#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn restarted(&mut self, status: &Tree) {
        self.restarts += number(status, "restartCount");
        self.last_restart = self.last_restart.max(time(status, "lastState.terminated.finishedAt"));
    }
}

fn sidecar(pod: &Tree, name: &str) -> bool {
    list(pod, "spec.initContainers")
        .iter()
        .any(|one| text(one, "name") == name && text(one, "restartPolicy") == "Always")
}

/// Why a container ended, with a prefix.
fn ended(prefix: &str, terminated: &Tree) -> String {
    match (text(terminated, "reason"), number(terminated, "signal")) {
        ("", 0) => format!("{prefix}ExitCode:{}", number(terminated, "exitCode")),
        ("", signal) => format!("{prefix}Signal:{signal}"),
        (reason, _) => format!("{prefix}{reason}"),
    }
}

fn summary(pod: &Tree) -> Summary {
    let mut sum = Summary {
        reason: or(text(pod, "status.reason"), text(pod, "status.phase")).to_owned(),
        ..Summary::default()
    };
    if condition(pod, "PodScheduled").is_some_and(|condition| text(condition, "reason") == "SchedulingGated")
    {
        sum.reason = "SchedulingGated".to_owned();
    }
    let mut sidecars = Summary::default();
    let mut initializing = false;
    for (index, status) in list(pod, "status.initContainerStatuses").iter().enumerate() {
        let is_sidecar = sidecar(pod, text(status, "name"));
        sum.restarted(status);
        if is_sidecar {
            sidecars.restarted(status);
        }
        let terminated = get(status, "state.terminated");
        let waiting = text(status, "state.waiting.reason");
        if !terminated.is_null() && number(terminated, "exitCode") == 0 {
            continue;
        }
        if is_sidecar && flag(status, "started") {
            sum.ready += usize::from(flag(status, "ready"));
            continue;
        }
        sum.reason = if !terminated.is_null() {
            ended("Init:", terminated)
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{index}/{}", list(pod, "spec.initContainers").len())
        };
        initializing = true;
        break;
    }
    if !initializing || condition_is_true(pod, "Initialized") {
        (sum.restarts, sum.last_restart) = (sidecars.restarts, sidecars.last_restart);
        running(pod, &mut sum);
    }
    if has(pod, "metadata.deletionTimestamp") {
        let phase = text(pod, "status.phase");
        if text(pod, "status.reason") == "NodeLost" {
            sum.reason = "Unknown".to_owned();
        } else if !matches!(phase, "Failed" | "Succeeded") {
            sum.reason = "Terminating".to_owned();
        }
    }
    sum
}

/// The containers proper, the first of them having the last word.
fn running(pod: &Tree, sum: &mut Summary) {
    let (mut any, mut failure) = (false, None);
    for status in list(pod, "status.containerStatuses").iter().rev() {
        sum.restarted(status);
        let terminated = get(status, "state.terminated");
        let waiting = text(status, "state.waiting.reason");
        if !waiting.is_empty() {
            sum.reason = waiting.to_owned();
        } else if !terminated.is_null() {
            sum.reason = ended("", terminated);
            if number(terminated, "exitCode") != 0 {
                failure = Some(sum.reason.clone());
            }
        } else if flag(status, "ready") && has(status, "state.running") {
            any = true;
            sum.ready += 1;
        }
    }
    if sum.reason == "Completed" {
        sum.reason = match failure {
            _ if any && condition_is_true(pod, "Ready") => "Running".to_owned(),
            Some(failure) => failure,
            None if any => "NotReady".to_owned(),
            None => return,
        };
    }
}

fn pod(pod: &Tree, now: Timestamp) -> Vec<Tree> {
    let sum = summary(pod);
    let inits =
        list(pod, "spec.initContainers").iter().filter(|one| text(one, "restartPolicy") == "Always").count();
    let total = list(pod, "spec.containers").len() + inits;
    let restarts = match sum.last_restart.filter(|_| sum.restarts != 0) {
        Some(last) => {
            format!("{} ({} ago)", sum.restarts, human_duration(now.as_second() - last.as_second()))
        }
        None => sum.restarts.to_string(),
    };
    let first = list(pod, "status.podIPs").first().map(|ip| text(ip, "ip")).unwrap_or_default();
    let gates = list(pod, "spec.readinessGates");
    let passed = gates.iter().filter(|gate| condition_is_true(pod, text(gate, "conditionType"))).count();
    let gates = if gates.is_empty() { NONE.to_owned() } else { format!("{passed}/{}", gates.len()) };
    vec![
        name(pod),
        format!("{}/{total}", sum.ready).into(),
        sum.reason.into(),
        restarts.into(),
        age(pod, now),
        or(first, NONE).into(),
        or(text(pod, "spec.nodeName"), NONE).into(),
        or(text(pod, "status.nominatedNodeName"), NONE).into(),
        gates.into(),
    ]
}

/// An event in the terms of either group.
fn event(event: &Tree, now: Timestamp) -> Vec<Tree> {
    let either = |one: &str, other: &str| time(event, one).or_else(|| time(event, other));
    let first = either("firstTimestamp", "deprecatedFirstTimestamp").or_else(|| time(event, "eventTime"));
    let mut last = either("lastTimestamp", "deprecatedLastTimestamp").or(first);
    let mut count = number(event, "count").max(number(event, "deprecatedCount"));
    if has(event, "series") {
        last = time(event, "series.lastObservedTime");
        count = number(event, "series.count");
    } else if count == 0 {
        count = 1;
    }
    let object = if has(event, "regarding") { get(event, "regarding") } else { get(event, "involvedObject") };
    let source =
        if has(event, "deprecatedSource") { get(event, "deprecatedSource") } else { get(event, "source") };
    let reporter = or(text(event, "reportingComponent"), text(event, "reportingController"));
    let component = or(text(source, "component"), reporter);
    let host = or(text(source, "host"), text(event, "reportingInstance"));
    let source = if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") };
    let kind = text(object, "kind").to_lowercase();
    let about = match text(object, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        since(last, now).into(),
        text(event, "type").into(),
        text(event, "reason").into(),
        about.into(),
        text(object, "fieldPath").into(),
        source.into(),
        or(text(event, "message"), text(event, "note")).trim().into(),
        since(first, now).into(),
        count.into(),
        name(event),
    ]
}
