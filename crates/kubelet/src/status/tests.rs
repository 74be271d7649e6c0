//! Tables over runtime states.

use super::*;
use crate::allocation::resources::PodResources;
use crate::cgroups::limits::Limits;
use crate::runtime::{Container as Instance, Sandbox, State};
use serde_json::json;

fn pod(spec: serde_json::Value) -> Pod {
    let metadata = json!({"name": "p", "namespace": "n", "uid": "u", "generation": 3});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn instance(name: &str, state: State, exit_code: i32) -> Instance {
    Instance {
        id: format!("id-{name}"),
        name: name.into(),
        sandbox_id: "s".into(),
        state,
        exit_code,
        image: "busybox".into(),
        started_at: 1_000_000_000,
        finished_at: 2_000_000_000,
        reason: if state == State::Exited { "Error".into() } else { String::new() },
        ..Default::default()
    }
}

struct Case<'a> {
    pod: &'a Pod,
    containers: Vec<Instance>,
    reasons: Reasons,
    health: Health,
    terminal: bool,
    /// Whether the sandbox is stopped.
    stopped: bool,
    failure: Option<Failure>,
    resize: Vec<PodCondition>,
    actuated: Option<PodResources>,
    limits: Option<Limits>,
    old: Option<PodStatus>,
}

impl<'a> Case<'a> {
    fn new(pod: &'a Pod, containers: Vec<Instance>) -> Self {
        Case {
            pod,
            containers,
            reasons: Reasons::new(),
            health: Health::default(),
            terminal: false,
            stopped: false,
            failure: None,
            resize: Vec::new(),
            actuated: None,
            limits: None,
            old: None,
        }
    }

    fn run(self) -> PodStatus {
        self.generate().status
    }

    fn generate(self) -> Generated {
        let ready = !self.stopped;
        let sandbox = Sandbox { id: "s".into(), ready, ips: vec!["10.0.0.9".into()], ..Default::default() };
        let runtime = RuntimePod {
            uid: "u".into(),
            sandboxes: vec![sandbox],
            containers: self.containers,
            ..Default::default()
        };
        generate(&Input {
            pod: self.pod,
            runtime: &runtime,
            reasons: &self.reasons,
            health: &self.health,
            old: self.old.as_ref(),
            host_ips: &["192.168.0.1".to_owned()],
            terminal: self.terminal,
            failure: self.failure.as_ref(),
            resize: &self.resize,
            actuated: self.actuated.as_ref(),
            limits: self.limits,
            runtime_name: "containerd",
            now: Timestamp::from_second(100).unwrap(),
        })
    }
}

fn condition(status: &PodStatus, kind: &str) -> String {
    let found = status.conditions.iter().flatten().find(|it| it.type_ == kind).unwrap();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    format!("{} {} {}", found.status, text(&found.reason), text(&found.message)).trim().to_owned()
}

#[test]
fn running_and_ready() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "busybox"}]}));
    let status = Case::new(&pod, vec![instance("a", State::Running, 0)]).run();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.9"));
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(container.container_id.as_deref(), Some("containerd://id-a"));
    assert!(container.ready && container.started == Some(true));
    for kind in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"] {
        assert_eq!(condition(&status, kind), "True", "{kind}");
    }
}

#[test]
fn readiness_probe_decides() {
    let pod = pod(json!({"containers": [{"name": "a", "readinessProbe": {"exec": {"command": ["x"]}}}]}));
    let status = Case::new(&pod, vec![instance("a", State::Running, 0)]).run();
    assert_eq!(condition(&status, "Ready"), "False ContainersNotReady containers with unready status: [a]");
    let mut case = Case::new(&pod, vec![instance("a", State::Running, 0)]);
    case.health.ready.insert("id-a".into());
    assert_eq!(condition(&case.run(), "Ready"), "True");
}

#[test]
fn crash_loop() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let mut case = Case::new(&pod, vec![instance("a", State::Exited, 1)]);
    case.reasons.insert("a".into(), ("CrashLoopBackOff".into(), "back-off".into()));
    let status = case.run();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let container = &status.container_statuses.as_ref().unwrap()[0];
    let waiting = container.state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(container.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 1);
}

#[test]
fn phases() {
    let check = |policy: &str, containers: Vec<Instance>, terminal: bool, expect: &str| {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}));
        let mut case = Case::new(&pod, containers);
        case.terminal = terminal;
        case.stopped = true;
        assert_eq!(case.run().phase.as_deref(), Some(expect), "{policy} {terminal}");
    };
    check("Always", vec![], false, "Pending");
    check("Always", vec![], true, "Failed");
    check("Always", vec![instance("a", State::Exited, 0)], false, "Running");
    check("Always", vec![instance("a", State::Exited, 0)], true, "Succeeded");
    check("Never", vec![instance("a", State::Exited, 0)], false, "Succeeded");
    check("Never", vec![instance("a", State::Exited, 1)], false, "Failed");
    check("OnFailure", vec![instance("a", State::Exited, 1)], false, "Running");
}

#[test]
fn init_containers() {
    let pod = pod(json!({
        "restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]
    }));
    let status = Case::new(&pod, vec![instance("i", State::Running, 0)]).run();
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let waiting =
        status.container_statuses.as_ref().unwrap()[0].state.as_ref().unwrap().waiting.clone().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));
    assert_eq!(
        condition(&status, "Initialized"),
        "False ContainersNotInitialized containers with incomplete status: [i]"
    );
    let stopped = |containers| Case { stopped: true, ..Case::new(&pod, containers) };
    let status = stopped(vec![instance("i", State::Exited, 1)]).run();
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    let done = vec![instance("a", State::Exited, 0), instance("i", State::Exited, 0)];
    let status = stopped(done).run();
    assert_eq!(status.phase.as_deref(), Some("Succeeded"));
    assert_eq!(condition(&status, "Initialized"), "True PodCompleted");
    assert_eq!(condition(&status, "Ready"), "False PodCompleted");
}

#[test]
fn last_words_are_shared_by_all_containers() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let containers: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
    let pod = pod(json!({"restartPolicy": "Never", "containers": containers}));
    let ended = names.map(|name| {
        let message = "ü".repeat(if name == "a" { 2048 } else { 100 });
        crate::runtime::Container { message, ..instance(name, State::Exited, 1) }
    });
    let status = Case::new(&pod, ended.into()).run();
    let lengths: Vec<usize> = status
        .container_statuses
        .iter()
        .flatten()
        .map(|it| it.state.as_ref().unwrap().terminated.as_ref().unwrap().message.as_ref().unwrap().len())
        .collect();
    assert_eq!(lengths, [2048, 200, 200, 200, 200, 200], "a sixth of 12 KiB");
}

#[test]
fn containers_with_a_policy_of_their_own_end_a_pod() {
    let pod = pod(json!({"restartPolicy": "Always", "containers": [
        {"name": "a", "restartPolicy": "OnFailure"}, {"name": "b", "restartPolicy": "Never"}
    ]}));
    let phase = |a: State, a_code: i32, b_code: i32| {
        let containers = vec![instance("a", a, a_code), instance("b", State::Exited, b_code)];
        Case { stopped: true, ..Case::new(&pod, containers) }.run().phase.unwrap()
    };
    assert_eq!(phase(State::Running, 0, 4), "Running");
    assert_eq!(phase(State::Exited, 1, 4), "Running");
    assert_eq!(phase(State::Exited, 0, 4), "Failed");
    assert_eq!(phase(State::Exited, 0, 0), "Succeeded");
}

#[test]
fn every_resource_of_the_pod_is_reported() {
    let requests = json!({"cpu": "10m", "ephemeral-storage": "1Gi", "example.com/gpu": "2"});
    let pod = pod(json!({"containers": [{"name": "a", "resources": {"requests": requests}}]}));
    let status = Case::new(&pod, vec![instance("a", State::Running, 0)]).run();
    let allocated: Vec<(String, String)> =
        status.allocated_resources.unwrap().into_iter().map(|(name, value)| (name, value.0)).collect();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        allocated,
        [pair("cpu", "10m"), pair("ephemeral-storage", "1Gi"), pair("example.com/gpu", "2")]
    );
    let whole = status.resources.unwrap().requests.unwrap();
    assert_eq!(whole.into_keys().collect::<Vec<_>>(), ["cpu"], "what a pod can have as a whole");
}

#[test]
fn how_a_container_ended_before_outlives_its_removal() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let exited = |id: &str, code: i32, restart_count: u32| Instance {
        id: id.into(),
        restart_count,
        ..instance("a", State::Exited, code)
    };
    let last = |status: &PodStatus| {
        let container = &status.container_statuses.as_ref().unwrap()[0];
        let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        (container.restart_count, ended.map(|it| it.exit_code))
    };
    let run = |containers, old: Option<PodStatus>| Case { old, ..Case::new(&pod, containers) }.run();
    let first = run(vec![exited("one", 1, 0)], None);
    assert_eq!(last(&first), (0, None));
    // The runtime has both, then only the second, then that has ended too, and then a third runs.
    let second = run(vec![exited("two", 2, 1), exited("one", 1, 0)], Some(first.clone()));
    assert_eq!(last(&second), (1, Some(1)));
    let alone = run(vec![exited("two", 2, 1)], Some(second));
    assert_eq!(last(&alone), (1, Some(1)));
    let third = Instance { id: "three".into(), restart_count: 2, ..instance("a", State::Running, 0) };
    assert_eq!(last(&run(vec![third], Some(alone.clone()))), (2, Some(2)));
    let lower = Instance { id: "four".into(), restart_count: 0, ..instance("a", State::Running, 0) };
    assert_eq!(last(&run(vec![lower], Some(alone))), (1, Some(2)), "restarts are not forgotten");
}

#[test]
fn ephemeral_containers_are_listed_by_name() {
    let container = |name: &str| json!({"name": name, "image": "i"});
    let pod = pod(json!({"containers": [{"name": "a"}],
        "ephemeralContainers": [container("late"), container("early")]}));
    let status = Case::new(&pod, vec![instance("a", State::Running, 0)]).run();
    let names: Vec<_> = status.ephemeral_container_statuses.unwrap().into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["early", "late"]);
}

#[test]
fn conditions_are_of_what_the_containers_came_to() {
    let waiting = pod(json!({"containers": [{"name": "a"}]}));
    let cut_off = Case { terminal: true, stopped: true, ..Case::new(&waiting, vec![]) }.generate();
    assert_eq!((cut_off.over, cut_off.status.phase.as_deref()), (true, Some("Failed")));
    let unready = "False ContainersNotReady containers with unready status: [a]";
    assert_eq!(condition(&cut_off.status, "Ready"), unready);

    // It has ended and its sandbox has not: its phase waits, why it is not ready is known.
    let never = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}));
    let old = Some(PodStatus { phase: Some("Running".into()), ..Default::default() });
    for (code, expect) in [(0, "False PodCompleted"), (1, "False PodFailed")] {
        let ended = Case { old: old.clone(), ..Case::new(&never, vec![instance("a", State::Exited, code)]) };
        let status = ended.run();
        assert_eq!(status.phase.as_deref(), Some("Running"));
        assert_eq!(condition(&status, "Ready"), expect);
    }
}

#[test]
fn why_a_container_waited_is_not_kept_when_the_pod_ends() {
    let mut pod = pod(json!({"containers": [{"name": "a"}]}));
    let mut case = Case::new(&pod, vec![]);
    case.reasons.insert("a".into(), ("ErrImageNeverPull".into(), "not present".into()));
    let waits = case.run();
    let reason = |status: &PodStatus| {
        let state = status.container_statuses.as_ref().unwrap()[0].state.clone().unwrap();
        state.waiting.unwrap().reason.unwrap()
    };
    assert_eq!(reason(&waits), "ErrImageNeverPull");
    pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let mut case = Case { old: Some(waits), ..Case::new(&pod, vec![]) };
    case.reasons.insert("a".into(), ("ErrImageNeverPull".into(), "not present".into()));
    assert_eq!(reason(&case.run()), "ContainerCreating");
}

/// `pod` with a sidecar `s` and a container `a`, neither of which is started again.
fn with_sidecar() -> Pod {
    pod(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "s", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}]
    }))
}

#[test]
fn a_pod_is_over_before_its_phase_says_so() {
    let pod = with_sidecar();
    let running = |phase: &str| {
        Some(PodStatus { phase: Some(phase.into()), message: Some("m".into()), ..Default::default() })
    };
    let evicted = || {
        let (reason, message) = ("Evicted".into(), "low on memory".into());
        Some(Failure { reason, message, disruption: true, lasting: false })
    };
    let check = |case: Case, over: bool, phase: &str, message: Option<&str>, disrupted: bool| {
        let what = format!("{:?}, stopped: {}", case.containers, case.stopped);
        let generated = case.generate();
        let status = generated.status;
        assert_eq!((generated.over, status.phase.as_deref()), (over, Some(phase)), "{what}");
        assert_eq!(status.message.as_deref(), message, "{what}");
        let found = status.conditions.iter().flatten().any(|it| it.type_ == "DisruptionTarget");
        assert_eq!(found, disrupted, "{what}");
    };
    let a = |state| instance("a", state, 0);
    let s = |state| instance("s", state, 137);
    let case = |containers| Case { old: running("Running"), ..Case::new(&pod, containers) };

    // The sidecar runs on after the last container: nothing failed, and nothing is done.
    check(case(vec![a(State::Exited), s(State::Running)]), false, "Running", None, false);
    // The sandbox is stopped last.
    check(case(vec![a(State::Exited), s(State::Exited)]), true, "Running", Some("m"), false);
    let stopped = Case { stopped: true, ..case(vec![a(State::Exited), s(State::Exited)]) };
    check(stopped, true, "Succeeded", None, false);

    for containers in [vec![a(State::Running), s(State::Running)], vec![a(State::Exited), s(State::Unknown)]]
    {
        let stopped = containers[0].state == State::Exited;
        let ending = Case { failure: evicted(), stopped, ..case(containers) };
        check(ending, true, "Running", Some("m"), false);
    }
    let waiting =
        Case { failure: evicted(), old: running("Pending"), ..Case::new(&pod, vec![s(State::Running)]) };
    check(waiting, true, "Pending", Some("m"), false);
    let gone = Case { failure: evicted(), stopped: true, ..case(vec![a(State::Exited), s(State::Exited)]) };
    check(gone, true, "Failed", Some("low on memory"), true);

    let ended_well = |lasting: bool| {
        let failure = evicted().map(|failure| Failure { lasting, ..failure });
        let containers = vec![a(State::Exited), instance("s", State::Exited, 0)];
        Case { failure, stopped: true, terminal: true, ..case(containers) }
    };
    check(ended_well(false), true, "Succeeded", None, true);
    check(ended_well(true), true, "Failed", Some("low on memory"), true);
    let order = ended_well(true).run().conditions.unwrap().remove(0).type_;
    assert_eq!(order, "DisruptionTarget", "before the kubelet's own");

    // Where the API server says that it is over, so it stays.
    let over = Case { old: running("Succeeded"), ..Case::new(&pod, vec![a(State::Running)]) };
    check(over, true, "Succeeded", Some("m"), false);
}

#[test]
fn containers_of_unknown_end_have_failed_when_the_pod_has_ended() {
    let ends = |pod: &Pod, containers: Vec<Instance>| {
        let status = Case { terminal: true, stopped: true, ..Case::new(pod, containers) }.run();
        let text = |status: &ContainerStatus| {
            let state = status.state.clone().unwrap_or_default();
            let ended =
                state.terminated.map(|it| format!("{} {}", it.reason.unwrap_or_default(), it.exit_code));
            let waits = state.waiting.and_then(|it| it.reason);
            format!("{}: {}", status.name, ended.or(waits).unwrap_or_default())
        };
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten()).map(text).collect::<Vec<_>>()
    };
    let plain = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    assert_eq!(
        ends(&plain, vec![instance("a", State::Exited, 0)]),
        ["a: Error 0", "b: ContainerStatusUnknown 137"]
    );
    let init = pod(json!({
        "initContainers": [{"name": "i"}, {"name": "j"}, {"name": "k"}], "containers": [{"name": "a"}]
    }));
    let unknown = "ContainerStatusUnknown 137";
    assert_eq!(
        ends(&init, vec![]),
        [&format!("i: {unknown}"), "j: PodInitializing", "k: PodInitializing", "a: PodInitializing"]
    );
    assert_eq!(
        ends(&init, vec![instance("j", State::Running, 0), instance("i", State::Exited, 0)]),
        ["i: Error 0", &format!("j: {unknown}"), "k: PodInitializing", "a: PodInitializing"]
    );
    let done = ["i", "j", "k"].map(|name| instance(name, State::Exited, 0));
    assert_eq!(
        ends(&init, done.into()),
        ["i: Error 0", "j: Error 0", "k: Error 0", &format!("a: {unknown}")]
    );
}

#[test]
fn resize_conditions_last_as_long_as_the_resize() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let case = || Case::new(&pod, vec![instance("a", State::Running, 0)]);
    let condition = |kind: &str| -> PodCondition {
        serde_json::from_value(json!({"type": kind, "status": "True", "reason": "r", "message": "m"}))
            .unwrap()
    };
    let resize = vec![condition("PodResizePending"), condition("PodResizeInProgress")];
    let both = Case { resize: resize.clone(), ..case() }.run();
    let kinds = |status: &PodStatus| {
        let all = status.conditions.iter().flatten();
        all.filter(|it| it.type_.starts_with("PodResize")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(kinds(&both), resize);
    assert!(kinds(&Case { old: Some(both), ..case() }.run()).is_empty());
    let ended = Case::new(&pod, vec![instance("a", State::Exited, 1)]);
    assert!(kinds(&Case { resize, terminal: true, stopped: true, ..ended }.run()).is_empty());
}

#[test]
fn resources_are_what_the_runtime_has() {
    let check = |allocated: serde_json::Value,
                 runtime: Option<(i64, i64, i64)>,
                 actuated: Option<serde_json::Value>,
                 expect: serde_json::Value| {
        let pod = pod(json!({"containers": [{"name": "a", "resources": allocated}]}));
        let mut running = instance("a", State::Running, 0);
        running.resources = runtime.map(|(shares, quota, memory)| cri::v1::LinuxContainerResources {
            cpu_shares: shares,
            cpu_quota: quota,
            cpu_period: 100_000,
            memory_limit_in_bytes: memory,
            ..Default::default()
        });
        let actuated = actuated.map(|resources| {
            serde_json::from_value(json!({"ContainerResources": {"a": resources}})).unwrap()
        });
        let status = Case { actuated, ..Case::new(&pod, vec![running]) }.run();
        let container = &status.container_statuses.unwrap()[0];
        assert_eq!(json!(container.resources), expect);
        let requests = allocated.get("requests").cloned().unwrap_or_default();
        assert_eq!(json!(container.allocated_resources), requests);
    };
    let both = |cpu: &str, memory: &str| json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}});
    let shown = both("100m", "1Gi");
    // Not changed yet, whatever was allocated meanwhile.
    check(both("200m", "2Gi"), Some((102, 10_000, 1 << 30)), Some(shown.clone()), shown.clone());
    check(both("200m", "2Gi"), None, Some(shown.clone()), shown.clone());
    check(shown.clone(), None, None, shown);
    // Below the least that the kernel has, as asked for.
    check(
        json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "5m"}}),
        Some((2, 1000, 0)),
        None,
        json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "5m"}}),
    );
    check(json!({}), Some((2, 0, 0)), None, json!({}));
}
