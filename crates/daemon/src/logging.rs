//! Logs go to stderr in klog's text form (`I1121 11:27:58.936909   29607 server.rs:151] "message" key="value"`)
//! or as JSON lines. `-v=0..3` is info, `4..5` debug, `6` and above trace; libraries speak from `-v=8`.

mod format;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Libraries that would drown our own lines.
const LIBRARIES: &[&str] = &[
    "h2",
    "hyper",
    "hyper_util",
    "rustls",
    "tokio_rustls",
    "tonic",
    "tower",
    "tungstenite",
    "hickory_proto",
    "mio",
];

/// `--logging-format` names none.
#[derive(Debug, thiserror::Error)]
#[error("format: Invalid value: {0:?}: Unsupported log format")]
pub struct UnsupportedFormat(String);

/// Starts logging. A second call has no effect (tests start several daemons in one process).
///
/// `vmodule` is `module=N,…`; the pattern is matched as a module path's prefix. Where the format is not known, logs
/// are text, for the caller to say so and end.
pub fn init(verbosity: u32, format: &str, vmodule: &str) -> Result<(), UnsupportedFormat> {
    let mut targets = Targets::new().with_default(level(verbosity));
    if verbosity < 8 {
        for library in LIBRARIES {
            targets = targets.with_target(*library, LevelFilter::WARN);
        }
    }
    for (pattern, number) in vmodule.split(',').filter_map(|part| part.split_once('=')) {
        if let Ok(number) = number.parse() {
            targets = targets.with_target(pattern.replace('-', "_"), level(number));
        }
    }
    let registry = tracing_subscriber::registry().with(targets);
    let _ = match format {
        "json" => {
            let layer =
                tracing_subscriber::fmt::layer().with_writer(std::io::stderr).event_format(format::Json);
            registry.with(layer).try_init()
        }
        _ => {
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .event_format(format::Text::new());
            registry.with(layer).try_init()
        }
    };
    check(format)
}

fn check(format: &str) -> Result<(), UnsupportedFormat> {
    match format {
        "text" | "json" => Ok(()),
        other => Err(UnsupportedFormat(other.to_owned())),
    }
}

fn level(verbosity: u32) -> LevelFilter {
    match verbosity {
        0..=3 => LevelFilter::INFO,
        4..=5 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn formats() {
        assert!(super::check("json").is_ok() && super::check("text").is_ok());
        let refused = super::check("xml").unwrap_err().to_string();
        assert_eq!(refused, "format: Invalid value: \"xml\": Unsupported log format");
    }
}
