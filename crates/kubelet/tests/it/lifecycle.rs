//! Lifecycle of pods: probes, back-offs, termination.

use super::world::{GLANCE, World, on_paused_time, uid};
use super::*;

async fn seconds(world: &mut World, count: u64) {
    world.pass(Duration::from_secs(count), GLANCE).await;
}

fn ready(world: &World) -> String {
    let status = world.status(&uid(0));
    status
        .conditions
        .iter()
        .flatten()
        .find(|it| it.type_ == "Ready")
        .map(|it| it.status.clone())
        .unwrap_or_default()
}

#[test]
fn a_pod_that_ends_is_not_ready_when_its_probe_says_so() {
    on_paused_time(async {
        let probe = json!({"exec": {"command": ["ready"]}, "periodSeconds": 1, "failureThreshold": 1});
        let mut world =
            World::new([json!({"containers": [{"name": "a", "image": "i:1", "readinessProbe": probe}]})]);
        let runtime = world.node.runtime.clone();
        runtime.behave(Conduct { seed: 7, ending: Duration::from_secs(1000), ..Conduct::default() });
        world.start();
        seconds(&mut world, 5).await;
        assert_eq!(ready(&world), "True");
        world.delete(&uid(0), 30);
        seconds(&mut world, 5).await;
        assert_eq!(ready(&world), "True", "deletion alone makes no container unready");
        runtime.answer_exec("ready", 1, "");
        seconds(&mut world, 3).await;
        assert_eq!(ready(&world), "False");
        assert_eq!(runtime.running(&uid(0)).0.len(), 1);
        seconds(&mut world, 60).await;
        assert!(world.pods.is_empty());
    });
}

#[test]
fn a_container_that_has_started_up_need_not_wait_for_its_readiness_probe() {
    on_paused_time(async {
        let startup = json!({"exec": {"command": ["up"]}, "periodSeconds": 1, "failureThreshold": 100});
        let readiness = json!({"exec": {"command": ["ready"]}, "periodSeconds": 300});
        let container =
            json!({"name": "a", "image": "i:1", "startupProbe": startup, "readinessProbe": readiness});
        let mut world = World::new([json!({"containers": [container]})]);
        world.node.runtime.answer_exec("up", 1, "");
        world.start();
        seconds(&mut world, 20).await;
        assert_eq!(ready(&world), "False");
        world.node.runtime.answer_exec("up", 0, "");
        seconds(&mut world, 3).await;
        assert_eq!(ready(&world), "True");
        // Nor when the container is recreated.
        let (running, _) = world.node.runtime.running(&uid(0));
        world.node.runtime.exit(&running[0].1, 1, "Error");
        seconds(&mut world, 6).await;
        assert_ne!(world.node.runtime.running(&uid(0)).0, running);
        assert_eq!(ready(&world), "True");
    });
}

#[test]
fn a_probe_begins_when_its_container_is_up() {
    on_paused_time(async {
        let probe = json!({"exec": {"command": ["ready"]}, "periodSeconds": 300});
        let mut world = World::new([json!({
            "initContainers": [{"name": "init", "image": "i:1"}],
            "containers": [{"name": "a", "image": "i:1", "readinessProbe": probe}]
        })]);
        world.start();
        // Longer than after a start of the kubelet, when probes are spread over their period.
        seconds(&mut world, 1000).await;
        let (running, _) = world.node.runtime.running(&uid(0));
        world.node.runtime.exit(&running[0].1, 0, "Completed");
        while world.node.runtime.running(&uid(0)).0.iter().all(|(name, _)| name != "a") {
            world.pass(GLANCE, GLANCE).await;
        }
        world.pass(Duration::from_millis(100), GLANCE).await;
        assert_eq!(ready(&world), "True");
    });
}

/// A crash loop is looked at when something happens, and when its pause is over; what the kubelet itself says of it is no
/// reason.
#[test]
fn a_crash_loop_is_said_once_a_crash() {
    on_paused_time(async {
        let mut world = World::new([json!({"containers": [{"name": "a", "image": "i:1"}]})]);
        world.start();
        seconds(&mut world, 5).await;
        for crash in 1..=3 {
            let (running, _) = world.node.runtime.running(&uid(0));
            world.node.runtime.exit(&running[0].1, 1, "Error");
            seconds(&mut world, 8).await;
            let said = world.events("BackOff").len();
            assert!(said <= crash * 2, "{said} after {crash} crashes");
            seconds(&mut world, 40).await;
        }
    });
}

#[test]
fn a_refused_image_is_asked_for_again_when_its_pause_is_over() {
    on_paused_time(async {
        let mut world = World::new([json!({"containers": [{"name": "a", "image": "i:1"}]})]);
        let refused = cri::Error { code: cri::Code::Unknown, message: "refused".into() };
        world.node.runtime.fail("PullImage", Some(refused));
        world.start();
        // Pauses of 10, 20, 40 and 80 seconds.
        seconds(&mut world, 155).await;
        assert_eq!(world.events("Pulling").len(), 5);
        assert!(world.events("BackOff").len() <= 8, "{:?}", world.events("BackOff"));
    });
}

#[test]
fn a_finished_pod_is_reported_no_more() {
    on_paused_time(async {
        let mut world =
            World::new([json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "i:1"}]})]);
        world.start();
        seconds(&mut world, 5).await;
        let (running, _) = world.node.runtime.running(&uid(0));
        world.node.runtime.exit(&running[0].1, 0, "Completed");
        seconds(&mut world, 5).await;
        let last = world.status(&uid(0));
        assert_eq!(last.phase.as_deref(), Some("Succeeded"));
        // Its deletion takes what is left of it, and waits for somebody else.
        world.change(&uid(0), |pod| pod.metadata.finalizers = Some(vec!["a.b/c".into()]));
        world.delete(&uid(0), 0);
        seconds(&mut world, 5).await;
        assert!(world.node.runtime.remains(&uid(0)).is_empty());
        assert_eq!(world.status(&uid(0)), last);
    });
}

#[test]
fn a_resolver_that_lacks_something_is_an_event_once_a_sandbox() {
    on_paused_time(async {
        let mut world = World::new([json!({"containers": [{"name": "a", "image": "i:1"}]})]);
        world.start();
        seconds(&mut world, 5).await;
        for code in [1, 2] {
            let (running, _) = world.node.runtime.running(&uid(0));
            world.node.runtime.exit(&running[0].1, code, "Error");
            seconds(&mut world, 20).await;
        }
        let events = world.events("MissingClusterDNS");
        let text = "kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. Falling back to \"Default\" policy.";
        let of_pod = format!("pod: \"pod-0_n(uid-0)\". {text}");
        assert_eq!(events, [text.to_owned(), of_pod], "of the node and of the pod");
        assert_eq!(world.events("DNSConfigForming"), Vec::<String>::new());
    });
}

#[test]
fn a_missing_source_of_a_volume_is_looked_for_less_and_less_often() {
    on_paused_time(async {
        let volumes = json!([{"name": "v", "configMap": {"name": "late"}}]);
        let mounts = json!([{"name": "v", "mountPath": "/v"}]);
        let spec = json!({"volumes": volumes, "containers": [{"name": "a", "image": "i:1", "volumeMounts": mounts}]});
        let mut world = World::new([spec]);
        world.start();
        seconds(&mut world, 600).await;
        let events = world.events("FailedMount");
        assert!((8..14).contains(&events.len()), "{events:?}");
        assert!(events[0].contains("configmap \"late\" not found"), "{events:?}");
        world.node.objects.add_config_map(
            serde_json::from_value(json!({"metadata": {"name": "late", "namespace": "n"}})).unwrap(),
        );
        seconds(&mut world, 2).await;
        assert_eq!(world.node.runtime.running(&uid(0)).0.len(), 1, "at once when it is there");
    });
}

#[test]
fn a_full_disk_costs_images_before_it_costs_pods() {
    on_paused_time(async {
        let once = json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "once"}]});
        let mut world = World::new([json!({"containers": [{"name": "a", "image": "used"}]}), once]);
        let runtime = world.node.runtime.clone();
        runtime.add_image("unused");
        runtime.add_image("pause:1");
        runtime.set_sandbox_image("pause:1");
        world.start();
        seconds(&mut world, 5).await;
        let (running, _) = runtime.running(&uid(1));
        runtime.exit(&running[0].1, 0, "Completed");
        seconds(&mut world, 10).await;
        assert_eq!(world.status(&uid(1)).phase.as_deref(), Some("Succeeded"));

        let kubelet = world.process.as_ref().unwrap().kubelet.clone();
        let crossed = Crossed { resource: Resource::Storage, threshold: 100, available: 50 };
        let mut evictor = Evictor::default();
        let enough = evictor.relieve(&kubelet, crossed, async { None }).await;
        assert_eq!(enough, None, "the images were all that it took");
        assert_eq!(world.events("EvictionThresholdMet"), ["Attempting to reclaim ephemeral-storage"]);
        seconds(&mut world, 5).await;
        let removed: Vec<String> =
            runtime.calls().into_iter().filter(|call| call.starts_with("RemoveImage")).collect();
        assert_eq!(
            removed,
            ["RemoveImage once:latest", "RemoveImage unused"],
            "what sandboxes are made of stays"
        );
        assert_eq!(runtime.running(&uid(0)).0.len(), 1);
        let status = world.status(&uid(1));
        let ended = status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
        assert_eq!(
            (status.phase.as_deref(), ended.exit_code),
            (Some("Succeeded"), 0),
            "its end is not forgotten"
        );

        let not_enough = evictor.relieve(&kubelet, crossed, async { Some(crossed) }).await;
        assert_eq!(not_enough, Some(uid(0)));
    });
}

#[test]
fn pods_wait_for_the_network() {
    on_paused_time(async {
        let container = json!([{"name": "a", "image": "i:1"}]);
        let mut world = World::new([
            json!({"containers": container}),
            json!({"containers": container, "hostNetwork": true}),
        ]);
        let runtime = world.node.runtime.clone();
        runtime.set_network(false);
        world.start();
        let kubelet = world.process.as_ref().unwrap().kubelet.clone();
        kubelet::node::update_runtime_health(&kubelet).await;
        let running = |pod| runtime.running(&uid(pod)).0.len();
        seconds(&mut world, 600).await;
        assert_eq!((running(0), running(1)), (0, 1));
        let events = world.events("NetworkNotReady");
        assert!((8..14).contains(&events.len()), "{events:?}");
        runtime.set_network(true);
        kubelet::node::update_runtime_health(&kubelet).await;
        seconds(&mut world, 2).await;
        assert_eq!(running(0), 1, "at once when it is back");
    });
}

#[test]
fn a_pod_that_does_not_end_does_not_keep_others_from_being_evicted() {
    on_paused_time(async {
        let spec =
            |priority: i32| json!({"priority": priority, "containers": [{"name": "a", "image": "i:1"}]});
        let mut world = World::new([spec(1), spec(5)]);
        world.start();
        seconds(&mut world, 5).await;
        let kubelet = world.process.as_ref().unwrap().kubelet.clone();
        world.node.runtime.fail("StopContainer", stuck());
        let mut evictor = Evictor::default();
        let low = Crossed { resource: Resource::Memory, threshold: 100 << 20, available: 50 << 20 };
        assert_eq!(evictor.evict(&kubelet, low).await, Some(uid(0)));
        seconds(&mut world, 30).await;
        assert_eq!(evictor.evict(&kubelet, low).await, None, "it has some time");
        seconds(&mut world, 30).await;
        assert_eq!(evictor.evict(&kubelet, low).await, Some(uid(1)));
        assert_eq!(world.events("Evicted").len(), 2);
        world.node.runtime.fail("StopContainer", None);
    });
}

#[test]
fn the_content_of_an_image_is_a_volume() {
    on_paused_time(async {
        let mount = json!([{"name": "v", "mountPath": "/v", "subPath": "etc"}]);
        let volume =
            |image: &str| json!([{"name": "v", "image": {"reference": image, "pullPolicy": "Always"}}]);
        let user = json!({"name": "a", "image": "i:1", "volumeMounts": mount});
        let other = json!({"name": "b", "image": "i:1"});
        let mut world = World::new([json!({"volumes": volume("v:1"), "containers": [user, other]})]);
        let runtime = world.node.runtime.clone();
        let refused = cri::Error::new(cri::Code::Unknown, "refused");
        runtime.add_image("i:1");
        runtime.fail("PullImage", Some(refused));
        world.start();
        seconds(&mut world, 5).await;
        let waiting = |world: &World| {
            let statuses = world.status(&uid(0)).container_statuses.unwrap();
            let waiting = |at: usize| statuses[at].state.clone().unwrap().waiting;
            (waiting(0).and_then(|it| it.reason), waiting(1).and_then(|it| it.reason))
        };
        let back_off = Some("ImagePullBackOff".into());
        assert_eq!(waiting(&world), (back_off, None), "the other one needs it not");
        runtime.fail("PullImage", None);
        seconds(&mut world, 30).await;
        assert_eq!(waiting(&world), (None, None));
        let id = runtime.containers_named("a")[0].id.clone();
        let mounts = runtime.container_config(&id).unwrap().mounts;
        let made = mounts.iter().find(|it| it.container_path == "/v").unwrap();
        let image = made.image.clone().unwrap();
        assert_eq!((image.image.as_str(), image.user_specified_image.as_str()), ("v:1", "v:1"));
        assert_eq!((made.host_path.as_str(), made.image_sub_path.as_str(), made.readonly), ("", "etc", true));
        let kubelet = world.process.as_ref().unwrap().kubelet.clone();
        runtime.add_image("unused:1");
        kubelet.image_collector.delete_unused(&kubelet).await.unwrap();
        let removed: Vec<String> =
            runtime.calls().into_iter().filter(|call| call.starts_with("RemoveImage")).collect();
        assert_eq!(removed, ["RemoveImage unused:1"]);
    });
}
