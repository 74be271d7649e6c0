//! The options of writes: parsed and checked with upstream's texts.

use access::request_info::parameters;
use api::decode::Strictness;
use api::status::Cause;
use api::{Status, Tree, json};

use super::Request;

/// What a request does to an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    #[default]
    Create,
    Update,
    Patch,
    /// A patch that says what its manager wants.
    Apply,
}

impl Way {
    /// The kind of the options.
    pub fn kind(self) -> &'static str {
        match self {
            Way::Create => "CreateOptions",
            Way::Update => "UpdateOptions",
            Way::Patch | Way::Apply => "PatchOptions",
        }
    }
}

/// How a write is done.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub way: Way,
    pub dry_run: bool,
    /// As it was given, see [`Request::manager`].
    pub field_manager: String,
    pub strictness: Strictness,
    /// As it was given, where it was.
    pub field_validation: String,
    /// Whether an apply takes fields from other managers.
    pub force: bool,
}

/// Longer names of field managers are refused.
pub const MANAGER_BYTES: usize = 128;

impl WriteOptions {
    pub fn parse(request: &Request, way: Way) -> Result<WriteOptions, Status> {
        let mut options = WriteOptions { way, ..WriteOptions::default() };
        let mut dry_run: Vec<String> = Vec::new();
        let mut force = None;
        let mut unknown = None;
        for (name, value) in parameters(request.query()) {
            match name.as_ref() {
                "dryRun" => dry_run.push(value.into_owned()),
                "fieldManager" => options.field_manager = value.into_owned(),
                "force" if way.kind() == "PatchOptions" => force = Some(truth(&value)),
                "fieldValidation" => {
                    options.field_validation = value.to_string();
                    options.strictness = match value.as_ref() {
                        "" | "Warn" => Strictness::Warn,
                        "Ignore" => Strictness::Ignore,
                        "Strict" => Strictness::Strict,
                        other => {
                            let known = ["", "Ignore", "Strict", "Warn"];
                            unknown = Some(unsupported("fieldValidation", other, &known));
                            options.strictness
                        }
                    };
                }
                _ => {}
            }
        }
        let mut causes = Vec::new();
        match (way, force) {
            (Way::Apply, _) if options.field_manager.is_empty() => causes.push(Cause {
                reason: "FieldValueRequired".to_owned(),
                message: "Required value: is required for apply patch".to_owned(),
                field: "fieldManager".to_owned(),
            }),
            (Way::Apply, force) => options.force = force.unwrap_or_default(),
            (_, Some(_)) => causes.push(forbidden("force", "may not be specified for non-apply patch")),
            (_, None) => {}
        }
        causes.extend(check_manager(&options.field_manager));
        let checked = check_dry_run(&dry_run);
        causes.extend(checked.as_ref().err().cloned());
        causes.extend(unknown);
        if causes.is_empty() {
            options.dry_run = checked.unwrap_or_default();
            return Ok(options);
        }
        Err(Status::invalid("meta.k8s.io", way.kind(), "", causes))
    }

    /// As admission is shown them: those of the create or the update that the write is.
    pub fn tree(&self, kind: &str) -> Tree {
        let mut tree = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.dry_run {
            tree["dryRun"] = json!(["All"]);
        }
        for (field, text) in
            [("fieldManager", &self.field_manager), ("fieldValidation", &self.field_validation)]
        {
            if !text.is_empty() {
                tree[field] = text.as_str().into();
            }
        }
        tree
    }

    /// The options of a write that is done for the server's sake, or for another.
    pub fn of(way: Way, dry_run: bool) -> WriteOptions {
        WriteOptions { way, dry_run, ..WriteOptions::default() }
    }
}

fn check_manager(manager: &str) -> Option<Cause> {
    let cause = |reason: &str, message: String| {
        Some(Cause { reason: reason.to_owned(), message, field: "fieldManager".to_owned() })
    };
    if manager.len() > MANAGER_BYTES {
        return cause("FieldValueTooLong", format!("Too long: may not be more than {MANAGER_BYTES} bytes"));
    }
    let (at, c) = manager.char_indices().find(|(_, c)| !is_printable(*c))?;
    let shown = machinery::fieldpath::Quoted(manager);
    let code = u32::from(c);
    cause(
        "FieldValueInvalid",
        format!("Invalid value: {shown}: invalid character U+{code:04X} (at position {at})"),
    )
}

/// Whether a manager's name can have the character.
pub fn is_printable(c: char) -> bool {
    !c.is_control() && (!c.is_whitespace() || c == ' ')
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

/// A boolean parameter that is there.
pub fn truth(text: &str) -> bool {
    !matches!(text.to_ascii_lowercase().as_str(), "false" | "0")
}

pub fn forbidden(field: &str, detail: &str) -> Cause {
    let message = format!("Forbidden: {detail}");
    Cause { reason: "FieldValueForbidden".to_owned(), message, field: field.to_owned() }
}

pub fn unsupported(field: &str, value: &str, supported: &[&str]) -> Cause {
    let supported = supported.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ");
    let message = format!("Unsupported value: {value:?}: supported values: {supported}");
    Cause { reason: "FieldValueNotSupported".to_owned(), message, field: field.to_owned() }
}
