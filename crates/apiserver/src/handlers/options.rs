//! The parameters of reads: parsed and checked with upstream's texts.

use api::Status;
use api::status::Cause;
use machinery::{fields, labels};

use crate::request_info::parameters;

/// `ListOptions`.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub labels: Option<labels::Selector>,
    pub fields: fields::Selector,
    /// `None`: not given.
    pub resource_version: Option<i64>,
    pub version_match: VersionMatch,
    pub limit: i64,
    pub continue_token: String,
    pub timeout_seconds: Option<u64>,
    pub bookmarks: bool,
    pub send_initial_events: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VersionMatch {
    #[default]
    Unset,
    Exact,
    NotOlderThan,
}

impl ListOptions {
    pub fn parse(query: &str, watch: bool) -> Result<ListOptions, Status> {
        let mut options = ListOptions::default();
        let (mut version, mut matching) = (String::new(), String::new());
        for (name, value) in parameters(query) {
            match name.as_ref() {
                "labelSelector" if !value.is_empty() => {
                    let selector = labels::Selector::parse(&value);
                    options.labels = Some(selector.map_err(|error| Status::bad_request(error.to_string()))?);
                }
                "fieldSelector" if !value.is_empty() => {
                    options.fields = fields::Selector::parse(&value)
                        .map_err(|error| Status::bad_request(error.to_string()))?;
                }
                "resourceVersion" => version = value.into_owned(),
                "resourceVersionMatch" => matching = value.into_owned(),
                "limit" if !value.is_empty() => options.limit = integer(&value)?.max(0),
                "continue" => options.continue_token = value.into_owned(),
                "timeoutSeconds" if !value.is_empty() => {
                    options.timeout_seconds = u64::try_from(integer(&value)?).ok();
                }
                "allowWatchBookmarks" => options.bookmarks = truth(&value),
                "sendInitialEvents" => options.send_initial_events = Some(truth(&value)),
                _ => {}
            }
        }
        options.check(&version, &matching, watch)?;
        if !version.is_empty() {
            options.resource_version = Some(parse_version(&version)?);
        }
        Ok(options)
    }

    fn check(&mut self, version: &str, matching: &str, watch: bool) -> Result<(), Status> {
        const MATCH: &str = "resourceVersionMatch";
        let forbidden = |field: &str, detail: &str| {
            Err(invalid("ListOptions", "FieldValueForbidden", field, format!("Forbidden: {detail}")))
        };
        self.version_match = match matching {
            "Exact" => VersionMatch::Exact,
            "NotOlderThan" => VersionMatch::NotOlderThan,
            _ => VersionMatch::Unset,
        };
        if watch {
            return match (self.send_initial_events, matching) {
                (Some(_), "") => {
                    forbidden(MATCH, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
                }
                (Some(_), "NotOlderThan") | (None, "") => Ok(()),
                (Some(_), other) => Err(unsupported(MATCH, other, &["NotOlderThan"])),
                (None, _) => forbidden(
                    MATCH,
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ),
            };
        }
        if self.send_initial_events.is_some() {
            return forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
        }
        if matching.is_empty() {
            return Ok(());
        }
        if !self.continue_token.is_empty() {
            return forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided");
        }
        if version.is_empty() {
            return forbidden(MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        match self.version_match {
            VersionMatch::Unset => Err(unsupported(MATCH, matching, &["Exact", "NotOlderThan", ""])),
            VersionMatch::Exact if version == "0" => {
                forbidden(MATCH, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
            }
            _ => Ok(()),
        }
    }
}

/// A failure of options, which are an object of `meta.k8s.io` to upstream.
pub fn invalid(kind: &str, reason: &str, field: &str, message: String) -> Status {
    let cause = Cause { reason: reason.to_owned(), message, field: field.to_owned() };
    Status::invalid("meta.k8s.io", kind, "", vec![cause])
}

fn unsupported(field: &str, value: &str, supported: &[&str]) -> Status {
    let supported = supported.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ");
    let message = format!("Unsupported value: {value:?}: supported values: {supported}");
    invalid("ListOptions", "FieldValueNotSupported", field, message)
}

fn parse_version(text: &str) -> Result<i64, Status> {
    match text.parse::<u64>() {
        Ok(version) => Ok(i64::try_from(version).unwrap_or(i64::MAX)),
        Err(_) => Err(Status::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))),
    }
}

fn integer(text: &str) -> Result<i64, Status> {
    text.parse().map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
}

fn truth(text: &str) -> bool {
    !matches!(text.to_ascii_lowercase().as_str(), "false" | "0")
}

/// How a write is done: `dryRun`, `fieldValidation`, `fieldManager`.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub strictness: api::decode::Strictness,
}

impl WriteOptions {
    /// `kind`: `CreateOptions`, `UpdateOptions`, `PatchOptions`.
    pub fn parse(query: &str, kind: &str) -> Result<WriteOptions, Status> {
        let mut options = WriteOptions::default();
        let mut dry_run: Vec<String> = Vec::new();
        for (name, value) in parameters(query) {
            match name.as_ref() {
                "dryRun" => dry_run.push(value.into_owned()),
                "fieldValidation" => {
                    options.strictness = match value.as_ref() {
                        "" | "Warn" => api::decode::Strictness::Warn,
                        "Ignore" => api::decode::Strictness::Ignore,
                        "Strict" => api::decode::Strictness::Strict,
                        other => {
                            let message = format!(
                                "Unsupported value: {other:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
                            );
                            return Err(invalid(kind, "FieldValueNotSupported", "fieldValidation", message));
                        }
                    };
                }
                _ => {}
            }
        }
        options.dry_run = check_dry_run(&dry_run, kind)?;
        Ok(options)
    }
}

/// `dryRun` can only be `All`.
pub fn check_dry_run(values: &[String], kind: &str) -> Result<bool, Status> {
    if values.is_empty() {
        return Ok(false);
    }
    if values.iter().all(|value| value == "All") {
        return Ok(true);
    }
    let shown = serde_json::to_string(values).unwrap_or_default();
    let message = format!("Unsupported value: {shown}: supported values: \"All\"");
    Err(invalid(kind, "FieldValueNotSupported", "dryRun", message))
}
