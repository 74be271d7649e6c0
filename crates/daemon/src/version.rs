//! Which Kubernetes version this is.

/// As `kubectl version` and `--version` show it.
pub const GIT_VERSION: &str = "v1.37.1";
pub const MAJOR: &str = "1";
pub const MINOR: &str = "37";

/// The document served at `/version`.
pub fn info() -> serde_json::Value {
    serde_json::json!({
        "major": MAJOR,
        "minor": MINOR,
        "emulationMajor": MAJOR,
        "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR,
        "minCompatibilityMinor": "36",
        "gitVersion": GIT_VERSION,
        "gitCommit": option_env!("CORTEN_COMMIT").unwrap_or(""),
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": platform(),
    })
}

/// What `--version=raw` prints.
pub fn raw() -> String {
    let info = info();
    let text = |key: &str| info[key].as_str().unwrap_or_default().to_owned();
    format!(
        "version.Info{{Major:{:?}, Minor:{:?}, EmulationMajor:\"\", EmulationMinor:\"\", MinCompatibilityMajor:\"\", \
         MinCompatibilityMinor:\"\", GitVersion:{:?}, GitCommit:{:?}, GitTreeState:{:?}, BuildDate:{:?}, \
         GoVersion:{:?}, Compiler:{:?}, Platform:{:?}}}",
        text("major"),
        text("minor"),
        text("gitVersion"),
        text("gitCommit"),
        text("gitTreeState"),
        text("buildDate"),
        text("goVersion"),
        text("compiler"),
        text("platform"),
    )
}

/// `linux/amd64`, as Go names platforms.
pub fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64",
        _ => "linux/unknown",
    }
}

/// The `User-Agent` a daemon's client sends: `kube-scheduler/v1.37.1 (linux/amd64) kubernetes/corten`.
pub fn user_agent(daemon: &str) -> String {
    format!("{daemon}/{GIT_VERSION} ({}) kubernetes/corten", platform())
}
