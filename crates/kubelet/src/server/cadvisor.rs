//! `/metrics/cadvisor`: what containers use and may use, under cAdvisor's names, from the runtime's figures.
//! Absent: networks, disks by device, pressure and per-core figures.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use cri::v1::UInt64Value;

use super::Host;
use super::stats;
use crate::cgroups::Cgroups;
use crate::node::machine::Machine;
use crate::pods::{name, namespace, uid};

const FAMILIES: &[(&str, &str, &str)] = &[
    ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds."),
    ("container_fs_inodes_total", "gauge", "Number of Inodes"),
    (
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
    ),
    ("container_last_seen", "gauge", "Last time a container was seen by the exporter"),
    ("container_memory_rss", "gauge", "Size of RSS in bytes."),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
    ),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes."),
    ("container_spec_cpu_period", "gauge", "CPU period of the container."),
    ("container_spec_cpu_quota", "gauge", "CPU quota of the container."),
    ("container_spec_cpu_shares", "gauge", "CPU share of the container."),
    ("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container."),
    ("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds."),
    ("machine_cpu_cores", "gauge", "Number of logical CPU cores."),
    ("machine_memory_bytes", "gauge", "Amount of memory installed on the machine."),
];

pub async fn metrics(host: &Arc<Host>) -> String {
    let all = stats::containers(host).await.unwrap_or_default();
    let now = jiff::Timestamp::now().as_second();
    let mut lines: BTreeMap<&str, String> = BTreeMap::new();
    #[allow(clippy::cast_precision_loss)]
    let number = |value: Option<UInt64Value>| value.map(|value| value.value as f64);
    let mut add = |family: &'static str, labels: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ = writeln!(lines.entry(family).or_default(), "{family}{{{labels}}} {value}");
        }
    };
    let (config, machine) = (&host.config, Machine::read());
    let mount = Path::new("/sys/fs/cgroup");
    let cgroups = Cgroups::new(mount, &config.cgroup_root, config.cgroups_per_qos, config.cpu_cfs_quota, 0);
    for pod in host.pods.all() {
        let Some(runtime) = host.pods.runtime_pod(uid(&pod)) else { continue };
        let parent = cgroups.parent(&pod);
        for stats in all.get(uid(&pod)).into_iter().flatten() {
            let id = stats.attributes.as_ref().map(|it| it.id.clone()).unwrap_or_default();
            let container = stats::container_name(stats);
            let instance = runtime.containers.iter().find(|it| it.id == id);
            let image = instance.map(|it| it.image.clone()).unwrap_or_default();
            let labels = format!(
                "container={container:?},id=\"{parent}/{id}\",image={image:?},name={id:?},namespace={:?},pod={:?}",
                namespace(&pod),
                name(&pod)
            );
            let cpu = stats.cpu.as_ref().and_then(|cpu| number(cpu.usage_core_nano_seconds));
            let of_cpu = format!("{labels},cpu=\"total\"");
            add("container_cpu_usage_seconds_total", &of_cpu, cpu.map(|nanos| nanos / 1e9));
            if let Some(memory) = &stats.memory {
                add("container_memory_rss", &labels, number(memory.rss_bytes));
                add("container_memory_usage_bytes", &labels, number(memory.usage_bytes));
                add("container_memory_working_set_bytes", &labels, number(memory.working_set_bytes));
            }
            if let Some(layer) = &stats.writable_layer {
                add("container_fs_inodes_total", &labels, number(layer.inodes_used));
                add("container_fs_usage_bytes", &labels, number(layer.used_bytes));
            }
            #[allow(clippy::cast_precision_loss)]
            if let Some(instance) = instance {
                add("container_last_seen", &labels, Some(now as f64));
                add("container_start_time_seconds", &labels, Some(instance.started_at as f64 / 1e9));
                if let Some(linux) = &instance.resources {
                    add("container_spec_cpu_shares", &labels, Some(linux.cpu_shares as f64));
                    if linux.cpu_quota > 0 {
                        add("container_spec_cpu_quota", &labels, Some(linux.cpu_quota as f64));
                        add("container_spec_cpu_period", &labels, Some(linux.cpu_period as f64));
                    }
                    let limit = linux.memory_limit_in_bytes;
                    add("container_spec_memory_limit_bytes", &labels, Some(limit as f64));
                }
            }
        }
    }
    #[allow(clippy::cast_precision_loss)]
    {
        let boot = format!("boot_id={:?},machine_id={:?}", machine.boot_id, machine.machine_id);
        let labels = format!("{boot},system_uuid={:?}", machine.system_uuid);
        add("machine_cpu_cores", &labels, Some(machine.cpus as f64));
        add("machine_memory_bytes", &labels, Some(machine.memory_bytes as f64));
    }
    let mut text = String::new();
    for (family, kind, help) in FAMILIES {
        if let Some(lines) = lines.get(family) {
            let _ = write!(text, "# HELP {family} {help}\n# TYPE {family} {kind}\n{lines}");
        }
    }
    text
}
