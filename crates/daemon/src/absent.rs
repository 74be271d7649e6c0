//! What a daemon takes because upstream's does, and does not act on: said once, when it starts.

use std::fmt::Display;

/// Flags that were given, without dashes.
pub fn warn_of_flags(names: impl IntoIterator<Item = impl Display>) {
    for name in names {
        tracing::warn!("--{name} is accepted and has no effect yet");
    }
}

/// Fields of a configuration file, `a.b`.
pub fn warn_of_fields(names: impl IntoIterator<Item = impl Display>) {
    for name in names {
        tracing::warn!("{name} of the configuration is accepted and has no effect yet");
    }
}
