//! What pods and the node use: `/stats/summary` and `/metrics/resource`, from the runtime's figures and the
//! kernel's.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use cri::v1::{ContainerStats, CpuUsage, FilesystemUsage, MemoryUsage, UInt64Value};
use http::Response;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Body, Host, json as respond};
use crate::pods::{name, namespace, uid};
use crate::runtime::{CONTAINER_NAME, POD_UID};

pub async fn summary(host: &Arc<Host>) -> Response<Body> {
    let now = Timestamp::now();
    let stats = containers(host).await.unwrap_or_default();
    let mut pods = Vec::new();
    for pod in host.pods.all() {
        let Some(of_pod) = stats.get(uid(&pod)) else { continue };
        let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        let containers: Vec<Value> = of_pod.iter().map(container).collect();
        pods.push(json!({
            "podRef": {"name": name(&pod), "namespace": namespace(&pod), "uid": uid(&pod)},
            "startTime": started,
            "containers": containers,
            "cpu": total_cpu(of_pod, now),
            "memory": total_memory(of_pod, now),
        }));
    }
    let node = json!({
        "nodeName": host.node_name,
        "startTime": boot_time(),
        "cpu": node_cpu().map(|nanos| json!({"time": now, "usageCoreNanoSeconds": nanos})),
        "memory": node_memory(now),
        "fs": file_system("/", now),
        "runtime": {"imageFs": file_system("/var/lib", now)},
    });
    respond(&json!({"node": node, "pods": pods}))
}

/// Prometheus text; what metrics-server reads.
pub async fn resource_metrics(host: &Arc<Host>) -> String {
    let stats = containers(host).await;
    let failed = stats.is_none();
    let stats = stats.unwrap_or_default();
    let mut families = Families::default();
    for pod in host.pods.all() {
        let Some(of_pod) = stats.get(uid(&pod)) else { continue };
        let labels = format!("namespace={:?},pod={:?}", namespace(&pod), name(&pod));
        let started: BTreeMap<String, i64> = host
            .pods
            .runtime_pod(uid(&pod))
            .map(|pod| pod.running().map(|it| (it.name.clone(), it.started_at)).collect())
            .unwrap_or_default();
        for stats in of_pod {
            let container = container_name(stats);
            let labels = format!("container={container:?},{labels}");
            if let Some(nanos) = cpu_nanos(stats) {
                families.add("container_cpu_usage_seconds_total", &labels, nanos as f64 / 1e9);
            }
            if let Some(bytes) = working_set(stats) {
                families.add("container_memory_working_set_bytes", &labels, bytes as f64);
            }
            if let Some(nanos) = started.get(&container) {
                families.add("container_start_time_seconds", &labels, *nanos as f64 / 1e9);
            }
        }
        let cpu: u64 = of_pod.iter().filter_map(cpu_nanos).sum();
        let memory: u64 = of_pod.iter().filter_map(working_set).sum();
        families.add("pod_cpu_usage_seconds_total", &labels, cpu as f64 / 1e9);
        families.add("pod_memory_working_set_bytes", &labels, memory as f64);
    }
    if let Some(nanos) = node_cpu() {
        families.add("node_cpu_usage_seconds_total", "", nanos as f64 / 1e9);
    }
    if let Some((_, used)) = memory() {
        families.add("node_memory_working_set_bytes", "", used as f64);
    }
    families.add("resource_scrape_error", "", f64::from(u8::from(failed)));
    families.text()
}

#[derive(Default)]
struct Families(BTreeMap<&'static str, String>);

impl Families {
    fn add(&mut self, name: &'static str, labels: &str, value: f64) {
        let lines = self.0.entry(name).or_default();
        let _ = if labels.is_empty() {
            writeln!(lines, "{name} {value}")
        } else {
            writeln!(lines, "{name}{{{labels}}} {value}")
        };
    }

    fn text(self) -> String {
        let mut text = String::new();
        for (name, lines) in self.0 {
            let (kind, help) = match name {
                "container_cpu_usage_seconds_total" => {
                    ("counter", "Cumulative cpu time consumed by the container in core-seconds")
                }
                "container_memory_working_set_bytes" => {
                    ("gauge", "Current working set of the container in bytes")
                }
                "container_start_time_seconds" => {
                    ("gauge", "Start time of the container since unix epoch in seconds")
                }
                "pod_cpu_usage_seconds_total" => {
                    ("counter", "Cumulative cpu time consumed by the pod in core-seconds")
                }
                "pod_memory_working_set_bytes" => ("gauge", "Current working set of the pod in bytes"),
                "node_cpu_usage_seconds_total" => {
                    ("counter", "Cumulative cpu time consumed by the node in core-seconds")
                }
                "node_memory_working_set_bytes" => ("gauge", "Current working set of the node in bytes"),
                _ => ("gauge", "1 if there was an error while getting container metrics, 0 otherwise"),
            };
            let _ = write!(text, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}\n{lines}");
        }
        text
    }
}

/// The runtime's figures by pod uid; `None` when it gives none.
pub(super) async fn containers(host: &Arc<Host>) -> Option<BTreeMap<String, Vec<ContainerStats>>> {
    let all = match host.runtime.list_container_stats(None).await {
        Ok(all) => all,
        Err(error) => {
            tracing::debug!(%error, "Container statistics");
            return None;
        }
    };
    let mut pods: BTreeMap<String, Vec<ContainerStats>> = BTreeMap::new();
    for stats in all {
        let uid = stats.attributes.as_ref().and_then(|attributes| attributes.labels.get(POD_UID)).cloned();
        pods.entry(uid.unwrap_or_default()).or_default().push(stats);
    }
    Some(pods)
}

pub(super) fn container_name(stats: &ContainerStats) -> String {
    let attributes = stats.attributes.as_ref();
    attributes.and_then(|attributes| attributes.labels.get(CONTAINER_NAME)).cloned().unwrap_or_default()
}

fn cpu_nanos(stats: &ContainerStats) -> Option<u64> {
    Some(stats.cpu.as_ref()?.usage_core_nano_seconds?.value)
}

fn working_set(stats: &ContainerStats) -> Option<u64> {
    Some(stats.memory.as_ref()?.working_set_bytes?.value)
}

fn container(stats: &ContainerStats) -> Value {
    let mut value = Map::new();
    value.insert("name".into(), container_name(stats).into());
    if let Some(cpu) = &stats.cpu {
        value.insert("cpu".into(), of_cpu(cpu));
    }
    if let Some(memory) = &stats.memory {
        value.insert("memory".into(), of_memory(memory));
    }
    if let Some(layer) = &stats.writable_layer {
        value.insert("rootfs".into(), of_layer(layer));
    }
    value.into()
}

fn of_cpu(cpu: &CpuUsage) -> Value {
    figures(
        cpu.timestamp,
        &[("usageNanoCores", cpu.usage_nano_cores), ("usageCoreNanoSeconds", cpu.usage_core_nano_seconds)],
    )
}

fn of_memory(memory: &MemoryUsage) -> Value {
    figures(
        memory.timestamp,
        &[
            ("availableBytes", memory.available_bytes),
            ("usageBytes", memory.usage_bytes),
            ("workingSetBytes", memory.working_set_bytes),
            ("rssBytes", memory.rss_bytes),
            ("pageFaults", memory.page_faults),
            ("majorPageFaults", memory.major_page_faults),
        ],
    )
}

fn of_layer(layer: &FilesystemUsage) -> Value {
    figures(layer.timestamp, &[("usedBytes", layer.used_bytes), ("inodesUsed", layer.inodes_used)])
}

/// The figures that are known, with their time in nanoseconds since the epoch.
fn figures(time: i64, figures: &[(&str, Option<UInt64Value>)]) -> Value {
    let mut value = Map::new();
    value.insert("time".into(), json!(Timestamp::from_nanosecond(time.into()).ok()));
    for (name, figure) in figures {
        if let Some(figure) = figure {
            value.insert((*name).into(), figure.value.into());
        }
    }
    value.into()
}

fn total_cpu(stats: &[ContainerStats], now: Timestamp) -> Value {
    let total: u64 = stats.iter().filter_map(cpu_nanos).sum();
    let cores: u64 = stats.iter().filter_map(|stats| Some(stats.cpu.as_ref()?.usage_nano_cores?.value)).sum();
    json!({"time": now, "usageNanoCores": cores, "usageCoreNanoSeconds": total})
}

fn total_memory(stats: &[ContainerStats], now: Timestamp) -> Value {
    let usage: u64 = stats.iter().filter_map(|stats| Some(stats.memory.as_ref()?.usage_bytes?.value)).sum();
    let working: u64 = stats.iter().filter_map(working_set).sum();
    json!({"time": now, "usageBytes": usage, "workingSetBytes": working})
}

/// Bytes in all and in use without what the kernel can drop at once.
fn memory() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
    };
    let total = field("MemTotal:")?;
    Some((total, total.saturating_sub(field("MemAvailable:")?)))
}

fn node_memory(now: Timestamp) -> Option<Value> {
    let (total, used) = memory()?;
    Some(json!({"time": now, "availableBytes": total - used, "usageBytes": used, "workingSetBytes": used}))
}

/// Nanoseconds all cores have been busy.
fn node_cpu() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> =
        text.lines().next()?.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // Field 3 is idle, field 4 waits for disks; guests are counted as users already.
    let busy: u64 = fields
        .iter()
        .take(8)
        .enumerate()
        .filter(|(index, _)| !matches!(index, 3 | 4))
        .map(|(_, ticks)| ticks)
        .sum();
    // A tick is a hundredth of a second on every architecture we run on.
    Some(busy * 10_000_000)
}

fn boot_time() -> Option<Timestamp> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find(|line| line.starts_with("btime"))?;
    Timestamp::from_second(line.split_whitespace().nth(1)?.parse().ok()?).ok()
}

fn file_system(path: &str, now: Timestamp) -> Option<Value> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let (capacity, available) = (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize);
    Some(json!({
        "time": now,
        "capacityBytes": capacity,
        "availableBytes": available,
        "usedBytes": capacity - stat.f_bfree * stat.f_frsize,
        "inodes": stat.f_files,
        "inodesFree": stat.f_ffree,
        "inodesUsed": stat.f_files.saturating_sub(stat.f_ffree),
    }))
}
