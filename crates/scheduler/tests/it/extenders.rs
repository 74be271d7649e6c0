//! What extenders are asked, and what becomes of their answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use scheduler::cluster::{Pod, Symbol};
use scheduler::config::Configuration;
use scheduler::core::Attempt;
use scheduler::core::inquiry::{Inquiry, Question};
use scheduler::extenders::{Extenders, Objects};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::fixture::{Fixture, cpu, node, on, pod};

/// Answers by path, and what was asked.
struct Server {
    answers: BTreeMap<&'static str, (u16, Value)>,
    asked: Mutex<Vec<(String, Value)>>,
}

impl Server {
    async fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let (mut first, mut line, mut length) = (String::new(), String::from("-"), 0);
        stream.read_line(&mut first).await?;
        while !line.trim().is_empty() {
            line.clear();
            stream.read_line(&mut line).await?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let path = first.split(' ').nth(1).unwrap().to_owned();
        self.asked.lock().await.push((path.clone(), serde_json::from_slice(&body).unwrap()));
        let (code, answer) = self.answers.get(path.as_str()).cloned().unwrap_or((404, Value::Null));
        let head =
            format!("HTTP/1.1 {code} Code\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n");
        stream.write_all(format!("{head}{answer}").as_bytes()).await
    }
}

struct World {
    fixture: Fixture,
    server: Arc<Server>,
    extenders: Arc<Extenders>,
    _tasks: JoinSet<()>,
}

/// Whole objects are no more than their names here. Placed pods by node.
struct Names(BTreeMap<String, Vec<Arc<Pod>>>);

impl Names {
    fn of(fixture: &Fixture) -> Names {
        let rows = fixture.core.table.rows().iter();
        Names(rows.map(|row| (row.node.name.to_string(), row.pods.values().cloned().collect())).collect())
    }
}

#[async_trait::async_trait]
impl Objects for Names {
    async fn pod(&self, pod: &Pod) -> Result<Value, String> {
        Ok(json!({"metadata": {"name": &*pod.key.name}}))
    }

    async fn node(&self, name: &Symbol) -> Result<Value, String> {
        Ok(json!({"metadata": {"name": name.as_str()}}))
    }

    fn placed(&self, _: &str, node: &Symbol, uids: &[String]) -> Result<Vec<Arc<Pod>>, String> {
        let pods = self.0.get(node.as_str()).ok_or("no such node")?;
        let pod = |uid: &String| pods.iter().find(|pod| *pod.uid == **uid).cloned();
        uids.iter().map(|uid| pod(uid).ok_or("no such pod".into())).collect()
    }
}

/// Nodes a, b and c, and an extender with these fields and answers.
async fn world(extender: Value, answers: &[(&'static str, u16, Value)]) -> World {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut extender = extender;
    extender["urlPrefix"] = format!("http://{}/x/", listener.local_addr().unwrap()).into();
    let answers = answers.iter().map(|(path, code, answer)| (*path, (*code, answer.clone()))).collect();
    let server = Arc::new(Server { answers, asked: Mutex::default() });
    let mut tasks = JoinSet::new();
    let own = server.clone();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            own.answer(stream).await.unwrap();
        }
    });
    let configuration: Configuration = serde_json::from_value(json!({"extenders": [extender]})).unwrap();
    let nodes = ["a", "b", "c"].map(|name| node(name, "4", json!({})));
    let fixture = Fixture::with(&configuration, nodes);
    let extenders = Arc::new(Extenders::new(&configuration.extenders).unwrap());
    World { fixture, server, extenders, _tasks: tasks }
}

impl World {
    fn inquiry(&mut self) -> Box<Inquiry> {
        match self.fixture.core.attempt(self.fixture.now) {
            Some(Attempt::Ask(inquiry)) => inquiry,
            _ => panic!("no extender is asked"),
        }
    }

    async fn finish(&mut self, mut attempt: Attempt) -> Attempt {
        while let Attempt::Ask(inquiry) = attempt {
            let answer = self.extenders.answer(&inquiry, &Names::of(&self.fixture)).await;
            attempt = self.fixture.core.resume(*inquiry, answer, self.fixture.now);
        }
        attempt
    }

    async fn schedule(&mut self, pod: &Arc<Pod>) -> Attempt {
        self.fixture.add(pod);
        let attempt = self.fixture.core.attempt(self.fixture.now).unwrap();
        self.finish(attempt).await
    }

    async fn asked(&self) -> Vec<(String, Value)> {
        self.server.asked.lock().await.clone()
    }
}

fn outcome(attempt: Attempt) -> String {
    match attempt {
        Attempt::Bind(binding) => format!("on {}", binding.node),
        Attempt::Unschedulable { message, .. } => message,
        Attempt::Failed { message, .. } => format!("error: {message}"),
        Attempt::Skipped => "skipped".into(),
        Attempt::Ask(_) => "asked".into(),
    }
}

#[tokio::test]
async fn nodes_are_filtered_by_name_or_whole() {
    for (is_capable, answer) in [
        (true, json!({"NodeNames": ["b"], "FailedNodes": {"a": "no", "c": "no"}})),
        (false, json!({"nodes": {"items": [{"metadata": {"name": "b"}}]}, "failedNodes": {"a": "no"}})),
    ] {
        let extender = json!({"filterVerb": "filter", "nodeCacheCapable": is_capable});
        let mut world = world(extender, &[("/x/filter", 200, answer)]).await;
        let attempt = world.schedule(&cpu("p", "1", json!({}))).await;
        assert_eq!(outcome(attempt), "on b");
        let asked = world.asked().await;
        let [(path, arguments)] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!((path.as_str(), &arguments["Pod"]["metadata"]["name"]), ("/x/filter", &json!("p")));
        if is_capable {
            assert_eq!(
                (arguments["Nodes"].clone(), arguments["NodeNames"].as_array().unwrap().len()),
                (Value::Null, 3)
            );
        } else {
            assert_eq!(
                (arguments["NodeNames"].clone(), arguments["Nodes"]["items"].as_array().unwrap().len()),
                (Value::Null, 3)
            );
        }
    }
}

#[tokio::test]
async fn what_extenders_reject_is_said_and_tried_again_after_any_change() {
    let answer = json!({"NodeNames": [], "FailedNodes": {"a": "is full", "b": "is full"},
        "FailedAndUnresolvableNodes": {"c": "is wrong", "b": "is wrong"}});
    let extender = json!({"filterVerb": "filter", "nodeCacheCapable": true});
    let mut world = world(extender, &[("/x/filter", 200, answer)]).await;
    let attempt = world.schedule(&cpu("p", "1", json!({}))).await;
    assert_eq!(
        outcome(attempt),
        "0/3 nodes are available: 1 is full, 2 is wrong. preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
    );
    assert_eq!(world.fixture.core.queue.place_of("uid-p"), Some("unschedulable"));
    world.fixture.wait(20_000);
    world.fixture.add(&on(&cpu("other", "1", json!({})), "a"));
    assert_eq!(world.fixture.core.queue.place_of("uid-p"), Some("active"));
}

#[tokio::test]
async fn scores_are_weighed_and_added() {
    let extender = json!({"prioritizeVerb": "score", "weight": 3, "nodeCacheCapable": true});
    let answer = json!([{"Host": "c", "Score": 10}, {"Host": "a", "Score": 2}]);
    let mut world = world(extender, &[("/x/score", 200, answer)]).await;
    assert_eq!(outcome(world.schedule(&cpu("p", "1", json!({}))).await), "on c");
}

#[tokio::test]
async fn errors_fail_the_attempt_unless_they_may_be_ignored() {
    let of_filter = |answer: (u16, Value)| vec![("/x/filter", answer.0, answer.1)];
    for (answers, ignorable, expect) in [
        (of_filter((200, json!({"Error": "broken"}))), false, "error: broken"),
        (of_filter((200, json!({"Error": "broken"}))), true, "on "),
        (of_filter((500, json!({}))), false, "error: failed filter with extender at URL http://"),
        (of_filter((200, json!({"NodeNames": ["z"]}))), false, "error: extender \"http://"),
        // Scores are never needed.
        (vec![("/x/filter", 200, json!({"NodeNames": ["a", "b"]}))], false, "on "),
    ] {
        let extender = json!({"filterVerb": "filter", "prioritizeVerb": "score", "weight": 1,
            "nodeCacheCapable": true, "ignorable": ignorable});
        let mut world = world(extender, &answers).await;
        let outcome = outcome(world.schedule(&cpu("p", "1", json!({}))).await);
        assert!(outcome.starts_with(expect), "{outcome}");
        if outcome.starts_with("error") {
            assert_eq!(world.fixture.core.queue.place_of("uid-p"), Some("backoff"));
        }
    }
}

#[tokio::test]
async fn an_extender_that_does_not_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = format!(
        "Post \"http://{address}/f\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    );
    let refused = format!("Post \"http://{address}/f\": dial tcp {address}: connect: connection refused");
    let attempt = async || {
        let extenders =
            json!([{"urlPrefix": format!("http://{address}"), "filterVerb": "f", "httpTimeout": "30ms"}]);
        let configuration: Configuration = serde_json::from_value(json!({ "extenders": extenders })).unwrap();
        let mut fixture = Fixture::with(&configuration, [node("a", "4", json!({}))]);
        fixture.add(&cpu("p", "1", json!({})));
        let Some(Attempt::Ask(inquiry)) = fixture.core.attempt(fixture.now) else { panic!() };
        let extenders = Extenders::new(&configuration.extenders).unwrap();
        let answer = extenders.answer(&inquiry, &Names::of(&fixture)).await;
        outcome(fixture.core.resume(*inquiry, answer, fixture.now))
    };
    assert_eq!(attempt().await, format!("error: {silent}"));
    drop(listener);
    assert_eq!(attempt().await, format!("error: {refused}"));
}

#[tokio::test]
async fn only_pods_that_request_what_is_managed_are_asked_about() {
    let extender = json!({"filterVerb": "filter", "nodeCacheCapable": true,
        "managedResources": [{"name": "example.com/x", "ignoredByScheduler": true}]});
    let mut world = world(extender, &[("/x/filter", 200, json!({"NodeNames": ["b"]}))]).await;
    world.schedule(&cpu("p", "1", json!({}))).await;
    assert!(world.asked().await.is_empty());
    // No node has any of it: that is the extender's to say.
    let spec = json!({"containers": [{"name": "c", "resources": {"requests": {"example.com/x": "1"}}}]});
    assert_eq!(outcome(world.schedule(&pod("q", json!({"spec": spec}))).await), "on b");
}

#[tokio::test]
async fn extenders_choose_among_victims() {
    for (answer, expect) in [
        (json!({"b": {"Pods": [{"UID": "uid-low-b"}], "NumPDBViolations": 0}}), Ok("b")),
        (json!({}), Err("preemption: no candidate node for preemption")),
        (json!({"b": {"Pods": []}}), Err("preemption: expected at least one victim pod on node \"b\"")),
    ] {
        let extender = json!({"preemptVerb": "preempt", "nodeCacheCapable": true});
        let answer = json!({ "NodeNameToMetaVictims": answer });
        let mut world = world(extender, &[("/x/preempt", 200, answer)]).await;
        for name in ["a", "b", "c"] {
            world.fixture.add(&on(&cpu(&format!("low-{name}"), "4", json!({})), name));
        }
        let attempt = world.schedule(&cpu("p", "4", json!({"priority": 9}))).await;
        let Attempt::Unschedulable { message, victims, .. } = attempt else { panic!() };
        match expect {
            Ok(node) => assert_eq!(victims.unwrap().node.as_str(), node),
            Err(expect) => assert!(victims.is_none() && message.ends_with(expect), "{message}"),
        }
        let asked = world.asked().await;
        let given = &asked[0].1["NodeNameToMetaVictims"];
        assert_eq!(given["a"], json!({"Pods": [{"UID": "uid-low-a"}], "NumPDBViolations": 0}));
    }
}

#[tokio::test]
async fn an_extender_binds() {
    for (answer, expect) in [(json!({}), Ok(())), (json!({"Error": "no"}), Err("no".to_owned()))] {
        let world = world(json!({"bindVerb": "bind"}), &[("/x/bind", 200, answer)]).await;
        let bound = world.extenders.bind(&cpu("p", "1", json!({})), &Symbol::new("a")).await;
        assert_eq!(bound, Some(expect));
        let expect = json!({"PodName": "p", "PodNamespace": "ns", "PodUID": "uid-p", "Node": "a"});
        assert_eq!(world.asked().await, [("/x/bind".into(), expect)]);
    }
}

#[tokio::test]
async fn the_promised_node_is_asked_about_first() {
    let extender = json!({"filterVerb": "filter", "nodeCacheCapable": true});
    let mut world = world(extender, &[("/x/filter", 200, json!({"NodeNames": ["c"]}))]).await;
    world.fixture.add(&pod("p", json!({"status": {"nominatedNodeName": "c"}})));
    let inquiry = world.inquiry();
    assert!(matches!(&inquiry.question, Question::Promised(node) if node.as_str() == "c"));
    assert_eq!(outcome(world.finish(Attempt::Ask(inquiry)).await), "on c");
}

#[tokio::test]
async fn what_happens_while_extenders_are_asked_counts() {
    let extender = json!({"filterVerb": "filter", "nodeCacheCapable": true});
    let none = json!({"NodeNames": [], "FailedNodes": {"a": "no", "b": "no", "c": "no"}});
    let fresh = async || world(extender.clone(), &[("/x/filter", 200, none.clone())]).await;
    let p = cpu("p", "1", json!({}));

    // It is deleted.
    let mut world = fresh().await;
    world.fixture.add(&p);
    let inquiry = world.inquiry();
    assert_eq!(world.fixture.core.queue.place_of("uid-p"), Some("asked"));
    world.fixture.core.remove_pod(&p, world.fixture.now);
    assert_eq!(outcome(world.finish(Attempt::Ask(inquiry)).await), "skipped");
    assert_eq!(world.fixture.core.queue.place_of("uid-p"), None);

    // Something changes that an extender may have waited for.
    let mut world = fresh().await;
    world.fixture.add(&p);
    let inquiry = world.inquiry();
    world.fixture.core.set_node(&node("d", "4", json!({})), None, world.fixture.now);
    world.finish(Attempt::Ask(inquiry)).await;
    assert_eq!(world.fixture.core.queue.place_of("uid-p"), Some("backoff"));

    // The node that it would have got is full, or gone.
    let extender = json!({"filterVerb": "filter", "nodeCacheCapable": true});
    let mut world = self::world(extender, &[("/x/filter", 200, json!({"NodeNames": ["a", "b"]}))]).await;
    world.fixture.add(&p);
    let inquiry = world.inquiry();
    world.fixture.add(&on(&cpu("large", "4", json!({})), "a"));
    world.fixture.core.remove_node(&Symbol::new("b"), world.fixture.now);
    let outcome = outcome(world.finish(Attempt::Ask(inquiry)).await);
    assert!(outcome.starts_with("0/2 nodes are available: 1 Insufficient cpu."), "{outcome}");
}
