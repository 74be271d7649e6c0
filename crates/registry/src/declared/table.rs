//! What `declared.txt` says, by message and field. Its lines, in their order:
//!
//! - `M name`: a message; what follows is its own.
//! - `F name`: a field, by its JSON name (`-`: one whose message is inlined). The tags that follow are the field's.
//! - `type …`, `each …`: a tag of the field's type, or of its items' type: looked at after the field's own.
//! - anything else: a tag, `name=value` or `name(argument)=+k8s:tag`. A `-` before it: it is tried out and not shown
//!   (alpha); a `+`: shown (beta), as one without either is.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::formats::{self, Format};

/// What a tag asks of a value.
#[derive(Debug)]
pub enum What {
    Required,
    /// What is absent is not looked at further.
    Optional,
    Forbidden,
    Immutable,
    Update(Change),
    MaxItems(usize),
    MaxLength(usize),
    MaxBytes(usize),
    Minimum(i64),
    Maximum(i64),
    /// Never less than it was.
    Monotonic,
    Format(Format),
    OneOf(Vec<&'static str>),
    /// No item twice, by the list's keys.
    Unique,
    EachValue(Box<What>),
    EachKey(Box<What>),
    Subfield(&'static str, Box<What>),
    /// If a feature is on, or off.
    If(&'static str, bool, Box<What>),
}

/// What an update may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Set,
    Unset,
    Modify,
    AddItem,
    RemoveItem,
}

#[derive(Debug)]
pub struct Step {
    /// Tried out: it may end the look at a field, but nobody reads what it finds.
    pub shadow: bool,
    pub what: What,
}

impl What {
    /// Where it finds something, nothing else of the field is looked at.
    pub fn ends(&self) -> bool {
        match self {
            What::Required
            | What::Optional
            | What::Forbidden
            | What::Immutable
            | What::Update(_)
            | What::MaxItems(_) => true,
            What::Subfield(_, inner) | What::If(_, _, inner) => inner.ends(),
            _ => false,
        }
    }
}

/// By what the items of a list are known.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Keys {
    #[default]
    None,
    /// By all that they are.
    Whole,
    Fields(Vec<&'static str>),
}

#[derive(Debug, Default)]
pub struct FieldRules {
    pub steps: Vec<Step>,
    /// Of its type, or of its items' type.
    pub of_type: Vec<Step>,
    pub keys: Keys,
    /// What is within is not looked at.
    pub opaque: bool,
}

/// What is asked of several fields of a message together.
#[derive(Debug)]
pub enum Whole {
    /// Exactly one of these, or with `optional` at most one.
    Union { shadow: bool, optional: bool, members: Vec<Member> },
    /// A field is what the value of another asks for: the cases by value, what is not among them is forbidden.
    Mode { shadow: bool, field: &'static str, mode: &'static str, cases: Vec<(&'static str, What)> },
    /// Where the one is set the other must be, or with `forbidden` must not be.
    Dependent { shadow: bool, forbidden: bool, trigger: &'static str, other: &'static str },
}

#[derive(Debug)]
pub enum Member {
    Field(&'static str),
    /// An item of a list: the list, the item's key and its value.
    Item(&'static str, &'static str, &'static str),
}

#[derive(Debug, Default)]
pub struct Rules {
    pub whole: Vec<Whole>,
    pub fields: HashMap<&'static str, FieldRules>,
}

/// By the message's place in the model.
pub static TABLE: LazyLock<HashMap<u32, Rules>> = LazyLock::new(|| parse(include_str!("../declared.txt")));

fn parse(text: &'static str) -> HashMap<u32, Rules> {
    let mut table = HashMap::new();
    for part in text.split("\nM ").skip(1) {
        let (name, lines) = part.split_once('\n').unwrap_or((part, ""));
        if let Some(index) = api::tables::message_index(name) {
            let rules = message(lines);
            if !rules.whole.is_empty() || !rules.fields.is_empty() {
                table.insert(index, rules);
            }
        }
    }
    table
}

/// What a field is to be, by the value of a field that is not known yet.
struct Mode {
    field: &'static str,
    shadow: bool,
    cases: Vec<(&'static str, What)>,
}

fn message(lines: &'static str) -> Rules {
    let mut rules = Rules::default();
    let mut modes: Vec<Mode> = Vec::new();
    let (mut discriminator, mut own_unique) = ("", "-");
    let mut members: Vec<(&str, bool, bool, Member)> = Vec::new();
    let mut name = "";
    for line in lines.lines() {
        if let Some(next) = line.strip_prefix("F ") {
            name = next;
            continue;
        }
        let (of_type, line) = match (line.strip_prefix("type "), line.strip_prefix("each ")) {
            (Some(rest), _) => (Some(false), rest),
            (_, Some(rest)) => (Some(true), rest.trim_start_matches("each ").trim_start_matches("type ")),
            _ => (None, line),
        };
        let (shadow, tag) = match line.split_at_checked(1) {
            Some(("-", tag)) => (true, tag),
            Some(("+", tag)) => (false, tag),
            _ => (false, line),
        };
        let (head, value) = split(tag);
        let (head, argument) = head
            .split_once('(')
            .map_or((head, ""), |(head, rest)| (head, rest.trim_end_matches(')').trim_matches('"')));
        let inner = value.trim_start_matches("+k8s:");
        let field = rules.fields.entry(name).or_default();
        match head {
            "unionMember" => members.push(("", shadow, false, Member::Field(name))),
            "zeroOrOneOfMember" => members.push(("one", shadow, true, Member::Field(name))),
            "item" if inner == "zeroOrOneOfMember" => {
                let (key, text) = argument.split_once(": ").unwrap_or((argument, ""));
                let item = Member::Item(name, key, text.trim_matches('"'));
                members.push((name, shadow, true, item));
            }
            "modeDiscriminator" => discriminator = name,
            "ifMode" => {
                let Some(what) = what(inner) else { continue };
                match modes.iter_mut().find(|mode| mode.field == name) {
                    Some(mode) => mode.cases.push((argument, what)),
                    None => modes.push(Mode { field: name, shadow, cases: vec![(argument, what)] }),
                }
            }
            "dependentRequired" | "dependentForbidden" => rules.whole.push(Whole::Dependent {
                shadow,
                forbidden: head == "dependentForbidden",
                trigger: name,
                other: argument,
            }),
            "listMapKey" => match &mut field.keys {
                Keys::Fields(keys) => keys.push(value),
                keys => *keys = Keys::Fields(vec![value]),
            },
            "listType" | "unique" => {
                if value == "set" {
                    field.keys = Keys::Whole;
                }
                // a list known by all that its items are, or by keys, has each once
                if value != "atomic" && own_unique != name {
                    field.steps.push(Step { shadow, what: What::Unique });
                }
            }
            // by a rule of the kind's own, whichever tag comes first
            "customUnique" => {
                own_unique = name;
                field.steps.retain(|step| !matches!(step.what, What::Unique));
            }
            "opaqueType" => field.opaque = true,
            _ => {
                let Some(what) = what(tag) else { continue };
                match of_type {
                    None => field.steps.push(Step { shadow, what }),
                    Some(false) => field.of_type.push(Step { shadow, what }),
                    Some(true) => {
                        field.of_type.push(Step { shadow, what: What::EachValue(Box::new(what)) });
                    }
                }
            }
        }
    }
    for list in [false, true] {
        let of = |optional: bool| optional == list;
        let group: Vec<_> = members.extract_if(.., |(_, _, optional, _)| of(*optional)).collect();
        if let Some((_, shadow, optional, _)) = group.first() {
            let (shadow, optional) = (*shadow, *optional);
            let members = group.into_iter().map(|(.., member)| member).collect();
            rules.whole.push(Whole::Union { shadow, optional, members });
        }
    }
    modes.sort_by_key(|mode| mode.field);
    for Mode { field, shadow, cases } in modes {
        rules.whole.push(Whole::Mode { shadow, field, mode: discriminator, cases });
    }
    rules.fields.retain(|_, field| {
        field.opaque || !field.steps.is_empty() || !field.of_type.is_empty() || field.keys != Keys::None
    });
    rules
}

/// What stands before the first `=` outside of brackets, and what stands behind it.
fn split(tag: &'static str) -> (&'static str, &'static str) {
    let from = tag.find('(').and_then(|open| tag[open..].find(')').map(|close| open + close)).unwrap_or(0);
    match tag[from..].find('=') {
        Some(at) => (&tag[..from + at], &tag[from + at + 1..]),
        None => (tag, ""),
    }
}

fn what(tag: &'static str) -> Option<What> {
    let (head, value) = split(tag);
    let (head, argument) = head
        .split_once('(')
        .map_or((head, ""), |(head, rest)| (head, rest.trim_end_matches(')').trim_matches('"')));
    let count = || value.parse().ok();
    let inner = || what(value.trim_start_matches("+k8s:")).map(Box::new);
    Some(match head {
        "required" => What::Required,
        "optional" => What::Optional,
        "forbidden" => What::Forbidden,
        "immutable" => What::Immutable,
        "monotonic" => What::Monotonic,
        "maxItems" => What::MaxItems(count()?),
        "maxLength" => What::MaxLength(count()?),
        "maxBytes" => What::MaxBytes(count()?),
        "minimum" => What::Minimum(value.parse().ok()?),
        "maximum" => What::Maximum(value.parse().ok()?),
        "enum" => What::OneOf(value.split('|').collect()),
        "format" => What::Format(formats::of(value.trim_matches('"'))?),
        "update" => What::Update(match value {
            "NoSet" => Change::Set,
            "NoUnset" => Change::Unset,
            "NoModify" => Change::Modify,
            "NoAddItem" => Change::AddItem,
            "NoRemoveItem" => Change::RemoveItem,
            _ => return None,
        }),
        "eachVal" => What::EachValue(inner()?),
        "eachKey" => What::EachKey(inner()?),
        "subfield" => What::Subfield(argument, inner()?),
        "ifEnabled" => What::If(argument, true, inner()?),
        "ifDisabled" => What::If(argument, false, inner()?),
        _ => return None,
    })
}
