//! Whether the host swaps, and what containers may have of it (KEP-2400).

use std::path::Path;

/// `memorySwap.swapBehavior` that lets burstable pods swap.
pub const LIMITED: &str = "LimitedSwap";

/// Facts of the node that decide how much a container may swap.
#[derive(Clone, Debug, Default)]
pub struct Swap {
    /// The kernel counts and limits what groups swap.
    pub controlled: bool,
    /// Burstable pods may have their part of `capacity`.
    pub limited: bool,
    pub capacity: i64,
}

impl Swap {
    pub fn new(behavior: &str, capacity: i64, cgroup_mount: &Path, cgroup_v2: bool) -> Self {
        let own_group = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let file = limit_file(cgroup_mount, cgroup_v2, &own_group);
        Self { controlled: file.is_some_and(|file| file.exists()), limited: behavior == LIMITED, capacity }
    }
}

/// The file by which a group's swap is limited. The top of version 2 has none, so that our own group is looked at.
fn limit_file(mount: &Path, v2: bool, own_group: &str) -> Option<std::path::PathBuf> {
    if !v2 {
        return Some(mount.join("memory/memory.memsw.limit_in_bytes"));
    }
    let group = own_group.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(mount.join(group.trim_matches('/')).join("memory.swap.max"))
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to determine if swap is on: open /proc/swaps: {0}")]
    Unknown(std::io::Error),
    #[error("running with swap on is not supported, please disable swap or set --fail-swap-on flag to false")]
    On,
    #[error("swap feature is enabled and LimitedSwap but it is only supported with cgroupv2")]
    LimitedOnV1,
}

/// Whether the host swaps; an error where it must not.
pub fn check(fail_swap_on: bool, behavior: &str, cgroup_v2: bool) -> Result<bool, Error> {
    if behavior == LIMITED && !cgroup_v2 {
        return Err(Error::LimitedOnV1);
    }
    let areas = match std::fs::read_to_string("/proc/swaps") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::Unknown(error)),
        Ok(areas) => areas,
    };
    judge(&areas, fail_swap_on)
}

fn judge(areas: &str, fail_swap_on: bool) -> Result<bool, Error> {
    // Below a heading, a line for each area.
    match areas.trim().lines().count() > 1 {
        true if fail_swap_on => Err(Error::On),
        on => Ok(on),
    }
}

/// Whether file systems in memory can be kept out of swap; kernels can from 6.4 on.
pub fn memory_stays_in_memory(kernel: &str) -> bool {
    let mut numbers =
        kernel.split(|byte: char| !byte.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    version >= (6, 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_swaps_is_refused_unless_allowed() {
        let none = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        let one = format!("{none}/dev/sda2  partition\t1048572\t\t0\t\t-2\n");
        assert!(!judge("", true).unwrap() && !judge(none, true).unwrap());
        assert!(judge(&one, false).unwrap());
        let error = judge(&one, true).unwrap_err().to_string();
        assert!(error.starts_with("running with swap on is not supported"), "{error}");
        assert!(matches!(check(false, LIMITED, false), Err(Error::LimitedOnV1)));
    }

    #[test]
    fn kernels() {
        for (kernel, expect) in [
            ("6.4.0-1-amd64", true),
            ("6.18.5", true),
            ("7.0", true),
            ("6.1.0-18-amd64", false),
            ("5.15", false),
            ("", false),
        ] {
            assert_eq!(memory_stays_in_memory(kernel), expect, "{kernel}");
        }
    }

    #[test]
    fn finds_the_file_that_limits_swap() {
        let file =
            |v2, own: &str| limit_file(Path::new("/c"), v2, own).map(|path| path.display().to_string());
        let own = "0::/system.slice/kubelet.service\n";
        assert_eq!(file(true, own).as_deref(), Some("/c/system.slice/kubelet.service/memory.swap.max"));
        assert_eq!(file(true, "0::/\n").as_deref(), Some("/c/memory.swap.max"));
        assert_eq!(file(true, "4:memory:/x\n"), None);
        assert_eq!(file(false, own).as_deref(), Some("/c/memory/memory.memsw.limit_in_bytes"));
    }
}
