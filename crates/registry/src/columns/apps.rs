//! Workloads, jobs, autoscalers and disruption budgets.

use api::Tree;
use jiff::Timestamp;

use super::format::{
    NONE, UNKNOWN, UNSET, age, condition_is_true, containers, human_duration, labels, optional_bool, or,
    selector, since, time,
};
use super::{AGE, Column, NAME, Printer, boolean, integer, name, string, wide};
use crate::tree::{flag, get, has, int, list, number, text};

const CONTAINERS: Column = wide("Containers");
const IMAGES: Column = wide("Images");
const SELECTOR: Column = wide("Selector");
const COUNTED: &[Column] =
    &[NAME, integer("Desired"), integer("Current"), integer("Ready"), AGE, CONTAINERS, IMAGES, SELECTOR];

pub(super) const PRINTERS: &[Printer] = &[
    Printer {
        group: "apps",
        plural: "deployments",
        columns: &[
            NAME,
            string("Ready"),
            string("Up-to-date"),
            string("Available"),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cells: deployment,
    },
    Printer {
        group: "apps",
        plural: "replicasets",
        columns: COUNTED,
        cells: |object, now| counted(object, now, selector(object, "spec.selector")),
    },
    Printer {
        group: "",
        plural: "replicationcontrollers",
        columns: COUNTED,
        cells: |object, now| counted(object, now, labels(object, "spec.selector").into()),
    },
    Printer {
        group: "apps",
        plural: "daemonsets",
        columns: &[
            NAME,
            integer("Desired"),
            integer("Current"),
            integer("Ready"),
            integer("Up-to-date"),
            integer("Available"),
            string("Node Selector"),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cells: daemon_set,
    },
    Printer {
        group: "apps",
        plural: "statefulsets",
        columns: &[NAME, string("Ready"), AGE, CONTAINERS, IMAGES],
        cells: stateful_set,
    },
    Printer {
        group: "apps",
        plural: "controllerrevisions",
        columns: &[NAME, string("Controller"), string("Revision"), AGE],
        cells: revision,
    },
    Printer {
        group: "batch",
        plural: "jobs",
        columns: &[
            NAME,
            string("Status"),
            string("Completions"),
            string("Duration"),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cells: job,
    },
    Printer {
        group: "batch",
        plural: "cronjobs",
        columns: &[
            NAME,
            string("Schedule"),
            string("Timezone"),
            boolean("Suspend"),
            integer("Active"),
            string("Last Schedule"),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cells: cron_job,
    },
    Printer {
        group: "autoscaling",
        plural: "horizontalpodautoscalers",
        columns: &[
            NAME,
            string("Reference"),
            string("Targets"),
            string("MinPods"),
            string("MaxPods"),
            string("Replicas"),
            AGE,
        ],
        cells: autoscaler,
    },
    Printer {
        group: "policy",
        plural: "poddisruptionbudgets",
        columns: &[
            NAME,
            string("Min Available"),
            string("Max Unavailable"),
            integer("Allowed Disruptions"),
            AGE,
        ],
        cells: budget,
    },
];

fn deployment(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let ready = format!("{}/{}", number(object, "status.readyReplicas"), number(object, "spec.replicas"));
    let [names, images] = containers(get(object, "spec.template.spec"));
    vec![
        name(object),
        ready.into(),
        number(object, "status.updatedReplicas").into(),
        number(object, "status.availableReplicas").into(),
        age(object, now),
        names,
        images,
        selector(object, "spec.selector"),
    ]
}

fn counted(object: &Tree, now: Timestamp, selector: Tree) -> Vec<Tree> {
    let [names, images] = containers(get(object, "spec.template.spec"));
    vec![
        name(object),
        number(object, "spec.replicas").into(),
        number(object, "status.replicas").into(),
        number(object, "status.readyReplicas").into(),
        age(object, now),
        names,
        images,
        selector,
    ]
}

fn daemon_set(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let [names, images] = containers(get(object, "spec.template.spec"));
    let mut cells = vec![name(object)];
    for field in [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    ] {
        cells.push(number(get(object, "status"), field).into());
    }
    cells.push(labels(object, "spec.template.spec.nodeSelector").into());
    cells.extend([age(object, now), names, images, selector(object, "spec.selector")]);
    cells
}

fn stateful_set(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let ready = format!("{}/{}", number(object, "status.readyReplicas"), number(object, "spec.replicas"));
    let [names, images] = containers(get(object, "spec.template.spec"));
    vec![name(object), ready.into(), age(object, now), names, images]
}

fn revision(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let owner = list(object, "metadata.ownerReferences").iter().find(|owner| flag(owner, "controller"));
    let controller = owner.map(|owner| {
        let group = text(owner, "apiVersion").split_once('/').map(|(group, _)| group).unwrap_or_default();
        let dot = if group.is_empty() { "" } else { "." };
        format!("{}{dot}{group}/{}", text(owner, "kind").to_lowercase(), text(owner, "name"))
    });
    let controller = controller.unwrap_or_else(|| NONE.to_owned());
    vec![name(object), controller.into(), number(object, "revision").into(), age(object, now)]
}

fn job(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let done = number(object, "status.succeeded");
    let completions = match (int(object, "spec.completions"), number(object, "spec.parallelism")) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}"),
        (None, _) => format!("{done}/1"),
    };
    let duration = match (time(object, "status.startTime"), time(object, "status.completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => human_duration(end.unwrap_or(now).as_second() - start.as_second()),
    };
    let known = |kinds: &[&'static str]| kinds.iter().copied().find(|kind| condition_is_true(object, kind));
    let status = match known(&["Complete", "Failed"]) {
        Some(end) => end,
        None if has(object, "metadata.deletionTimestamp") => "Terminating",
        None => known(&["Suspended", "FailureTarget", "SuccessCriteriaMet"]).unwrap_or("Running"),
    };
    let [names, images] = containers(get(object, "spec.template.spec"));
    vec![
        name(object),
        status.into(),
        completions.into(),
        duration.into(),
        age(object, now),
        names,
        images,
        selector(object, "spec.selector"),
    ]
}

fn cron_job(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let last = time(object, "status.lastScheduleTime");
    let last = last.map_or_else(|| NONE.to_owned(), |last| since(Some(last), now));
    let [names, images] = containers(get(object, "spec.jobTemplate.spec.template.spec"));
    vec![
        name(object),
        text(object, "spec.schedule").into(),
        or(text(object, "spec.timeZone"), NONE).into(),
        optional_bool(get(object, "spec.suspend")),
        list(object, "status.active").len().into(),
        last.into(),
        age(object, now),
        names,
        images,
        selector(object, "spec.jobTemplate.spec.selector"),
    ]
}

fn autoscaler(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let target = get(object, "spec.scaleTargetRef");
    let reference = format!("{}/{}", text(target, "kind"), text(target, "name"));
    let least = int(object, "spec.minReplicas").map_or_else(|| UNSET.to_owned(), |least| least.to_string());
    vec![
        name(object),
        reference.into(),
        targets(object).into(),
        least.into(),
        number(object, "spec.maxReplicas").into(),
        number(object, "status.currentReplicas").into(),
        age(object, now),
    ]
}

/// What the metrics are and should be: `cpu: 10%/80%`, the first two of them.
fn targets(object: &Tree) -> String {
    // The first version keeps all metrics but one in annotations.
    let mut newer = Tree::Null;
    let first = api::tables::resource("autoscaling", "v1", "horizontalpodautoscalers");
    let object = match first.filter(|first| text(object, "apiVersion") == first.api_version()) {
        Some(first) => {
            newer.clone_from(object);
            let converted = api::convert::convert(&mut newer, first, "autoscaling", "v2");
            // The one it keeps stands first, as it does by default.
            if has(object, "spec.targetCPUUtilizationPercentage")
                && let Some(metrics) = newer.pointer_mut("/spec/metrics").and_then(Tree::as_array_mut)
            {
                metrics.rotate_right(1);
            }
            if converted.is_ok() { &newer } else { object }
        }
        None => object,
    };
    let metrics = list(object, "spec.metrics");
    let current = list(object, "status.currentMetrics");
    let shown = |(index, metric): (usize, &Tree)| {
        let kind = text(metric, "type");
        let field = format!(
            "{}{}",
            kind.get(..1).unwrap_or_default().to_lowercase(),
            kind.get(1..).unwrap_or_default()
        );
        let (source, seen) =
            (get(metric, &field), current.get(index).map_or(&Tree::Null, |seen| get(seen, &field)));
        let amount = |tree: &Tree, place: &str| {
            let tree = get(tree, place);
            match (int(tree, "averageUtilization"), text(tree, "averageValue"), text(tree, "value")) {
                (Some(percent), ..) => Some(format!("{percent}%")),
                (None, "", "") => None,
                (None, "", value) => Some(value.to_owned()),
                (None, average, _) => Some(format!(
                    "{average}{}",
                    if kind == "External" || kind == "Object" { " (avg)" } else { "" }
                )),
            }
        };
        let label =
            if field.ends_with("esource") { format!("{}: ", text(source, "name")) } else { String::new() };
        let now = amount(seen, "current").unwrap_or_else(|| UNKNOWN.to_owned());
        format!("{label}{now}/{}", amount(source, "target").unwrap_or_default())
    };
    match metrics.len() {
        0 => NONE.to_owned(),
        count => {
            let first: Vec<String> = metrics.iter().enumerate().take(2).map(shown).collect();
            let more = if count > 2 { format!(" + {} more...", count - 2) } else { String::new() };
            format!("{}{more}", first.join(", "))
        }
    }
}

fn budget(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let amount = |path: &str| match get(object, path) {
        Tree::Null => "N/A".to_owned(),
        Tree::String(text) => text.to_string(),
        other => other.to_string(),
    };
    vec![
        name(object),
        amount("spec.minAvailable").into(),
        amount("spec.maxUnavailable").into(),
        number(object, "status.disruptionsAllowed").into(),
        age(object, now),
    ]
}
