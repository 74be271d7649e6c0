//! `process_*` read from `/proc/self` at each scrape, and `kubernetes_build_info`.

use std::fs;

use super::{Registry, Samples};

/// Linux' clock ticks per second on every platform we build for.
const TICKS: f64 = 100.0;

pub(super) fn register(registry: &Registry) {
    let one =
        |value: Option<f64>| -> Samples { value.map(|value| (Vec::new(), value)).into_iter().collect() };
    registry.counter_fn(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        &[],
        move || one(stat(11).zip(stat(12)).map(|(user, system)| (user + system) / TICKS)),
    );
    registry.gauge_fn("process_resident_memory_bytes", "Resident memory size in bytes.", &[], move || {
        one(status("VmRSS:").map(|kilobytes| kilobytes * 1024.0))
    });
    registry.gauge_fn("process_virtual_memory_bytes", "Virtual memory size in bytes.", &[], move || {
        one(stat(20))
    });
    registry.gauge_fn("process_open_fds", "Number of open file descriptors.", &[], move || {
        one(fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64))
    });
    registry.gauge_fn("process_max_fds", "Maximum number of open file descriptors.", &[], move || {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        one(Some(limit.map_or(f64::MAX, |limit| limit as f64)))
    });
    register_start(registry);
    let labels = &[
        "build_date",
        "compiler",
        "git_commit",
        "git_tree_state",
        "git_version",
        "go_version",
        "major",
        "minor",
        "platform",
    ];
    registry.gauge_fn(
        "kubernetes_build_info",
        "The version this daemon was built as; always 1.",
        labels,
        || {
            let info = crate::version::info();
            let text = |name: &str| info[name].as_str().unwrap_or_default().to_owned();
            let names = [
                "buildDate",
                "compiler",
                "gitCommit",
                "gitTreeState",
                "gitVersion",
                "goVersion",
                "major",
                "minor",
                "platform",
            ];
            vec![(names.iter().map(|name| text(name)).collect(), 1.0)]
        },
    );
}

pub(super) fn register_start(registry: &Registry) {
    let start = start_time();
    registry.gauge_fn(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        &[],
        move || start.map(|value| (Vec::new(), value)).into_iter().collect(),
    );
}

/// Field of `/proc/self/stat`, counted from 0 after the command's name and the state.
fn stat(field: usize) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(field)?.parse().ok()
}

/// A line of `/proc/self/status`, in kB.
fn status(name: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

pub(crate) fn start_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + stat(19)? / TICKS)
}
