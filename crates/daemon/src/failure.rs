//! How a daemon says why it ends: `"command failed" err="…"`, with every cause, and exit code 1.

use std::error::Error;
use std::process::ExitCode;

/// The error and its causes, `a: b: c`. A cause that the text before it ends with already is not said again.
pub fn text(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        let next = next.split(" (os error").next().unwrap_or_default();
        if !text.to_lowercase().ends_with(&next.to_lowercase()) {
            text.push_str(": ");
            text.push_str(next);
        }
        cause = error.source();
    }
    text
}

/// Logs the failure; the code `main` returns.
pub fn exit(error: &(dyn Error + 'static)) -> ExitCode {
    tracing::error!(error = text(error), "command failed");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Sample {
        #[error("serving certificate")]
        Part { source: std::io::Error },
        #[error("failed to listen: {source}")]
        Whole { source: std::io::Error },
    }

    #[test]
    fn every_cause_is_reported_once() {
        let source = || std::io::Error::other("no such file");
        assert_eq!(text(&Sample::Part { source: source() }), "serving certificate: no such file");
        let missing = || std::io::Error::from_raw_os_error(2);
        assert_eq!(
            text(&Sample::Part { source: missing() }),
            "serving certificate: No such file or directory"
        );
        assert_eq!(text(&Sample::Whole { source: source() }), "failed to listen: no such file");
    }
}
