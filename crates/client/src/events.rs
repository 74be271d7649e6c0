//! Events: what a daemon reports to the user about an object. Reports are queued and sent by one task;
//! a repeated report becomes a count on the event that exists, many alike are combined, and the
//! reports about one object are limited in rate.

mod correlate;
mod send;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::{Client, Metadata, ResourceRef};

/// Reports waiting to be sent; when full, further ones are dropped and logged.
const QUEUE: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

/// What an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// A part of the object: `spec.containers{web}`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_path: String,
}

impl ObjectReference {
    pub fn of(resource: &ResourceRef, metadata: &Metadata) -> ObjectReference {
        ObjectReference {
            kind: resource.kind.to_string(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            api_version: resource.api_version(),
            resource_version: metadata.resource_version.clone(),
            field_path: String::new(),
        }
    }

    pub fn field_path(mut self, path: impl Into<String>) -> ObjectReference {
        self.field_path = path.into();
        self
    }
}

/// Which of upstream's two event APIs a daemon uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventStyle {
    /// `v1`, with count, first and last time: most daemons.
    Core,
    /// `events.k8s.io/v1`, with action and series: the scheduler and the proxy.
    Events,
}

/// One report, to be sent as an event.
#[derive(Clone, Debug)]
pub struct Report {
    pub regarding: ObjectReference,
    pub related: Option<ObjectReference>,
    pub kind: EventType,
    pub reason: String,
    /// What was done or tried; only `events.k8s.io` style uses it.
    pub action: String,
    pub message: String,
    pub annotations: Vec<(String, String)>,
}

/// Records events. Cheap to clone; when the last clone is gone, what is queued is sent and the task ends.
#[derive(Clone)]
pub struct EventRecorder {
    sender: mpsc::Sender<Report>,
    tasks: Arc<TaskTracker>,
}

impl EventRecorder {
    /// A recorder of core events from `component` on `host`. Needs a running runtime.
    pub fn new(client: Client, component: &str, host: &str) -> EventRecorder {
        EventRecorder::with_style(client, component, host, EventStyle::Core)
    }

    pub fn with_style(client: Client, component: &str, host: &str, style: EventStyle) -> EventRecorder {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let tasks = TaskTracker::new();
        let sender_task = send::Sender::new(client, component, host, style);
        tasks.spawn(sender_task.run(receiver));
        tasks.close();
        EventRecorder { sender, tasks: Arc::new(tasks) }
    }

    /// Queues an event; never waits.
    pub fn event(&self, object: &ObjectReference, kind: EventType, reason: &str, message: &str) {
        self.report(Report {
            regarding: object.clone(),
            related: None,
            kind,
            reason: reason.into(),
            action: String::new(),
            message: message.into(),
            annotations: Vec::new(),
        });
    }

    pub fn report(&self, report: Report) {
        tracing::debug!(
            object = %report.regarding.name, namespace = %report.regarding.namespace, kind = %report.regarding.kind,
            reason = %report.reason, message = %report.message, "event"
        );
        if let Err(error) = self.sender.try_send(report) {
            let report = match error {
                mpsc::error::TrySendError::Full(report) | mpsc::error::TrySendError::Closed(report) => report,
            };
            tracing::warn!(
                object = %report.regarding.name, namespace = %report.regarding.namespace,
                reason = %report.reason, message = %report.message, "event dropped, too many are waiting"
            );
        }
    }

    /// Gives up this clone and, once the others are gone, waits until everything queued has been sent, at
    /// most five seconds.
    pub async fn shutdown(self) {
        let EventRecorder { sender, tasks } = self;
        drop(sender);
        if tokio::time::timeout(std::time::Duration::from_secs(5), tasks.wait()).await.is_err() {
            tracing::warn!("events were still waiting to be sent at shutdown");
        }
    }
}

/// The name an event carries: the object's and a time in hexadecimal nanoseconds, as upstream's.
fn event_name(object: &str, at: jiff::Timestamp) -> String {
    // Room for the suffix in a name of at most 253 characters.
    let base = &object[..object.floor_char_boundary(object.len().min(236))];
    format!("{base}.{:x}", at.as_nanosecond() as u64)
}
