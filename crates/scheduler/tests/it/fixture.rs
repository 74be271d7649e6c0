//! A core with a clock to turn, and short ways to write nodes and pods.

use std::sync::Arc;
use std::time::Duration;

use scheduler::cluster::{Node, Pod, Symbol};
use scheduler::config::Configuration;
use scheduler::core::queue::Backoff;
use scheduler::core::{Attempt, Binding, Core};
use serde::Deserialize;
use serde_json::{Value, json};

pub struct Fixture {
    pub core: Core,
    pub now: Duration,
    pub assumed: Vec<Binding>,
}

/// `extra` is merged into the object.
pub fn node(name: &str, cpu: &str, extra: Value) -> Arc<Node> {
    let mut object = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "10", "ephemeral-storage": "10Gi"}},
    });
    merge(&mut object, extra);
    Arc::new(Node::deserialize(object).unwrap())
}

pub fn pod(name: &str, extra: Value) -> Arc<Pod> {
    let mut object = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "web:v1"}], "schedulerName": "default-scheduler"},
        "status": {"phase": "Pending"},
    });
    merge(&mut object, extra);
    Arc::new(Pod::deserialize(object).unwrap())
}

/// A pod that requests CPU.
pub fn cpu(name: &str, amount: &str, mut spec: Value) -> Arc<Pod> {
    spec["containers"] =
        json!([{"name": "c", "image": "web:v1", "resources": {"requests": {"cpu": amount}}}]);
    pod(name, json!({"spec": spec}))
}

/// The same pod, bound.
pub fn on(pod: &Pod, node: &str) -> Arc<Pod> {
    let mut pod = pod.clone();
    pod.node = Symbol::new(node);
    Arc::new(pod)
}

fn merge(object: &mut Value, extra: Value) {
    match (object, extra) {
        (Value::Object(object), Value::Object(extra)) => {
            for (key, value) in extra {
                merge(object.entry(key).or_insert(Value::Null), value);
            }
        }
        (object, extra) => *object = extra,
    }
}

#[derive(Debug, PartialEq)]
pub enum Result {
    /// Assumed on this node.
    Node(&'static str),
    Message(String),
    Nothing,
}

impl Fixture {
    pub fn new(nodes: impl IntoIterator<Item = Arc<Node>>) -> Fixture {
        Fixture::with(&Configuration::default(), nodes)
    }

    pub fn with(configuration: &Configuration, nodes: impl IntoIterator<Item = Arc<Node>>) -> Fixture {
        let profiles = configuration.profiles().unwrap();
        let mut core = Core::new(profiles, Backoff::default(), 7);
        for node in nodes {
            core.set_node(&node, None, Duration::ZERO);
        }
        Fixture { core, now: Duration::ZERO, assumed: Vec::new() }
    }

    pub fn add(&mut self, pod: &Arc<Pod>) {
        self.core.set_pod(pod, None, self.now);
    }

    pub fn wait(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
    }

    /// Adds a pod and makes the next attempt.
    pub fn schedule(&mut self, pod: &Arc<Pod>) -> Result {
        self.add(pod);
        self.next()
    }

    pub fn next(&mut self) -> Result {
        match self.core.attempt(self.now) {
            Some(Attempt::Bind(binding)) => {
                let node = binding.node.to_string();
                self.assumed.push(*binding);
                Result::Node(node.leak())
            }
            Some(Attempt::Unschedulable { message, .. } | Attempt::Failed { message, .. }) => {
                Result::Message(message)
            }
            Some(Attempt::Ask(_)) => panic!("there are no extenders"),
            Some(Attempt::Skipped) | None => Result::Nothing,
        }
    }

    /// The binding of the last assumed pod fails.
    pub fn bind_fails(&mut self, gone: bool) -> bool {
        let binding = self.assumed.pop().unwrap();
        self.core.bind_failed(binding, gone, self.now)
    }
}

pub fn no(message: &str) -> Result {
    Result::Message(message.into())
}
