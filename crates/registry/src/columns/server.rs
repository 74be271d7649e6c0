//! What configures the API server itself: other servers, definitions, admission, priorities; and how its parts do.

use api::Tree;
use jiff::Timestamp;

use super::format::{NONE, UNKNOWN, UNSET, age, condition, joined, labels, or};
use super::{AGE, CREATED, Column, NAME, Printer, column, integer, name, string, wide};
use crate::tree::{flag, get, int, list, number, text};

const ADMISSION: &str = "admissionregistration.k8s.io";
const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const WEBHOOKS: &[Column] = &[NAME, integer("Webhooks"), AGE];
const POLICY_BINDING: &[Column] = &[NAME, string("PolicyName"), string("ParamRef"), AGE];

pub(super) const PRINTERS: &[Printer] = &[
    Printer {
        group: "",
        plural: "componentstatuses",
        columns: &[NAME, string("Status"), string("Message"), string("Error")],
        cells: component,
    },
    Printer {
        group: "apiregistration.k8s.io",
        plural: "apiservices",
        columns: &[NAME, string("Service"), string("Available"), AGE],
        cells: api_service,
    },
    Printer {
        group: "apiextensions.k8s.io",
        plural: "customresourcedefinitions",
        columns: &[
            NAME,
            string("Scope"),
            string("Versions"),
            CREATED,
            wide("Group"),
            wide("Kind"),
            wide("ShortNames"),
            column("Established", "boolean", 1),
        ],
        cells: definition,
    },
    Printer {
        group: ADMISSION,
        plural: "validatingwebhookconfigurations",
        columns: WEBHOOKS,
        cells: webhooks,
    },
    Printer { group: ADMISSION, plural: "mutatingwebhookconfigurations", columns: WEBHOOKS, cells: webhooks },
    Printer {
        group: ADMISSION,
        plural: "validatingadmissionpolicies",
        columns: &[NAME, integer("Validations"), string("ParamKind"), AGE],
        cells: |object, now| policy(object, now, "spec.validations"),
    },
    Printer {
        group: ADMISSION,
        plural: "mutatingadmissionpolicies",
        columns: &[NAME, integer("Mutations"), string("ParamKind"), AGE],
        cells: |object, now| policy(object, now, "spec.mutations"),
    },
    Printer {
        group: ADMISSION,
        plural: "validatingadmissionpolicybindings",
        columns: POLICY_BINDING,
        cells: policy_binding,
    },
    Printer {
        group: ADMISSION,
        plural: "mutatingadmissionpolicybindings",
        columns: POLICY_BINDING,
        cells: policy_binding,
    },
    Printer {
        group: FLOW,
        plural: "flowschemas",
        columns: &[
            NAME,
            string("PriorityLevel"),
            string("MatchingPrecedence"),
            string("DistinguisherMethod"),
            AGE,
            string("MissingPL"),
        ],
        cells: flow_schema,
    },
    Printer {
        group: FLOW,
        plural: "prioritylevelconfigurations",
        columns: &[
            NAME,
            string("Type"),
            string("NominalConcurrencyShares"),
            string("Queues"),
            string("HandSize"),
            string("QueueLengthLimit"),
            AGE,
        ],
        cells: priority_level,
    },
    Printer {
        group: "storagemigration.k8s.io",
        plural: "storageversionmigrations",
        columns: &[string("Name"), string("Resource"), string("Status")],
        cells: migration,
    },
];

fn component(object: &Tree, _: Timestamp) -> Vec<Tree> {
    let healthy = list(object, "conditions").iter().find(|condition| text(condition, "type") == "Healthy");
    let status = match healthy.map(|condition| text(condition, "status")) {
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    };
    let field = |field: &str| healthy.map_or("", |condition| text(condition, field)).into();
    vec![name(object), status.into(), field("message"), field("error")]
}

fn migration(object: &Tree, _: Timestamp) -> Vec<Tree> {
    let [group, resource] = ["group", "resource"].map(|field| text(get(object, "spec.resource"), field));
    let dot = if group.is_empty() { "" } else { "." };
    let state = ["Succeeded", "Failed", "Running"].into_iter();
    let state =
        state.into_iter().find(|kind| super::format::condition_is_true(object, kind)).unwrap_or("Pending");
    vec![name(object), format!("{resource}{dot}{group}").into(), state.into()]
}

fn api_service(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let service = get(object, "spec.service");
    let backend = if service.is_null() {
        "Local".to_owned()
    } else {
        format!("{}/{}", text(service, "namespace"), text(service, "name"))
    };
    let available = condition(object, "Available").map_or(UNKNOWN.to_owned(), |condition| {
        match (text(condition, "status"), text(condition, "reason")) {
            ("True", _) => "True".to_owned(),
            (status, reason) => format!("{status} ({reason})"),
        }
    });
    vec![name(object), backend.into(), available.into(), age(object, now)]
}

fn definition(object: &Tree, _: Timestamp) -> Vec<Tree> {
    let versions: Vec<&str> = list(object, "spec.versions")
        .iter()
        .filter(|version| flag(version, "served"))
        .map(|version| text(version, "name"))
        .collect();
    let established = super::format::condition_is_true(object, "Established");
    vec![
        name(object),
        text(object, "spec.scope").into(),
        versions.join(",").into(),
        text(object, "metadata.creationTimestamp").into(),
        text(object, "spec.group").into(),
        text(object, "spec.names.kind").into(),
        joined(object, "spec.names.shortNames", ",").into(),
        established.into(),
    ]
}

fn webhooks(object: &Tree, now: Timestamp) -> Vec<Tree> {
    vec![name(object), list(object, "webhooks").len().into(), age(object, now)]
}

fn policy(object: &Tree, now: Timestamp, rules: &str) -> Vec<Tree> {
    let kind = get(object, "spec.paramKind");
    let shown = if kind.is_null() {
        UNSET.to_owned()
    } else {
        format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind"))
    };
    vec![name(object), list(object, rules).len().into(), shown.into(), age(object, now)]
}

fn policy_binding(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let reference = get(object, "spec.paramRef");
    let shown = match (text(reference, "namespace"), text(reference, "name")) {
        _ if reference.is_null() => UNSET.to_owned(),
        (_, "") => labels(reference, "selector.matchLabels"),
        ("", name) => format!("*/{name}"),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    vec![name(object), text(object, "spec.policyName").into(), shown.into(), age(object, now)]
}

fn flow_schema(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let dangling = condition(object, "Dangling").map_or("?", |condition| text(condition, "status"));
    vec![
        name(object),
        text(object, "spec.priorityLevelConfiguration.name").into(),
        number(object, "spec.matchingPrecedence").into(),
        or(text(object, "spec.distinguisherMethod.type"), NONE).into(),
        age(object, now),
        dangling.into(),
    ]
}

fn priority_level(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let limited = get(object, "spec.limited");
    let queuing = get(limited, "limitResponse.queuing");
    let shown = |tree: &Tree, field: &str| match int(tree, field) {
        Some(number) => Tree::from(number),
        None => NONE.into(),
    };
    vec![
        name(object),
        text(object, "spec.type").into(),
        shown(limited, "nominalConcurrencyShares"),
        shown(queuing, "queues"),
        shown(queuing, "handSize"),
        shown(queuing, "queueLengthLimit"),
        age(object, now),
    ]
}
