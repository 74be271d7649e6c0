//! Process limits. A daemon that may not raise one says so and goes on.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one and returns what holds afterwards.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current == limit.maximum {
        return limit.current.unwrap_or(u64::MAX);
    }
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::warn!(%error, current = ?limit.current, "Cannot raise the limit of open files, going on");
            limit.current.unwrap_or(u64::MAX)
        }
    }
}

/// Sets this process' `oom_score_adj`; lowering it takes CAP_SYS_RESOURCE.
pub fn set_oom_score(adjustment: i32) {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", adjustment.to_string()) {
        tracing::warn!(%error, adjustment, "Cannot set oom_score_adj, going on");
    }
}
