//! The task that sends events, in either of upstream's two forms.

use std::time::Duration;

use http::Method;
use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::correlate::{COMBINED, Correlator, Verdict, hash};
use super::{EventStyle, Report, event_name};
use crate::{Client, Error, Request, ResourceRef, Result};

const ATTEMPTS: u32 = 12;
const RETRY: Duration = Duration::from_secs(10);
/// A series that is silent for this long is over.
const SERIES: Duration = Duration::from_secs(360);
/// How often a running series is written, at most.
const SERIES_REFRESH: Duration = Duration::from_secs(30);
const SERIES_KEPT: usize = 4096;

pub(super) struct Sender {
    client: Client,
    component: String,
    host: String,
    style: EventStyle,
    started: Instant,
    correlator: Correlator,
    series: FxHashMap<u64, Series>,
}

struct Series {
    name: String,
    count: i32,
    seen: Instant,
    written: Instant,
}

impl Sender {
    pub fn new(client: Client, component: &str, host: &str, style: EventStyle) -> Sender {
        Sender {
            client,
            component: component.into(),
            host: host.into(),
            style,
            started: Instant::now(),
            correlator: Correlator::default(),
            series: FxHashMap::default(),
        }
    }

    pub async fn run(mut self, mut reports: mpsc::Receiver<Report>) {
        while let Some(report) = reports.recv().await {
            let result = match self.style {
                EventStyle::Core => self.core(&report).await,
                EventStyle::Events => self.events(&report).await,
            };
            if let Err(error) = result {
                let object = &report.regarding;
                if error.is_namespace_terminating() || error.is_not_found() {
                    tracing::debug!(object = %object.name, namespace = %object.namespace, %error, "event refused");
                } else {
                    tracing::error!(
                        object = %object.name, namespace = %object.namespace, reason = %report.reason, %error,
                        "unable to write event"
                    );
                }
            }
        }
    }

    async fn core(&mut self, report: &Report) -> Result<()> {
        let now = jiff::Timestamp::now();
        match self.correlator.judge(report, self.started.elapsed()) {
            Verdict::Drop => {
                tracing::debug!(object = %report.regarding.name, reason = %report.reason, "event dropped, the object has had too many");
                Ok(())
            }
            Verdict::Create { key, message } => self.create_core(report, key, &message, 1, now).await,
            Verdict::Count { name, count, message, key } => {
                let patch = json!({"count": count, "lastTimestamp": seconds(now), "message": message});
                match self.patch("", report, &name, patch).await {
                    Err(error) if error.is_not_found() => {
                        self.create_core(report, key, &message, count, now).await
                    }
                    other => other,
                }
            }
        }
    }

    async fn create_core(
        &mut self,
        report: &Report,
        key: u64,
        message: &str,
        count: i32,
        now: jiff::Timestamp,
    ) -> Result<()> {
        let name = event_name(&report.regarding.name, now);
        let mut event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace(report)},
            "involvedObject": report.regarding,
            "reason": report.reason,
            "message": message,
            "source": {"component": self.component, "host": self.host},
            "firstTimestamp": seconds(now),
            "lastTimestamp": seconds(now),
            "count": count,
            "type": report.kind.as_str(),
            "reportingComponent": self.component,
            "reportingInstance": self.host,
        });
        annotate(&mut event, report);
        if message.starts_with(COMBINED) {
            // Upstream makes these without saying whom they are from a second time.
            event["reportingComponent"] = "".into();
            event["reportingInstance"] = "".into();
        }
        if self.host.is_empty() {
            event["source"] = json!({"component": self.component});
        }
        self.post("", report, event).await?;
        self.correlator.made(key, name, count, self.started.elapsed());
        Ok(())
    }

    async fn events(&mut self, report: &Report) -> Result<()> {
        let (instant, now) = (Instant::now(), jiff::Timestamp::now());
        let key = hash(&(report.kind, &report.action, &report.reason, &report.regarding, &report.related));
        if self.series.len() >= SERIES_KEPT {
            self.series.retain(|_, series| series.seen.elapsed() < SERIES);
        }
        if let Some(series) = self.series.get_mut(&key).filter(|series| series.seen.elapsed() < SERIES) {
            series.count += 1;
            series.seen = instant;
            if series.count > 2 && series.written.elapsed() < SERIES_REFRESH {
                return Ok(());
            }
            series.written = instant;
            let patch = json!({"series": {"count": series.count, "lastObservedTime": microseconds(now)}});
            let name = series.name.clone();
            match self.patch("events.k8s.io", report, &name, patch).await {
                Err(error) if error.is_not_found() => {}
                other => return other,
            }
        }
        let name = event_name(&report.regarding.name, now);
        let mut event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace(report)},
            "eventTime": microseconds(now),
            "reportingController": self.component,
            "reportingInstance": format!("{}-{}", self.component, self.host),
            "action": report.action,
            "reason": report.reason,
            "regarding": report.regarding,
            "note": report.message,
            "type": report.kind.as_str(),
        });
        if let Some(related) = &report.related {
            event["related"] = json!(related);
        }
        annotate(&mut event, report);
        self.post("events.k8s.io", report, event).await?;
        if self.series.len() < SERIES_KEPT {
            self.series.insert(key, Series { name, count: 1, seen: instant, written: instant });
        }
        Ok(())
    }

    async fn post(&self, group: &'static str, report: &Report, event: Value) -> Result<()> {
        let path = resource(group).path(Some(namespace(report)), None, None);
        self.send(Request::new(Method::POST, path).json(&event)?).await
    }

    async fn patch(&self, group: &'static str, report: &Report, name: &str, patch: Value) -> Result<()> {
        let path = resource(group).path(Some(namespace(report)), Some(name), None);
        let request = Request::new(Method::PATCH, path).json(&patch)?;
        self.send(request.content_type("application/strategic-merge-patch+json")).await
    }

    /// A server out of reach is tried again for two minutes; what it refuses is not.
    async fn send(&self, request: Request) -> Result<()> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.client.bytes(request.clone()).await {
                Err(error @ (Error::Transport { .. } | Error::Timeout { .. })) if attempt < ATTEMPTS => {
                    tracing::debug!(%error, "unable to write event (may retry after sleeping)");
                    tokio::time::sleep(RETRY).await;
                }
                result => return result.map(drop),
            }
        }
    }
}

fn resource(group: &'static str) -> ResourceRef {
    ResourceRef {
        group: group.into(),
        version: "v1".into(),
        plural: "events".into(),
        kind: "Event".into(),
        namespaced: true,
    }
}

fn namespace(report: &Report) -> &str {
    if report.regarding.namespace.is_empty() { "default" } else { &report.regarding.namespace }
}

fn annotate(event: &mut Value, report: &Report) {
    for (name, value) in &report.annotations {
        event["metadata"]["annotations"][name] = value.as_str().into();
    }
}

fn seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn microseconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
