//! `DeleteOptions`: from a delete's body, or from its query where there is no body.

use std::collections::HashSet;

use access::request_info::parameters;
use api::decode::{Expected, Strictness};
use api::status::Cause;
use api::{Status, Tree};
use bytes::Bytes;

use super::options::integer;
use super::{Call, mutate};
use crate::request::options::{WriteOptions, check_dry_run};
use crate::writes::delete::{DeleteOptions, Propagation};

/// Asks for what cannot be read to be deleted.
const UNREADABLE: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";

/// The query's options, unparsed.
#[derive(Default)]
struct Asked {
    policy: Option<String>,
    orphan: Option<bool>,
    dry_run: Vec<String>,
    options: DeleteOptions,
}

/// The options of a delete, and of the write that it is.
pub fn of_request(call: &Call<'_>, body: &Bytes) -> Result<(DeleteOptions, WriteOptions), Status> {
    let asked = if body.is_empty() { of_query(call.request.query())? } else { of_tree(&decode(call, body)?) };
    let (options, dry_run) = asked.check()?;
    Ok((options, WriteOptions { dry_run, ..WriteOptions::default() }))
}

/// Options within another object: an eviction's.
pub fn of_object(tree: Option<&Tree>) -> Result<(DeleteOptions, bool), Status> {
    of_tree(tree.unwrap_or(&Tree::Null)).check()
}

fn of_query(query: &str) -> Result<Asked, Status> {
    let mut asked = Asked::default();
    let mut seen = HashSet::new();
    for (name, value) in parameters(query) {
        // The first of a repeated parameter counts; `dryRun` is a list, so all of its values do.
        if name != "dryRun" && !seen.insert(name.clone()) {
            continue;
        }
        match name.as_ref() {
            "gracePeriodSeconds" => asked.options.grace_period = Some(integer(&value)?),
            UNREADABLE => asked.options.ignore_read_error = flag(&value),
            "propagationPolicy" => asked.policy = Some(value.into_owned()),
            "orphanDependents" => asked.orphan = Some(flag(&value)),
            "dryRun" => asked.dry_run.push(value.into_owned()),
            "uid" if !value.is_empty() => asked.options.uid = Some(value.into_owned()),
            "resourceVersion" if !value.is_empty() => {
                asked.options.resource_version = Some(value.into_owned());
            }
            _ => {}
        }
    }
    Ok(asked)
}

fn flag(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "false" | "0")
}

fn of_tree(tree: &Tree) -> Asked {
    let text = |pointer: &str| tree.pointer(pointer).and_then(Tree::as_str).map(str::to_owned);
    let dry_run = tree.get("dryRun").and_then(Tree::as_array).into_iter().flatten();
    Asked {
        policy: text("/propagationPolicy"),
        orphan: tree.get("orphanDependents").and_then(Tree::as_bool),
        dry_run: dry_run.filter_map(Tree::as_str).map(str::to_owned).collect(),
        options: DeleteOptions {
            grace_period: tree.get("gracePeriodSeconds").and_then(Tree::as_i64),
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            propagation: None,
            ignore_read_error: tree.get(UNREADABLE).and_then(Tree::as_bool).unwrap_or_default(),
        },
    }
}

impl Asked {
    fn check(self) -> Result<(DeleteOptions, bool), Status> {
        const POLICY: &str = "propagationPolicy";
        let mut options = self.options;
        let mut causes = Vec::new();
        let mut cause = |reason: &str, message: String| {
            causes.push(Cause { reason: reason.to_owned(), message, field: POLICY.to_owned() });
        };
        if let (Some(policy), Some(_)) = (&self.policy, self.orphan) {
            let shown = Tree::from(policy.as_str());
            let why = "orphanDependents and deletionPropagation cannot be both set";
            cause("FieldValueInvalid", format!("Invalid value: {shown}: {why}"));
        }
        options.propagation = match self.policy.as_deref() {
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Background") => Some(Propagation::Background),
            Some("Orphan") => Some(Propagation::Orphan),
            None => {
                self.orphan.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background })
            }
            Some(other) => {
                let supported = "\"Foreground\", \"Background\", \"Orphan\", \"nil\"";
                let message = format!("Unsupported value: {other:?}: supported values: {supported}");
                cause("FieldValueNotSupported", message);
                None
            }
        };
        let dry_run = check_dry_run(&self.dry_run);
        causes.extend(dry_run.as_ref().err().cloned());
        if options.ignore_read_error {
            let beside = [
                (self.policy.is_some(), "propagationPolicy"),
                (self.orphan.is_some(), "orphanDependents"),
                (options.grace_period.is_some(), "gracePeriodSeconds"),
                (options.uid.is_some() || options.resource_version.is_some(), "preconditions"),
            ];
            let set = beside.into_iter().filter(|(set, _)| *set);
            causes.extend(set.map(|(_, field)| unreadable(&format!("cannot be set together with .{field}"))));
        }
        if !causes.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", causes));
        }
        if options.grace_period.is_some_and(|grace| grace < 0) {
            // upstream takes a negative period for the shortest there is
            options.grace_period = Some(1);
        }
        Ok((options, dry_run.unwrap_or_default()))
    }
}

fn unreadable(why: &str) -> Cause {
    let message = format!("Invalid value: true: {why}");
    Cause { reason: "FieldValueInvalid".to_owned(), message, field: UNREADABLE.to_owned() }
}

/// The refusal of a delete that asks for what cannot be read.
pub fn unreadable_refused(why: &str) -> Status {
    Status::invalid("meta.k8s.io", "DeleteOptions", "", vec![unreadable(why)])
}

/// Decodes the options, which may name the resource's own group, as old clients' do. Its errors do not name the kind that was
/// expected.
fn decode(call: &Call<'_>, body: &Bytes) -> Result<Tree, Status> {
    let expected = Expected::built_in("meta.k8s.io", "v1", "DeleteOptions");
    let core = Expected { group: "", ..expected };
    let format = mutate::format(call)?;
    let attempt = |expected| api::decode::object(body, format, expected, Strictness::Ignore);
    attempt(core)
        .or_else(|first| attempt(expected).map_err(|_| first))
        .map(|object| object.tree)
        .map_err(bare)
}

fn bare(mut status: Status) -> Status {
    let unrecognized = "the object provided is unrecognized (must be of type DeleteOptions): ";
    let message = std::mem::take(&mut status.message);
    status.message = if let Some(rest) = message.strip_prefix(unrecognized) {
        rest.rsplit_once(" (").map_or(rest, |(error, _)| error).to_owned()
    } else if let Some((from, to)) =
        message.split_once("converting (").map(|(_, rest)| rest).and_then(|rest| rest.split_once(") to ("))
        && to.ends_with("unknown conversion")
    {
        let (version, kind) = from.split_once('.').unwrap_or(("", from));
        format!(
            "no kind \"{kind}\" is registered for version \"{version}\" in scheme \"pkg/runtime/scheme.go:111\""
        )
    } else {
        message
            .split_once(" cannot be handled as a DeleteOptions: ")
            .map_or(message.as_str(), |(_, error)| error)
            .to_owned()
    };
    status
}
