//! What is forbidden, and in what words; policies of namespaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Status, Tree, json};
use parking_lot::Mutex;
use registry::Kind;

use super::*;
use crate::tests::{Objects, attributes, ready};
use crate::{Context, Gvk, User};

fn check(level: Level, minor: Option<u32>, pod: Tree, expect: &str) {
    let version = minor.map_or(Version::Latest, Version::Minor);
    let found = violations(LevelVersion { level, version }, &pod);
    assert_eq!(checks::detail(&found), expect, "{pod:?}");
}

fn good() -> Tree {
    json!({"metadata": {}, "spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}})
}

fn with(path: &str, value: Tree) -> Tree {
    let mut pod = good();
    let (owner, field) = path.rsplit_once('.').unwrap();
    let owner = match owner.strip_prefix("c") {
        Some(rest) if rest.is_empty() || rest.starts_with('.') => {
            let container = &mut pod["spec"]["containers"][0];
            match rest.strip_prefix('.') {
                Some(rest) => registry::tree::ensure(container, rest),
                None => registry::tree::as_object(container),
            }
        }
        _ => registry::tree::ensure(&mut pod, owner),
    };
    owner.insert(field.to_owned(), value);
    pod
}

#[test]
fn the_baseline() {
    for (path, value, expect) in [
        ("spec.hostNetwork", json!(true), "host namespaces (hostNetwork=true)"),
        (
            "spec.volumes",
            json!([{"name": "v", "hostPath": {"path": "/"}}]),
            "hostPath volumes (volume \"v\")",
        ),
        (
            "c.ports",
            json!([{"hostPort": 9}, {"hostPort": 10}]),
            "hostPort (container \"c\" uses hostPorts 10, 9)",
        ),
        (
            "c.securityContext.privileged",
            json!(true),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            "c.securityContext.capabilities",
            json!({"add": ["SYS_ADMIN", "CHOWN", "BPF"]}),
            "non-default capabilities (container \"c\" must not include \"BPF\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            "c.securityContext.procMount",
            json!("Unmasked"),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            "spec.securityContext.seLinuxOptions",
            json!({"type": "x", "user": "u", "role": "r"}),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"x\"; user may not be set; role may not be set)",
        ),
        (
            "c.securityContext.seccompProfile",
            json!({"type": "Unconfined"}),
            "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            "spec.securityContext.sysctls",
            json!([{"name": "a.b"}, {"name": "net.ipv4.tcp_rmem"}]),
            "forbidden sysctls (a.b)",
        ),
        (
            "spec.securityContext.windowsOptions",
            json!({"hostProcess": true}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            "c.livenessProbe",
            json!({"httpGet": {"host": "h"}}),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"h\")",
        ),
        (
            "metadata.annotations",
            json!({"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}),
            "forbidden AppArmor profile (annotation must not set AppArmor profile type to \"container.apparmor.security.beta.kubernetes.io/c=\"unconfined\"\")",
        ),
        (
            "c.securityContext.appArmorProfile",
            json!({"type": "Unconfined"}),
            "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
        ),
    ] {
        check(Level::Baseline, None, with(path, value.clone()), expect);
        check(Level::Privileged, None, with(path, value), "");
    }
    check(Level::Baseline, None, good(), "");
}

#[test]
fn the_restricted_level() {
    check(Level::Restricted, None, good(), "");
    check(
        Level::Restricted,
        None,
        json!({"spec": {"hostUsers": true, "containers": [{"name": "c"}], "initContainers": [{"name": "i"}],
            "volumes": [{"name": "a", "hostPath": {}}, {"name": "b", "nfs": {}}, {"name": "c", "emptyDir": {}}]}}),
        "allowPrivilegeEscalation != false (containers \"i\", \"c\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (containers \"i\", \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         restricted volume types (volumes \"a\", \"b\" use restricted volume types \"hostPath\", \"nfs\"), \
         runAsNonRoot != true (pod or containers \"i\", \"c\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or containers \"i\", \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
    );
    check(
        Level::Restricted,
        None,
        with(
            "c.securityContext.capabilities",
            json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "CHOWN"]}),
        ),
        "unrestricted capabilities (container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
    );
    check(
        Level::Restricted,
        None,
        with("c.securityContext.runAsNonRoot", json!(false)),
        "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false)",
    );
    check(
        Level::Restricted,
        None,
        with("spec.securityContext.runAsUser", json!(0)),
        "runAsUser=0 (pod must not set runAsUser=0)",
    );
}

#[test]
fn rules_change_with_versions() {
    let root = with("spec.securityContext.runAsUser", json!(0));
    check(Level::Restricted, Some(22), root.clone(), "");
    check(Level::Restricted, Some(23), root.clone(), "runAsUser=0 (pod must not set runAsUser=0)");
    let mut own_users = root;
    own_users["spec"]["hostUsers"] = json!(false);
    check(Level::Restricted, Some(34), own_users.clone(), "runAsUser=0 (pod must not set runAsUser=0)");
    check(Level::Restricted, Some(99), own_users, "");
    let sysctl = |name: &str| with("spec.securityContext.sysctls", json!([{"name": name}]));
    check(Level::Baseline, Some(31), sysctl("net.ipv4.tcp_rmem"), "forbidden sysctls (net.ipv4.tcp_rmem)");
    check(Level::Baseline, Some(32), sysctl("net.ipv4.tcp_rmem"), "");
    check(
        Level::Baseline,
        Some(36),
        sysctl("net.ipv4.tcp_notsent_lowat"),
        "forbidden sysctls (net.ipv4.tcp_notsent_lowat)",
    );
    check(Level::Baseline, None, sysctl("net.ipv4.tcp_notsent_lowat"), "");
    let windows = json!({"spec": {"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c"}]}});
    check(Level::Restricted, Some(25), windows.clone(), "");
    check(
        Level::Restricted,
        Some(8),
        windows,
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)",
    );
    let annotated = json!({"metadata": {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}}, "spec": {}});
    check(
        Level::Baseline,
        Some(18),
        annotated,
        "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")",
    );
}

/// What a request was answered with beside its result.
#[derive(Default)]
struct Noted {
    warnings: Mutex<Vec<String>>,
    annotations: Mutex<BTreeMap<String, String>>,
}

impl Context for Noted {
    fn versions(&self, _: &Kind) -> Vec<Arc<Kind>> {
        Vec::new()
    }

    fn kind(&self, _: &Gvk<'_>) -> Option<Arc<Kind>> {
        None
    }

    fn warn(&self, text: String) {
        self.warnings.lock().push(text);
    }

    fn annotate(&self, key: String, value: String) {
        self.annotations.lock().insert(key, value);
    }
}

struct Answer {
    result: Result<(), Status>,
    warnings: Vec<String>,
    annotations: BTreeMap<String, String>,
}

fn ask(
    settings: PodSecuritySettings,
    labels: Tree,
    (group, plural): (&str, &str),
    object: Tree,
    old: Option<Tree>,
) -> Answer {
    let pod = |name: &str, owner: &str| {
        json!({"metadata": {"name": name, "namespace": "t", "ownerReferences": [{"controller": true, "uid": owner}]},
            "spec": {"containers": [{"name": "c", "securityContext": {"privileged": true}}]}})
    };
    let services: Arc<dyn Services> = Arc::new(
        Objects::default()
            .with("namespaces", json!({"metadata": {"name": "t", "labels": labels}}))
            .with("pods", pod("b", "1"))
            .with("pods", pod("a", "1"))
            .with("pods", json!({"metadata": {"name": "x", "namespace": "t"}, "spec": {"hostPID": true, "containers": []}})),
    );
    let plugin = PodSecurity::new(services, settings);
    let (groups, extra, noted) = (Vec::new(), BTreeMap::new(), Noted::default());
    let user = User { name: "u", uid: "", groups: &groups, extra: &extra };
    let resource = registry::kind::built_in(group, "v1", plural).unwrap();
    let operation = if old.is_some() { Operation::Update } else { Operation::Create };
    let name = if plural == "namespaces" { "t" } else { "p" };
    let attributes = Attributes {
        namespace: "t",
        name,
        old: old.as_ref(),
        context: &noted,
        ..attributes(user, operation, resource)
    };
    let result = ready(plugin.validate(&attributes, &object));
    let (warnings, annotations) = (noted.warnings.into_inner(), noted.annotations.into_inner());
    Answer { result, warnings, annotations }
}

const PODS: (&str, &str) = ("", "pods");

fn privileged() -> Tree {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": true}}]}})
}

#[test]
fn pods_are_refused_noted_and_warned_of() {
    let what = "privileged (container \"c\" must not set securityContext.privileged=true)";
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/audit": "baseline"});
    let answer = ask(PodSecuritySettings::default(), labels.clone(), PODS, privileged(), None);
    assert_eq!(
        answer.result.unwrap_err().message,
        format!("pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": {what}")
    );
    assert!(answer.warnings.is_empty());
    assert_eq!(answer.annotations["pod-security.kubernetes.io/enforce-policy"], "baseline:latest");
    assert_eq!(
        answer.annotations["pod-security.kubernetes.io/audit-violations"],
        format!("would violate PodSecurity \"baseline:latest\": {what}")
    );
    let warned = json!({"pod-security.kubernetes.io/warn": "baseline", "pod-security.kubernetes.io/warn-version": "v1.30"});
    let answer = ask(PodSecuritySettings::default(), warned, PODS, privileged(), None);
    assert!(answer.result.is_ok());
    assert_eq!(answer.warnings, [format!("would violate PodSecurity \"baseline:v1.30\": {what}")]);
    // what makes pods is not refused
    let deployment = json!({"metadata": {"name": "p"}, "spec": {"template": privileged()}});
    let answer =
        ask(PodSecuritySettings::default(), labels.clone(), ("apps", "deployments"), deployment, None);
    assert!(answer.result.is_ok());
    assert_eq!(answer.warnings, [format!("would violate PodSecurity \"baseline:latest\": {what}")]);
    // an update that runs nothing new
    let answer = ask(PodSecuritySettings::default(), labels, PODS, privileged(), Some(privileged()));
    assert!(answer.result.is_ok() && answer.annotations.is_empty());
    let answer = ask(PodSecuritySettings::default(), json!({}), PODS, privileged(), None);
    assert_eq!(answer.annotations["pod-security.kubernetes.io/enforce-policy"], "privileged:latest");
}

#[test]
fn labels_that_cannot_be_read_refuse_most_and_warn_of_nothing() {
    let labels = json!({"pod-security.kubernetes.io/enforce": "x", "pod-security.kubernetes.io/warn": "y"});
    let answer = ask(PodSecuritySettings::default(), labels, PODS, privileged(), None);
    assert!(answer.result.unwrap_err().message.contains("violates PodSecurity \"restricted:latest\""));
    assert_eq!(
        answer.annotations["pod-security.kubernetes.io/error"],
        "Failed to parse policy: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, baseline, restricted, \
         metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"y\": must be one of privileged, baseline, restricted]"
    );
}

#[test]
fn exemptions() {
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
    let set = |name: &str| [name.to_owned()].into_iter().collect();
    let none = PodSecuritySettings::default();
    let mut windows = privileged();
    windows["spec"]["runtimeClassName"] = "r".into();
    for (settings, object, reason) in [
        (PodSecuritySettings { exempt_users: set("u"), ..none.clone() }, privileged(), "user"),
        (PodSecuritySettings { exempt_namespaces: set("t"), ..none.clone() }, privileged(), "namespace"),
        (PodSecuritySettings { exempt_runtime_classes: set("r"), ..none.clone() }, windows, "runtimeClass"),
    ] {
        let answer = ask(settings, labels.clone(), PODS, object, None);
        assert!(answer.result.is_ok());
        assert_eq!(
            answer.annotations,
            BTreeMap::from([("pod-security.kubernetes.io/exempt".to_owned(), reason.to_owned())])
        );
    }
}

#[test]
fn namespaces() {
    let namespace = |labels: Tree| json!({"metadata": {"name": "t", "labels": labels}});
    let enforce = |level: &str| namespace(json!({"pod-security.kubernetes.io/enforce": level}));
    let of = ("", "namespaces");
    let answer = ask(PodSecuritySettings::default(), json!({}), of, enforce("x"), None);
    assert_eq!(
        answer.result.unwrap_err().message,
        "Namespace \"t\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, baseline, restricted"
    );
    // what was wrong before may stay
    let answer = ask(PodSecuritySettings::default(), json!({}), of, enforce("x"), Some(enforce("x")));
    assert!(answer.result.is_ok());
    let answer =
        ask(PodSecuritySettings::default(), json!({}), of, enforce("baseline"), Some(namespace(json!({}))));
    assert!(answer.result.is_ok());
    assert_eq!(
        answer.warnings,
        [
            "existing pods in namespace \"t\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 1 other pod): privileged",
            "x: host namespaces",
        ]
    );
    let answer =
        ask(PodSecuritySettings::default(), json!({}), of, enforce("baseline"), Some(enforce("restricted")));
    assert!(answer.warnings.is_empty());
    let exempt = PodSecuritySettings {
        exempt_namespaces: ["t".to_owned()].into_iter().collect(),
        ..Default::default()
    };
    let answer = ask(exempt, json!({}), of, enforce("baseline"), None);
    assert_eq!(
        answer.warnings,
        [
            "namespace \"t\" is exempt from Pod Security, and the policy (enforce=baseline:latest) will be ignored"
        ]
    );
}

#[test]
fn versions() {
    for (text, expect) in [
        ("latest", Ok(Version::Latest)),
        ("v1.0", Ok(Version::Minor(0))),
        ("v1.37", Ok(Version::Minor(37))),
        ("v1.01", Err("must be \"latest\" or \"v1.x\"")),
        ("v1.", Err("must be \"latest\" or \"v1.x\"")),
        ("1.2", Err("must be \"latest\" or \"v1.x\"")),
        ("v2.0", Err("must be \"latest\" or \"v1.x\"")),
    ] {
        assert_eq!(Version::parse(text), expect, "{text}");
    }
}
