//! What the host says of itself.

use std::path::Path;

#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub cpus: i64,
    pub memory_bytes: i64,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel_version: String,
    pub os_image: String,
    pub swap_bytes: i64,
    /// (page size in KiB, pages)
    pub hugepages: Vec<(i64, i64)>,
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

impl Machine {
    pub fn read() -> Self {
        let memory = text("/proc/meminfo");
        let kib = |name: &str| -> i64 {
            let line = memory.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|value| value.parse().ok()).unwrap_or_default()
        };
        let cpus = text("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count();
        let machine_id = text("/etc/machine-id");
        let uuid = text("/sys/class/dmi/id/product_uuid");
        let release = text("/etc/os-release");
        let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let mut hugepages = Vec::new();
        for entry in std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let size = name
                .strip_prefix("hugepages-")
                .and_then(|it| it.strip_suffix("kB"))
                .and_then(|it| it.parse().ok());
            if let Some(size) = size {
                let count = text(&entry.path().join("nr_hugepages").display().to_string());
                hugepages.push((size, count.parse().unwrap_or_default()));
            }
        }
        hugepages.sort_unstable();
        Self {
            cpus: i64::try_from(cpus).unwrap_or(1).max(1),
            memory_bytes: kib("MemTotal:") * 1024,
            swap_bytes: kib("SwapTotal:") * 1024,
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            kernel_version: text("/proc/sys/kernel/osrelease"),
            os_image: pretty.unwrap_or("Linux").trim_matches('"').to_owned(),
            hugepages,
        }
    }
}

/// The resource that pages of so many KiB are.
pub fn hugepages(size: i64) -> String {
    if size >= 1 << 20 {
        format!("hugepages-{}Gi", size >> 20)
    } else {
        format!("hugepages-{}Mi", size >> 10)
    }
}

/// As Go names it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub fn disk_capacity(path: &Path) -> i64 {
    disk(path).0
}

/// Bytes of the file system under a path (or the nearest folder that exists): capacity and available.
pub fn disk(path: &Path) -> (i64, i64) {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(stat.f_frsize)).unwrap_or(i64::MAX);
            (bytes(stat.f_blocks), bytes(stat.f_bavail))
        }
        Err(_) => (0, 0),
    }
}

/// Bytes new processes can get.
pub fn memory_available() -> i64 {
    let memory = text("/proc/meminfo");
    let line = memory.lines().find(|line| line.starts_with("MemAvailable:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|it| it.parse::<i64>().ok()).unwrap_or_default() * 1024
}
