//! Times as the API writes them.

/// RFC 3339, whole seconds, UTC.
pub fn text(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
