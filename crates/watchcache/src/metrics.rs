//! Metrics of what is read from the store.

use std::sync::LazyLock;

use daemon::metrics::{CounterVec, registry};

static UNREADABLE: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec(
        "apiserver_storage_decode_errors_total",
        "Number of stored object decode errors split by object type",
        &["group", "resource"],
    )
});

/// Counts a stored object that cannot be read.
pub fn unreadable(group: &str, resource: &str) {
    UNREADABLE.with(&[group, resource]).inc();
}
