//! Events on pods, containers and the node, under upstream's reasons.

use crate::pods;
use client::{EventRecorder, EventType, ObjectReference, Report};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use std::collections::VecDeque;
use tracing::debug;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Normal,
    Warning,
}

pub use Type::{Normal, Warning};

/// Events kept where none are sent; the oldest go.
const KEPT: usize = 1000;

/// Sends events, or keeps the last ones where there is no API server (tests, standalone).
pub struct Events {
    recorder: Option<EventRecorder>,
    kept: Mutex<VecDeque<(String, String)>>,
    /// Empty until the node is registered.
    node_uid: Mutex<String>,
}

impl Events {
    pub fn new(recorder: Option<EventRecorder>) -> Self {
        Self { recorder, kept: Mutex::default(), node_uid: Mutex::default() }
    }

    /// (reason, message) of the last events, where none are sent.
    pub fn kept(&self) -> Vec<(String, String)> {
        self.kept.lock().iter().cloned().collect()
    }

    pub fn event(&self, pod: &Pod, kind: Type, reason: &str, message: &str) {
        self.send(&reference(pod), kind, reason, message);
    }

    /// With annotations on the event itself.
    pub fn annotated(
        &self,
        pod: &Pod,
        kind: Type,
        reason: &str,
        message: &str,
        annotations: Vec<(String, String)>,
    ) {
        self.report(&reference(pod), kind, reason, message, annotations);
    }

    /// On one container of a pod, of any kind.
    pub fn container(&self, pod: &Pod, container: &str, kind: Type, reason: &str, message: &str) {
        let spec = pod.spec.as_ref();
        let named = |all: Option<&Vec<k8s_openapi::api::core::v1::Container>>| {
            all.is_some_and(|all| all.iter().any(|it| it.name == container))
        };
        let list = if named(spec.map(|spec| &spec.containers)) {
            "containers"
        } else if named(spec.and_then(|spec| spec.init_containers.as_ref())) {
            "initContainers"
        } else {
            "ephemeralContainers"
        };
        let reference = reference(pod).field_path(format!("spec.{list}{{{container}}}"));
        self.send(&reference, kind, reason, message);
    }

    pub fn node(&self, name: &str, kind: Type, reason: &str, message: &str) {
        self.send(&self.node_reference(name), kind, reason, message);
    }

    fn node_reference(&self, name: &str) -> ObjectReference {
        ObjectReference {
            kind: "Node".into(),
            api_version: "v1".into(),
            name: name.into(),
            uid: self.node_uid.lock().clone(),
            ..Default::default()
        }
    }

    pub(crate) fn set_node_uid(&self, uid: &str) {
        uid.clone_into(&mut self.node_uid.lock());
    }

    fn send(&self, reference: &ObjectReference, kind: Type, reason: &str, message: &str) {
        self.report(reference, kind, reason, message, Vec::new());
    }

    fn report(
        &self,
        reference: &ObjectReference,
        kind: Type,
        reason: &str,
        message: &str,
        annotations: Vec<(String, String)>,
    ) {
        debug!(object = %reference.name, reason, message, "Event occurred");
        let kind = match kind {
            Normal => EventType::Normal,
            Warning => EventType::Warning,
        };
        match &self.recorder {
            Some(recorder) => recorder.report(Report {
                regarding: reference.clone(),
                related: None,
                kind,
                reason: reason.into(),
                action: String::new(),
                message: message.into(),
                annotations,
            }),
            None => {
                let mut kept = self.kept.lock();
                if kept.len() == KEPT {
                    kept.pop_front();
                }
                kept.push_back((reason.into(), message.into()));
            }
        }
    }
}

fn reference(pod: &Pod) -> ObjectReference {
    // A static pod is known to the API server by its mirror's hash in place of a uid of its own.
    ObjectReference {
        kind: "Pod".into(),
        api_version: "v1".into(),
        namespace: pods::namespace(pod).into(),
        name: pods::name(pod).into(),
        uid: pods::uid(pod).into(),
        resource_version: pod.metadata.resource_version.clone().unwrap_or_default(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_the_node_name_its_object() {
        let events = Events::new(None);
        let shown = |events: &Events| {
            let reference = events.node_reference("n");
            (reference.kind, reference.api_version, reference.name, reference.uid)
        };
        let expect = |uid: &str| ("Node".to_owned(), "v1".to_owned(), "n".to_owned(), uid.to_owned());
        assert_eq!(shown(&events), expect(""), "not registered yet");
        events.set_node_uid("u");
        assert_eq!(shown(&events), expect("u"));
    }

    #[test]
    fn only_the_last_events_are_kept() {
        let events = Events::new(None);
        for number in 0..=KEPT {
            events.node("n", Normal, "Reason", &number.to_string());
        }
        let kept = events.kept();
        assert_eq!((kept.len(), kept[0].1.as_str()), (KEPT, "1"));
    }
}
