//! Bindings that wait for volumes, beside others.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Config, Informers, Key};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{BINDINGS, Scheduler};
use crate::config::Configuration;
use crate::core::queue::Backoff;
use crate::framework::Subject;

/// An API server that takes every write and does nothing with it. Path of the collection and object of each event; those of
/// version 1 are listed, the others watched.
struct Server {
    events: watch::Sender<Vec<(&'static str, Value)>>,
    /// Method and path.
    writes: watch::Sender<Vec<String>>,
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
        stream.read_exact(&mut vec![0; length]).await?;
        let mut parts = first.split([' ', '?']);
        let (method, path) = (parts.next().unwrap(), parts.next().unwrap());
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n")
            .await?;
        if method != "GET" {
            self.writes.send_modify(|writes| writes.push(format!("{method} {path}")));
            return stream.write_all(b"{}").await;
        }
        let is_listed = |object: &Value| object["metadata"]["resourceVersion"] == "1";
        if !first.contains("watch=") {
            let items: Vec<Value> = {
                let events = self.events.borrow();
                let own = events.iter().filter(|(of, object)| *of == path && is_listed(object));
                own.map(|(_, object)| object.clone()).collect()
            };
            let list = json!({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": items});
            return stream.write_all(list.to_string().as_bytes()).await;
        }
        let (mut changes, mut sent) = (self.events.subscribe(), 0);
        loop {
            let new = changes.borrow_and_update()[sent..].to_vec();
            sent += new.len();
            for (_, object) in new.iter().filter(|(of, object)| *of == path && !is_listed(object)) {
                let line = format!("{}\n", json!({"type": "MODIFIED", "object": object}));
                stream.write_all(line.as_bytes()).await?;
            }
            if changes.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let own = self.clone();
            connections.spawn(async move { own.answer(stream).await });
        }
    }

    async fn written(&self, write: &str) {
        let mut writes = self.writes.subscribe();
        let seen = writes.wait_for(|writes| writes.iter().any(|own| own == write));
        let seen = tokio::time::timeout(Duration::from_secs(20), seen).await.map(drop);
        assert!(seen.is_ok(), "no {write} among {:?}", self.writes.borrow());
    }
}

const PODS: &str = "/api/v1/pods";
const CLAIMS: &str = "/api/v1/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";

fn object(name: &str, namespace: &str, more: Value) -> Value {
    let mut object = more;
    object["metadata"] =
        json!({"name": name, "namespace": namespace, "uid": format!("uid-{name}"), "resourceVersion": "1"});
    object
}

fn claim(number: usize) -> Value {
    let spec = json!({"storageClassName": "late", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}});
    object(&format!("p{number}"), "ns", json!({"spec": spec}))
}

fn using(claim: &str) -> Value {
    json!([{"name": "v", "persistentVolumeClaim": {"claimName": claim}}])
}

fn pod(name: &str, priority: i32, volumes: &Value) -> Value {
    let spec = json!({"priority": priority, "schedulerName": "default-scheduler", "containers": [{"name": "c"}],
        "volumes": volumes});
    object(name, "ns", json!({"spec": spec, "status": {"phase": "Pending"}}))
}

/// Starts a scheduler on a node, a class of volumes that wait for their consumers, and these objects.
async fn start(objects: Vec<(&'static str, Value)>) -> (Arc<Server>, Arc<Scheduler>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client =
        Client::new(Config::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap()).unwrap();
    let node = json!({"status": {"allocatable": {"cpu": "9", "memory": "9Gi", "pods": "999"}}});
    let class = json!({"provisioner": "csi", "volumeBindingMode": "WaitForFirstConsumer"});
    let mut events = vec![
        ("/api/v1/nodes", object("a", "", node)),
        ("/apis/storage.k8s.io/v1/storageclasses", object("late", "", class)),
    ];
    events.extend(objects);
    let server = Arc::new(Server { events: watch::Sender::new(events), writes: watch::Sender::default() });
    let mut tasks = JoinSet::new();
    tasks.spawn(server.clone().serve(listener));
    let informers = Informers::new(client.clone());
    let profiles = Configuration::default().profiles().unwrap();
    let scheduler =
        Scheduler::new(client, &informers, profiles, Backoff::default(), "host", &Default::default());
    let running = scheduler.clone();
    tasks.spawn(async move {
        // The informers end with it.
        let _informers = informers;
        running.run(CancellationToken::new()).await;
    });
    (server, scheduler, tasks)
}

#[tokio::test]
async fn pods_that_wait_for_volumes_keep_no_other_from_being_bound() {
    let mut objects = vec![(PODS, pod("last", 0, &json!([])))];
    for number in 0..BINDINGS {
        let name = format!("p{number}");
        objects.extend([(CLAIMS, claim(number)), (PODS, pod(&name, 1, &using(&name)))]);
    }
    let (server, scheduler, _tasks) = start(objects).await;
    for number in 0..BINDINGS {
        server.written(&format!("PATCH /api/v1/namespaces/ns/persistentvolumeclaims/p{number}")).await;
    }
    server.written("POST /api/v1/namespaces/ns/pods/last/binding").await;
    let is_early = server.writes.borrow().iter().any(|write| write.ends_with("/p7/binding"));
    assert!(!is_early, "its volume is not provisioned");

    let mut bound = claim(7);
    bound["metadata"]["resourceVersion"] = "2".into();
    bound["metadata"]["annotations"] =
        json!({"volume.kubernetes.io/selected-node": "a", "pv.kubernetes.io/bind-completed": "yes"});
    bound["spec"]["volumeName"] = "v".into();
    let reference = json!({"namespace": "ns", "name": "p7", "uid": "uid-p7"});
    let mut volume =
        object("v", "", json!({"spec": {"capacity": {"storage": "1Gi"}, "claimRef": reference}}));
    volume["metadata"]["resourceVersion"] = "3".into();
    // The claim is seen bound before its volume is seen.
    let seen = scheduler.handle.changes.subscribe(vec![Subject::Claim(Key::new("ns", "p7"))]);
    server.events.send_modify(|events| events.push((CLAIMS, bound)));
    seen.changed().await;
    server.events.send_modify(|events| events.push((VOLUMES, volume)));
    server.written("POST /api/v1/namespaces/ns/pods/p7/binding").await;
}

#[tokio::test]
async fn each_pod_that_shares_a_claim_reserves_its_volume() {
    let spec =
        json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "late"});
    let volume = object("v", "", json!({"spec": spec, "status": {"phase": "Available"}}));
    let pods = ["one", "other"].map(|name| (PODS, pod(name, 0, &using("p0"))));
    let (server, _scheduler, _tasks) =
        start([vec![(CLAIMS, claim(0)), (VOLUMES, volume)], pods.into()].concat()).await;
    let reserve = "PATCH /api/v1/persistentvolumes/v";
    let mut writes = server.writes.subscribe();
    let both = writes.wait_for(|writes| writes.iter().filter(|write| *write == reserve).count() == 2);
    // The first may fail before it writes.
    let both = tokio::time::timeout(Duration::from_secs(20), both).await.map(drop);
    assert!(both.is_ok(), "{:?}", server.writes.borrow());
}
