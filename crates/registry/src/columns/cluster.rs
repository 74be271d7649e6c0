//! Nodes, namespaces, access control, certificates, devices.

use api::Tree;
use jiff::Timestamp;

use super::format::{NONE, UNKNOWN, UNSET, age, condition, labels, or};
use super::{AGE, Column, NAME, Printer, boolean, integer, name, string, wide};
use crate::tree::{entries, flag, get, has, int, list, number, text};

const RBAC: &str = "rbac.authorization.k8s.io";
const BINDING: &[Column] =
    &[NAME, string("Role"), AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts")];

pub(super) const PRINTERS: &[Printer] = &[
    Printer {
        group: "",
        plural: "nodes",
        columns: &[
            NAME,
            string("Status"),
            string("Roles"),
            AGE,
            string("Version"),
            wide("Internal-IP"),
            wide("External-IP"),
            wide("OS-Image"),
            wide("Kernel-Version"),
            wide("Container-Runtime"),
        ],
        cells: node,
    },
    Printer {
        group: "",
        plural: "namespaces",
        columns: &[NAME, string("Status"), AGE],
        cells: |object, now| vec![name(object), text(object, "status.phase").into(), age(object, now)],
    },
    Printer {
        group: "",
        plural: "serviceaccounts",
        columns: &[NAME, AGE],
        cells: |object, now| vec![name(object), age(object, now)],
    },
    Printer {
        group: "",
        plural: "resourcequotas",
        columns: &[NAME, string("Request"), string("Limit"), AGE],
        cells: quota,
    },
    Printer {
        group: "coordination.k8s.io",
        plural: "leases",
        columns: &[NAME, string("Holder"), AGE],
        cells: |object, now| vec![name(object), text(object, "spec.holderIdentity").into(), age(object, now)],
    },
    Printer {
        group: "scheduling.k8s.io",
        plural: "priorityclasses",
        columns: &[NAME, integer("Value"), boolean("Global-Default"), AGE, string("PreemptionPolicy")],
        cells: |object, now| {
            vec![
                name(object),
                number(object, "value").into(),
                flag(object, "globalDefault").into(),
                age(object, now),
                text(object, "preemptionPolicy").into(),
            ]
        },
    },
    Printer {
        group: "node.k8s.io",
        plural: "runtimeclasses",
        columns: &[NAME, string("Handler"), AGE],
        cells: |object, now| vec![name(object), text(object, "handler").into(), age(object, now)],
    },
    Printer { group: RBAC, plural: "rolebindings", columns: BINDING, cells: binding },
    Printer { group: RBAC, plural: "clusterrolebindings", columns: BINDING, cells: binding },
    Printer {
        group: "certificates.k8s.io",
        plural: "certificatesigningrequests",
        columns: &[
            NAME,
            AGE,
            string("SignerName"),
            string("Requestor"),
            string("RequestedDuration"),
            string("Condition"),
        ],
        cells: request,
    },
    Printer {
        group: "certificates.k8s.io",
        plural: "clustertrustbundles",
        columns: &[NAME, string("SignerName")],
        cells: |object, _| vec![name(object), text(object, "spec.signerName").into()],
    },
    Printer {
        group: "certificates.k8s.io",
        plural: "podcertificaterequests",
        columns: &[
            NAME,
            string("PodName"),
            string("ServiceAccountName"),
            string("NodeName"),
            string("SignerName"),
            string("State"),
            string("UnverifiedUserAnnotations"),
        ],
        cells: pod_request,
    },
    Printer {
        group: "resource.k8s.io",
        plural: "devicetaintrules",
        columns: &[NAME, string("Key"), string("Value"), string("Effect"), string("TimeAdded"), AGE],
        cells: |object, now| {
            let taint = get(object, "spec.taint");
            let [key, value, effect] = ["key", "value", "effect"].map(|field| text(taint, field).into());
            let added = super::format::since(super::format::time(taint, "timeAdded"), now);
            vec![name(object), key, value, effect, added.into(), age(object, now)]
        },
    },
    Printer {
        group: "resource.k8s.io",
        plural: "deviceclasses",
        columns: &[NAME, AGE],
        cells: super::custom,
    },
    Printer {
        group: "resource.k8s.io",
        plural: "resourceclaimtemplates",
        columns: &[NAME, AGE],
        cells: super::custom,
    },
    Printer {
        group: "resource.k8s.io",
        plural: "resourceclaims",
        columns: &[NAME, string("State"), AGE],
        cells: |object, now| {
            let mut states = Vec::new();
            if has(object, "metadata.deletionTimestamp") {
                states.push("deleted");
            }
            if has(object, "status.allocation") {
                states.push("allocated");
            } else if !has(object, "metadata.deletionTimestamp") {
                states.push("pending");
            }
            if !list(object, "status.reservedFor").is_empty() {
                states.push("reserved");
            }
            vec![name(object), states.join(",").into(), age(object, now)]
        },
    },
    Printer {
        group: "resource.k8s.io",
        plural: "resourceslices",
        columns: &[NAME, string("Node"), string("Driver"), string("Pool"), AGE],
        cells: |object, now| {
            vec![
                name(object),
                or(text(object, "spec.nodeName"), UNSET).into(),
                text(object, "spec.driver").into(),
                text(object, "spec.pool.name").into(),
                age(object, now),
            ]
        },
    },
];

fn node(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let status = condition(object, "Ready").map_or("Unknown", |ready| match text(ready, "status") {
        "True" => "Ready",
        _ => "NotReady",
    });
    let cordoned = if flag(object, "spec.unschedulable") { ",SchedulingDisabled" } else { "" };
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in entries(object, "metadata.labels") {
        match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => roles.push(role),
            None if key == "kubernetes.io/role" => {
                roles.extend(value.as_str().filter(|role| !role.is_empty()))
            }
            _ => {}
        }
    }
    roles.sort_unstable();
    roles.dedup();
    let roles = roles.join(",");
    let address = |kind: &str| {
        let found = list(object, "status.addresses").iter().find(|address| text(address, "type") == kind);
        found.map_or(NONE, |address| text(address, "address"))
    };
    let info = |field: &str| or(text(get(object, "status.nodeInfo"), field), UNKNOWN);
    vec![
        name(object),
        format!("{status}{cordoned}").into(),
        or(&roles, NONE).into(),
        age(object, now),
        text(object, "status.nodeInfo.kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        info("osImage").into(),
        info("kernelVersion").into(),
        info("containerRuntimeVersion").into(),
    ]
}

fn quota(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let mut names: Vec<&str> = entries(object, "status.hard").map(|(key, _)| key).collect();
    names.sort_unstable();
    let side = |limits: bool| {
        let shown = names.iter().filter(|name| name.starts_with("limits") == limits).map(|name| {
            let amount = |path: &str| get(object, path).get(name).and_then(Tree::as_str).unwrap_or("0");
            format!("{name}: {}/{}", amount("status.used"), amount("status.hard"))
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    vec![name(object), side(false).into(), side(true).into(), age(object, now)]
}

fn binding(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let role = format!("{}/{}", text(object, "roleRef.kind"), text(object, "roleRef.name"));
    let subjects = |kind: &str| {
        let of_kind = list(object, "subjects").iter().filter(|subject| text(subject, "kind") == kind);
        let names = of_kind.map(|subject| match kind {
            "ServiceAccount" => format!("{}/{}", text(subject, "namespace"), text(subject, "name")),
            _ => text(subject, "name").to_owned(),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    vec![
        name(object),
        role.into(),
        age(object, now),
        subjects("User").into(),
        subjects("Group").into(),
        subjects("ServiceAccount").into(),
    ]
}

fn request(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let (mut approved, mut denied, mut failed) = (false, false, false);
    for condition in list(object, "status.conditions") {
        match text(condition, "type") {
            "Approved" => approved = true,
            "Denied" => denied = true,
            "Failed" => failed = true,
            _ => {}
        }
    }
    let mut state = if denied {
        "Denied"
    } else if approved {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if failed {
        state.push_str(",Failed");
    }
    if !text(object, "status.certificate").is_empty() {
        state.push_str(",Issued");
    }
    let duration = int(object, "spec.expirationSeconds").map(super::human_duration);
    vec![
        name(object),
        age(object, now),
        or(text(object, "spec.signerName"), NONE).into(),
        text(object, "spec.username").into(),
        duration.unwrap_or_else(|| NONE.to_owned()).into(),
        state.into(),
    ]
}

fn pod_request(object: &Tree, _: Timestamp) -> Vec<Tree> {
    let spec = get(object, "spec");
    let mut cells = vec![name(object)];
    cells.extend(
        ["podName", "serviceAccountName", "nodeName", "signerName"].map(|field| text(spec, field).into()),
    );
    let state = ["Issued", "Denied", "Failed"].into_iter();
    let state = state.into_iter().find(|kind| condition(object, kind).is_some()).unwrap_or("Pending");
    cells.extend([state.into(), labels(spec, "unverifiedUserAnnotations").into()]);
    cells
}
