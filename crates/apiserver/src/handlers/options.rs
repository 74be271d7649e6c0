//! The parameters of reads: parsed and checked with upstream's texts.

use std::collections::HashMap;

use access::request_info::parameters;
use api::Status;
use api::status::Cause;
use machinery::{fields, labels};

use crate::request::options::{forbidden, truth, unsupported};

/// `ListOptions`.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub labels: Option<labels::Selector>,
    pub fields: fields::Selector,
    /// The resource version as it was given. What is wrong with it is found last, see [`ListOptions::version`].
    pub given_version: String,
    pub version_match: VersionMatch,
    pub limit: i64,
    pub continue_token: String,
    pub timeout_seconds: Option<u64>,
    pub bookmarks: bool,
    pub send_initial_events: Option<bool>,
    /// Whether the query asks for a watch, whatever the path does.
    watch: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VersionMatch {
    #[default]
    Unset,
    Exact,
    NotOlderThan,
}

impl ListOptions {
    /// Checked in upstream's order: numbers, selectors, what may not stand together.
    pub fn parse(query: &str) -> Result<ListOptions, Status> {
        let mut given = HashMap::new();
        for (name, value) in parameters(query) {
            // The first of a repeated parameter counts, as in authorization.
            given.entry(name).or_insert(value);
        }
        let text = |name: &str| given.get(name).map(AsRef::as_ref).unwrap_or_default();
        let flag = |name: &str| given.get(name).map(|value| truth(value));
        let number = |name: &str| given.get(name).map(|value| integer(value)).transpose();
        let mut options = ListOptions {
            watch: flag("watch").unwrap_or_default(),
            bookmarks: flag("allowWatchBookmarks").unwrap_or_default(),
            given_version: text("resourceVersion").to_owned(),
            timeout_seconds: number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok()),
            limit: number("limit")?.unwrap_or_default().max(0),
            continue_token: text("continue").to_owned(),
            send_initial_events: flag("sendInitialEvents"),
            ..ListOptions::default()
        };
        let bad = |error: &dyn std::fmt::Display| Status::bad_request(error.to_string());
        let selector = text("labelSelector");
        if !selector.is_empty() {
            options.labels = Some(labels::Selector::parse(selector).map_err(|error| bad(&error))?);
        }
        options.fields = fields::Selector::parse(text("fieldSelector")).map_err(|error| bad(&error))?;
        let mut matching = text("resourceVersionMatch");
        // A watch that begins nowhere begins with all there is.
        let begins = options.watch && matches!(options.given_version.as_str(), "" | "0");
        if begins && options.send_initial_events.is_none() && matching.is_empty() {
            options.send_initial_events = Some(true);
            matching = "NotOlderThan";
        }
        options.check(matching)?;
        Ok(options)
    }

    /// The resource version of a list, `None` where none is asked for: that is as new as the store.
    pub fn version(&self) -> Result<Option<u64>, Status> {
        match self.given_version.as_str() {
            "" => Ok(None),
            "0" => Ok(Some(0)),
            // any other spelling of zero says nothing
            text => parse_version(text).map(|version| Some(version).filter(|version| *version > 0)),
        }
    }

    /// The resource version that a watch begins at.
    pub fn watch_version(&self) -> Result<Option<u64>, Status> {
        match self.given_version.as_str() {
            "" => Ok(None),
            text => parse_version(text).map(Some).map_err(plainly),
        }
    }

    /// Refuses options that exclude each other.
    fn check(&mut self, matching: &str) -> Result<(), Status> {
        const MATCH: &str = "resourceVersionMatch";
        self.version_match = match matching {
            "Exact" => VersionMatch::Exact,
            "NotOlderThan" => VersionMatch::NotOlderThan,
            _ => VersionMatch::Unset,
        };
        let (version, given) = (self.given_version.as_str(), !matching.is_empty());
        let (paged, initial) = (!self.continue_token.is_empty(), self.send_initial_events.is_some());
        let newer = self.version_match == VersionMatch::NotOlderThan;
        let exact = self.version_match == VersionMatch::Exact;
        let by_match = |why: &str| forbidden(MATCH, why);
        let paging = by_match("resourceVersionMatch is forbidden when continue is provided");
        let rules = match self.watch {
            true => vec![
                (
                    initial && !newer,
                    by_match("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
                ),
                (
                    given && !initial,
                    by_match(
                        "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                    ),
                ),
                (given && !newer, unsupported(MATCH, matching, &["NotOlderThan"])),
                (given && paged, paging),
            ],
            false => vec![
                (
                    given && version.is_empty(),
                    by_match("resourceVersionMatch is forbidden unless resourceVersion is provided"),
                ),
                (given && paged, paging),
                (given && !newer && !exact, unsupported(MATCH, matching, &["Exact", "NotOlderThan", ""])),
                (
                    exact && version == "0",
                    by_match("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""),
                ),
                (initial, forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list")),
            ],
        };
        let causes: Vec<Cause> =
            rules.into_iter().filter(|(broken, _)| *broken).map(|(_, cause)| cause).collect();
        match causes.is_empty() {
            true => Ok(()),
            false => Err(Status::invalid("meta.k8s.io", "ListOptions", "", causes)),
        }
    }
}

/// The resource version of a `get`, which has no other parameters.
pub fn get_version(query: &str) -> Result<Option<u64>, Status> {
    let export = parameters(query).find(|(name, _)| name == "export").map(|(_, value)| value);
    if export.is_some_and(|value| !matches!(&*value.to_ascii_lowercase(), "false" | "0")) {
        let why = "the export parameter, deprecated since v1.14, is no longer supported";
        return Err(Status::bad_request(why));
    }
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

fn parse_version(text: &str) -> Result<u64, Status> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = if digits { text.parse::<u64>().ok() } else { None };
    parsed.ok_or_else(|| {
        let why = if digits { "value out of range" } else { "invalid syntax" };
        Status::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
        ))
    })
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
