//! Tables over specs and runtime states.

use super::*;
use crate::runtime::Sandbox;
use serde_json::json;

fn pod(spec: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}))
        .unwrap()
}

/// `"name:state[:exit code]"`, newest first; a ready sandbox unless `sandbox` says otherwise.
fn runtime(pod: &Pod, sandbox: &str, containers: &[&str]) -> RuntimePod {
    let spec = pod.spec.as_ref().unwrap();
    let ready = sandbox == "ready";
    let sandboxes = match sandbox {
        "none" => Vec::new(),
        _ => vec![Sandbox { id: "s".into(), ready, ips: vec!["10.0.0.1".into()], ..Default::default() }],
    };
    let containers = containers
        .iter()
        .map(|text| {
            let mut parts = text.split(':');
            let name = parts.next().unwrap();
            let state = match parts.next().unwrap() {
                "run" => State::Running,
                "exit" => State::Exited,
                "created" => State::Created,
                _ => State::Unknown,
            };
            let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
            let hash = all.find(|it| it.name == name).map(crate::container_config::hash).unwrap_or_default();
            Instance {
                id: format!("id-{name}"),
                name: name.into(),
                sandbox_id: "s".into(),
                state,
                hash,
                exit_code: parts.next().map_or(0, |code| code.parse().unwrap()),
                finished_at: 1,
                ..Default::default()
            }
        })
        .collect();
    RuntimePod { uid: "u".into(), sandboxes, containers, ..Default::default() }
}

/// Words: `killpod`, `sandbox`, `kill x`, `start x`, `wait x`.
fn show(plan: &Plan) -> Vec<String> {
    let mut words = Vec::new();
    words.extend(plan.kill_pod.then(|| "killpod".to_owned()));
    words.extend(plan.create_sandbox.map(|_| "sandbox".to_owned()));
    words.extend(plan.kill.iter().map(|it| format!("kill {}", it.name)));
    words.extend(plan.start.iter().map(|it| format!("start {}", it.name)));
    words.extend(plan.waits.iter().map(|it| format!("wait {}", it.name)));
    words
}

fn check(pod: &Pod, sandbox: &str, containers: &[&str], expect: &[&str]) {
    check_with(pod, sandbox, containers, &ProbeResults::default(), &Backoffs::default(), expect);
}

fn check_with(
    pod: &Pod,
    sandbox: &str,
    containers: &[&str],
    probes: &ProbeResults,
    backoffs: &Backoffs,
    expect: &[&str],
) {
    let found =
        plan(pod, &runtime(pod, sandbox, containers), &Context { probes, backoffs, actuated: None, now: 2 });
    assert_eq!(show(&found), expect, "{sandbox} {containers:?}");
}

#[test]
fn plain_pods() {
    let always = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    check(&always, "none", &[], &["sandbox", "start a", "start b"]);
    check(&always, "ready", &[], &["start a", "start b"]);
    check(&always, "ready", &["a:run", "b:run"], &[]);
    check(&always, "ready", &["a:run", "b:exit:0"], &["start b"]);
    check(&always, "ready", &["a:run", "b:unknown"], &["kill b", "start b"]);
    check(&always, "dead", &["a:exit:1", "b:exit:1"], &["killpod", "sandbox", "start a", "start b"]);

    let never = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}));
    check(&never, "ready", &["a:run"], &[]);
    check(&never, "ready", &["a:exit:1"], &["killpod"]);
    check(&never, "dead", &["a:exit:1"], &[]);

    let on_failure = pod(json!({"restartPolicy": "OnFailure", "containers": [{"name": "a"}]}));
    check(&on_failure, "ready", &["a:exit:0"], &["killpod"]);
    check(&on_failure, "ready", &["a:exit:2"], &["start a"]);
    check(&on_failure, "dead", &["a:exit:0"], &[]);
}

#[test]
fn a_container_that_never_ran_is_not_restarted() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let restarts = |state: &str, started_at: i64| {
        let mut runtime = runtime(&pod, "ready", &[&format!("a:{state}")]);
        runtime.containers[0].started_at = started_at;
        runtime.containers[0].restart_count = 3;
        let context = Context {
            probes: &ProbeResults::default(),
            backoffs: &Backoffs::default(),
            actuated: None,
            now: 2,
        };
        plan(&pod, &runtime, &context).start[0].restart_count
    };
    assert_eq!(restarts("created", 0), 3);
    assert_eq!(restarts("unknown", 0), 3);
    assert_eq!(restarts("unknown", 7), 4);
    assert_eq!(restarts("exit:1", 7), 4);
    assert_eq!(restarts("exit:1", 0), 4, "a command that cannot be run counts");
}

#[test]
fn containers_with_a_policy_of_their_own() {
    let pod = pod(json!({"containers": [
        {"name": "a", "restartPolicy": "OnFailure"}, {"name": "b", "restartPolicy": "Never"}
    ]}));
    check(&pod, "ready", &["a:run", "b:exit:4"], &[]);
    check(&pod, "ready", &["a:exit:1", "b:exit:4"], &["start a"]);
    check(&pod, "ready", &["a:exit:0", "b:exit:4"], &["killpod"]);
    check(&pod, "dead", &["a:exit:0", "b:exit:4"], &[]);
    check(&pod, "dead", &["a:exit:1", "b:exit:4"], &["killpod", "sandbox", "start a"]);
    let never = super::tests::pod(json!({
        "restartPolicy": "Never", "containers": [{"name": "a", "restartPolicy": "Always"}, {"name": "b"}]
    }));
    check(&never, "dead", &["a:exit:0", "b:exit:0"], &["killpod", "sandbox", "start a"]);
    check(&never, "ready", &["a:exit:0", "b:exit:0"], &["start a"]);
}

#[test]
fn init_containers() {
    let pod = pod(json!({
        "restartPolicy": "OnFailure",
        "initContainers": [{"name": "i"}, {"name": "j"}],
        "containers": [{"name": "a"}]
    }));
    check(&pod, "none", &[], &["sandbox", "start i"]);
    check(&pod, "ready", &["i:run"], &[]);
    check(&pod, "ready", &["i:exit:0"], &["start j"]);
    check(&pod, "ready", &["i:exit:1"], &["start i"]);
    check(&pod, "ready", &["j:exit:0", "i:exit:0"], &["start a"]);
    check(&pod, "ready", &["a:run", "j:exit:0", "i:exit:0"], &[]);
    let never = super::tests::pod(json!({
        "restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]
    }));
    check(&never, "ready", &["i:exit:1"], &["killpod"]);
}

#[test]
fn sidecars() {
    let pod = pod(json!({
        "restartPolicy": "Never",
        "initContainers": [
            {"name": "s", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["x"]}}},
            {"name": "i"}
        ],
        "containers": [{"name": "a"}]
    }));
    let started = ProbeResults { started: HashSet::from(["id-s".to_owned()]), ..Default::default() };
    let none = Backoffs::default();
    check(&pod, "none", &[], &["sandbox", "start s"]);
    check(&pod, "ready", &["s:run"], &[]);
    check_with(&pod, "ready", &["s:run"], &started, &none, &["start i"]);
    check_with(&pod, "ready", &["i:exit:0", "s:run"], &started, &none, &["start a"]);
    check(&pod, "ready", &["a:run", "i:exit:0", "s:exit:1"], &["start s"]);
    check_with(&pod, "ready", &["a:exit:0", "i:exit:0", "s:run"], &started, &none, &["killpod"]);
}

#[test]
fn probes_hash_and_backoff() {
    let always = pod(json!({"containers": [{"name": "a"}]}));
    let failed = ProbeResults { liveness_failed: HashSet::from(["id-a".to_owned()]), ..Default::default() };
    let none = Backoffs::default();
    check_with(&always, "ready", &["a:run"], &failed, &none, &["kill a", "start a"]);
    let found = plan(
        &always,
        &runtime(&always, "ready", &["a:run"]),
        &Context { probes: &failed, backoffs: &none, actuated: None, now: 2 },
    );
    assert_eq!(found.kill[0].message, "Container a failed liveness probe, will be restarted");
    let never = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}));
    let found = plan(
        &never,
        &runtime(&never, "ready", &["a:run"]),
        &Context { probes: &failed, backoffs: &none, actuated: None, now: 2 },
    );
    assert!(found.kill_pod);

    let mut changed = runtime(&always, "ready", &["a:run"]);
    changed.containers[0].hash = "other".into();
    let found = plan(
        &always,
        &changed,
        &Context { probes: &ProbeResults::default(), backoffs: &none, actuated: None, now: 2 },
    );
    assert_eq!(found.kill[0].message, "Container a definition changed, will be restarted");

    let mut backoffs = Backoffs::default();
    backoffs.next("u", &backoff_key(&always.spec.as_ref().unwrap().containers[0]), 0, 1);
    check_with(&always, "ready", &["a:exit:1"], &ProbeResults::default(), &backoffs, &["wait a"]);
    let mended = pod(json!({"containers": [{"name": "a", "image": "i:2"}]}));
    check_with(&mended, "ready", &["a:exit:1"], &ProbeResults::default(), &backoffs, &["start a"]);
}

#[test]
fn a_container_may_have_rules_of_its_own() {
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let pod = pod(json!({"restartPolicy": "Never", "containers": [
        {"name": "a", "image": "i", "restartPolicy": "Never", "restartPolicyRules": rules}]}));
    check(&pod, "ready", &["a:exit:42"], &["start a"]);
    check(&pod, "ready", &["a:exit:1"], &["killpod"]);
}

#[test]
fn a_container_that_never_started_adds_no_restart() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "i"}]}));
    let context =
        Context { probes: &ProbeResults::default(), backoffs: &Backoffs::default(), actuated: None, now: 1 };
    let count = |state| plan(&pod, &runtime(&pod, "ready", &[state]), &context).start[0].restart_count;
    assert_eq!(count("a:created"), 0);
    assert_eq!(count("a:exit:1"), 1);
}
