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
        let mut seen = Vec::new();
        for (name, value) in parameters(query) {
            // Of a parameter that is repeated the first counts, for whoever authorized the request as well.
            if seen.contains(&name) {
                continue;
            }
            seen.push(name.clone());
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
                "limit" => options.limit = integer(&value)?.max(0),
                "continue" => options.continue_token = value.into_owned(),
                "timeoutSeconds" => {
                    options.timeout_seconds = u64::try_from(integer(&value)?).ok();
                }
                "allowWatchBookmarks" => options.bookmarks = truth(&value),
                "sendInitialEvents" => options.send_initial_events = Some(truth(&value)),
                _ => {}
            }
        }
        options.check(&version, &matching, watch)?;
        if !version.is_empty() {
            let parsed = parse_version(&version);
            options.resource_version = Some(if watch { parsed.map_err(plainly)? } else { parsed? });
        }
        Ok(options)
    }

    fn check(&mut self, version: &str, matching: &str, watch: bool) -> Result<(), Status> {
        const MATCH: &str = "resourceVersionMatch";
        let mut causes = Vec::new();
        let mut forbidden = |field: &str, detail: &str| causes.push(forbidden(field, detail));
        self.version_match = match matching {
            "Exact" => VersionMatch::Exact,
            "NotOlderThan" => VersionMatch::NotOlderThan,
            _ => VersionMatch::Unset,
        };
        let given = !matching.is_empty();
        let paged = !self.continue_token.is_empty();
        if watch {
            let initial = self.send_initial_events.is_some();
            if initial && matching != "NotOlderThan" {
                forbidden(MATCH, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
            }
            if given && !initial {
                forbidden(
                    MATCH,
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
            if paged {
                forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided");
            }
            if given && matching != "NotOlderThan" {
                causes.push(unsupported(MATCH, matching, &["NotOlderThan"]));
            }
        } else {
            if given && version.is_empty() {
                forbidden(MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if given && paged {
                forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided");
            }
            if self.version_match == VersionMatch::Exact && version == "0" {
                forbidden(MATCH, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
            if self.send_initial_events.is_some() {
                forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
            }
            if given && self.version_match == VersionMatch::Unset {
                let at = causes.iter().take_while(|cause| cause.field == MATCH).count();
                causes.insert(at, unsupported(MATCH, matching, &["Exact", "NotOlderThan", ""]));
            }
        }
        if causes.is_empty() {
            Ok(())
        } else {
            Err(Status::invalid("meta.k8s.io", "ListOptions", "", causes))
        }
    }
}

/// The resource version of a `get`, which has no other parameters.
pub fn get_version(query: &str) -> Result<Option<i64>, Status> {
    let given = parameters(query).find(|(name, _)| name == "resourceVersion").map(|(_, value)| value);
    given.filter(|text| !text.is_empty()).map(|text| parse_version(&text)).transpose().map_err(plainly)
}

/// Reads of one object and watches show the failure as it is.
fn plainly(mut status: Status) -> Status {
    if let Some(rest) = status.message.strip_prefix("invalid resource version: ") {
        status = Status::failure(500, "", rest);
    }
    status
}

fn forbidden(field: &str, detail: &str) -> Cause {
    let message = format!("Forbidden: {detail}");
    Cause { reason: "FieldValueForbidden".to_owned(), message, field: field.to_owned() }
}

fn unsupported(field: &str, value: &str, supported: &[&str]) -> Cause {
    let supported = supported.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ");
    let message = format!("Unsupported value: {value:?}: supported values: {supported}");
    Cause { reason: "FieldValueNotSupported".to_owned(), message, field: field.to_owned() }
}

fn parse_version(text: &str) -> Result<i64, Status> {
    match text.parse::<u64>() {
        Ok(version) => Ok(i64::try_from(version).unwrap_or(i64::MAX)),
        Err(error) => {
            let why = match error.kind() {
                std::num::IntErrorKind::PosOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Err(Status::bad_request(format!(
                "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
            )))
        }
    }
}

/// A number of a parameter, refused in the words of upstream's parser.
pub fn integer(text: &str) -> Result<i64, Status> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse::<i64>().map_err(|error| {
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))
    })
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

/// Longer names of field managers are refused.
const MANAGER_BYTES: usize = 128;

impl WriteOptions {
    /// `kind`: `CreateOptions`, `UpdateOptions`, `PatchOptions`.
    pub fn parse(query: &str, kind: &str) -> Result<WriteOptions, Status> {
        let mut options = WriteOptions::default();
        let (mut dry_run, mut manager): (Vec<String>, String) = Default::default();
        let mut causes = Vec::new();
        let mut unknown = None;
        for (name, value) in parameters(query) {
            match name.as_ref() {
                "dryRun" => dry_run.push(value.into_owned()),
                "fieldManager" => manager = value.into_owned(),
                "force" if kind == "PatchOptions" => {
                    causes.push(forbidden("force", "may not be specified for non-apply patch"));
                }
                "fieldValidation" => {
                    options.strictness = match value.as_ref() {
                        "" | "Warn" => api::decode::Strictness::Warn,
                        "Ignore" => api::decode::Strictness::Ignore,
                        "Strict" => api::decode::Strictness::Strict,
                        other => {
                            unknown = Some(unsupported(
                                "fieldValidation",
                                other,
                                &["", "Ignore", "Strict", "Warn"],
                            ));
                            options.strictness
                        }
                    };
                }
                _ => {}
            }
        }
        causes.extend(check_manager(&manager));
        let checked = check_dry_run(&dry_run);
        causes.extend(checked.as_ref().err().cloned());
        causes.extend(unknown);
        if causes.is_empty() {
            options.dry_run = checked.unwrap_or_default();
            return Ok(options);
        }
        Err(Status::invalid("meta.k8s.io", kind, "", causes))
    }
}

fn check_manager(manager: &str) -> Option<Cause> {
    let cause = |reason: &str, message: String| {
        Some(Cause { reason: reason.to_owned(), message, field: "fieldManager".to_owned() })
    };
    if manager.len() > MANAGER_BYTES {
        return cause("FieldValueTooLong", format!("Too long: may not be more than {MANAGER_BYTES} bytes"));
    }
    let (at, c) = manager.char_indices().find(|(_, c)| c.is_control() || c.is_whitespace() && *c != ' ')?;
    let shown = machinery::fieldpath::Quoted(manager);
    let code = u32::from(c);
    cause(
        "FieldValueInvalid",
        format!("Invalid value: {shown}: invalid character U+{code:04X} (at position {at})"),
    )
}

/// `dryRun` can only be `All`.
pub fn check_dry_run(values: &[String]) -> Result<bool, Cause> {
    if values.iter().all(|value| value == "All") {
        return Ok(!values.is_empty());
    }
    let shown = serde_json::to_string(values).unwrap_or_default();
    let message = format!("Unsupported value: {shown}: supported values: \"All\"");
    Err(Cause { reason: "FieldValueNotSupported".to_owned(), message, field: "dryRun".to_owned() })
}
