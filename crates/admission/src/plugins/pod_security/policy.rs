//! Levels and versions, and the labels by which a namespace asks for them.

use std::fmt;

use api::Tree;
use api::status::Cause;
use machinery::Path;
use registry::tree::get;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

/// A minor version of Kubernetes whose rules hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    #[default]
    Latest,
    Minor(u32),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelVersion {
    pub level: Level,
    pub version: Version,
}

/// What is refused, noted in the audit log, and warned of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub enforce: LevelVersion,
    pub audit: LevelVersion,
    pub warn: LevelVersion,
}

/// Before the names of labels and annotations.
pub const PREFIX: &str = "pod-security.kubernetes.io/";

impl Level {
    pub fn parse(text: &str) -> Result<Level, &'static str> {
        match text {
            "privileged" => Ok(Level::Privileged),
            "baseline" => Ok(Level::Baseline),
            "restricted" => Ok(Level::Restricted),
            _ => Err("must be one of privileged, baseline, restricted"),
        }
    }
}

impl Version {
    pub fn parse(text: &str) -> Result<Version, &'static str> {
        let minor = text.strip_prefix("v1.").filter(|digits| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            plain && (*digits == "0" || !digits.starts_with('0'))
        });
        match (text, minor.map(str::parse)) {
            ("latest", _) => Ok(Version::Latest),
            (_, Some(Ok(minor))) => Ok(Version::Minor(minor)),
            _ => Err("must be \"latest\" or \"v1.x\""),
        }
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(f, "{level}:latest"),
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

impl LevelVersion {
    fn allows_as(&self, other: &LevelVersion) -> bool {
        self == other || self.level == Level::Privileged && other.level == Level::Privileged
    }
}

impl Policy {
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|one| one.level == Level::Privileged)
    }

    pub fn allows_as(&self, other: &Policy) -> bool {
        self.enforce.allows_as(&other.enforce)
            && self.audit.allows_as(&other.audit)
            && self.warn.allows_as(&other.warn)
    }

    /// What a namespace asks for, and what is wrong with how it does. A level that cannot be read refuses much and warns of nothing.
    pub fn of_namespace(namespace: &Tree, defaults: &Policy) -> (Policy, Vec<Cause>) {
        let labels = get(namespace, "metadata.labels");
        let label = |name: &str| labels.get(format!("{PREFIX}{name}").as_str()).and_then(Tree::as_str);
        let (mut policy, mut causes) = (*defaults, Vec::new());
        let path = Path::new("metadata.labels");
        let mut wrong = |name: &str, value: &str, why: &str| {
            causes.push(path.key(&format!("{PREFIX}{name}")).invalid(value, why));
        };
        let mut enforces = false;
        let Policy { enforce, audit, warn } = &mut policy;
        for (name, mode, fallback) in [
            ("enforce", &mut *enforce, Level::Restricted),
            ("audit", audit, Level::Privileged),
            ("warn", &mut *warn, Level::Privileged),
        ] {
            if let Some(value) = label(name) {
                mode.level = Level::parse(value).unwrap_or_else(|why| {
                    wrong(name, value, why);
                    fallback
                });
                enforces |= name == "enforce" && Level::parse(value).is_ok();
            }
            let name = format!("{name}-version");
            if let Some(value) = label(&name) {
                mode.version = Version::parse(value).unwrap_or_else(|why| {
                    wrong(&name, value, why);
                    Version::Latest
                });
            }
        }
        // what is refused in pods is warned of in what makes pods
        if enforces && label("warn").is_none() && enforce.level > warn.level {
            warn.level = enforce.level;
            if label("warn-version").is_none() {
                warn.version = enforce.version;
            }
        }
        (policy, causes)
    }

    /// `enforce=baseline:latest, warn=…`: what the labels of a namespace ask for.
    pub fn asked_for(&self, namespace: &Tree) -> String {
        let labels = get(namespace, "metadata.labels");
        let has = |name: &str| labels.get(format!("{PREFIX}{name}").as_str()).is_some();
        let modes = [("enforce", self.enforce), ("audit", self.audit), ("warn", self.warn)];
        let asked = modes.into_iter().filter(|(name, mode)| {
            mode.level != Level::Privileged && (has(name) || has(&format!("{name}-version")))
        });
        asked.map(|(name, mode)| format!("{name}={mode}")).collect::<Vec<_>>().join(", ")
    }
}
