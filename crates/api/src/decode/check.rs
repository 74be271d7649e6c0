//! A document against a message: the tree that comes out, and everything that is wrong with it.

use crate::tree::{Number, Object, Tree};

use super::node::Node;
use super::{Decoded, Error, Strictness, custom, repeated, times};
use crate::bounds::Room;
use crate::model::{Field, Leaf, MessageRef, Model, Shape, Type};
use crate::{quantity, raw, text};

/// Unknown and duplicate fields that are named; of more nothing is said.
pub(super) const MAX_PROBLEMS: usize = 100;

/// What a document was read from.
#[derive(Clone, Copy)]
pub(super) enum Source<'x> {
    Json(&'x [u8]),
    Yaml,
    Tree,
}

pub(super) fn check(
    node: &Node<'_>,
    source: Source<'_>,
    message: MessageRef<'_>,
    strictness: Strictness,
) -> Result<Decoded, Error> {
    if message.custom {
        return custom::check(node, source, message, strictness);
    }
    let mut checker = Checker::new(source, message);
    let mut tree = checker.document(node, message);
    if let Some(error) = checker.fatal.or(checker.first) {
        return Err(Error::Type(error));
    }
    if checker.too_large {
        return Err(Error::TooLarge);
    }
    if checker.repeated && matches!(source, Source::Json(_)) {
        tree = Checker::new(source, message).document(&repeated::joined(node, message), message);
    }
    strictness.judge(tree, checker.problems)
}

impl Strictness {
    pub(super) fn judge(self, tree: Tree, problems: Vec<String>) -> Result<Decoded, Error> {
        match self {
            Strictness::Ignore => Ok(Decoded { tree, warnings: Vec::new() }),
            Strictness::Strict if !problems.is_empty() => Err(Error::Strict(problems)),
            _ => Ok(Decoded { tree, warnings: problems }),
        }
    }
}

/// An object of a message, the complaints about it, and what is wrong with it.
pub(super) struct Part {
    pub tree: Tree,
    pub problems: Vec<String>,
    pub wrong: Option<String>,
}

/// Decodes a part of a document.
pub(super) fn part(node: &Node<'_>, source: Source<'_>, message: MessageRef<'_>) -> Part {
    let mut checker = Checker::new(source, message);
    let tree = checker.document(node, message);
    Part { tree, problems: checker.problems, wrong: checker.fatal.or(checker.first) }
}

#[derive(Clone, Copy)]
enum Step<'x> {
    /// A structure inlined into the one before: only type errors name it.
    Inline(&'x str),
    Field(&'x str),
    Key(&'x str),
    Index(usize),
}

struct Checker<'x> {
    source: Source<'x>,
    model: &'x Model,
    path: Vec<Step<'x>>,
    /// Upstream's name of the structure whose field is being read.
    owner: &'x str,
    problems: Vec<String>,
    /// The first wrong type; reading goes on.
    first: Option<String>,
    /// The first wrong value of a type that reads itself (times, quantities, …). Upstream stops there, and it
    /// goes before wrong types that were met earlier.
    fatal: Option<String>,
    /// A structure has a field more than once.
    repeated: bool,
    room: Room,
    /// There was no room for all; what came later was not looked at.
    too_large: bool,
}

impl<'x> Checker<'x> {
    fn new(source: Source<'x>, message: MessageRef<'x>) -> Checker<'x> {
        Checker {
            source,
            path: Vec::new(),
            model: message.model(),
            owner: message.short_name(),
            problems: Vec::new(),
            first: None,
            fatal: None,
            repeated: false,
            room: Room::of_request(),
            too_large: false,
        }
    }

    fn document(&mut self, node: &'x Node<'x>, message: MessageRef<'x>) -> Tree {
        match node {
            Node::Null => self.object(&[], message),
            _ => self.message(node, message, "").unwrap_or_default(),
        }
    }

    fn object(
        &mut self,
        entries: &'x [(std::borrow::Cow<'x, str>, Node<'x>)],
        message: MessageRef<'x>,
    ) -> Tree {
        let mut fields: Vec<&'x Field> = Vec::with_capacity(message.fields().len());
        flatten(message, &mut fields);
        // values by the index of their field, as they come
        let mut values: Vec<(usize, Option<Tree>)> = Vec::with_capacity(entries.len().min(fields.len()));
        let outer = std::mem::replace(&mut self.owner, message.short_name());
        let mut cursor = 0;
        self.too_large |= !self.room.take();
        for (key, node) in entries {
            if self.too_large {
                break;
            }
            let found = (cursor..fields.len()).chain(0..cursor).find(|index| fields[*index].json == *key);
            let Some(index) = found else {
                self.problem("unknown", Step::Field(key));
                continue;
            };
            cursor = index + 1;
            let before = values.iter().position(|(other, _)| *other == index);
            if before.is_some() {
                self.repeated = true;
                self.problem("duplicate", Step::Field(key));
            }
            let length = self.path.len();
            self.path_within(message, fields[index]);
            self.path.push(Step::Field(key));
            let value = self.field(node, fields[index]);
            match before {
                Some(before) => values[before].1 = value,
                None => values.push((index, value)),
            }
            self.path.truncate(length);
        }
        let mut map = Object::with_capacity(values.len() + 1);
        values.sort_by_key(|(index, _)| *index);
        let mut values = values.into_iter().peekable();
        for (index, field) in fields.into_iter().enumerate() {
            let value = values.next_if(|(of, _)| *of == index).and_then(|(_, value)| value);
            if let Some(value) = self.present(field, value) {
                map.insert(crate::tree::key(&field.json), value);
            }
        }
        self.owner = outer;
        Tree::Object(map)
    }

    /// Appends the names of the inlined structures that a field comes out of; false where it is not the message's.
    fn path_within(&mut self, message: MessageRef<'x>, field: &Field) -> bool {
        message.fields().iter().any(|own| match own.ty {
            Type::Message(index) if own.is_inline() => {
                let inlined = self.model.at(index);
                self.path.push(Step::Inline(inlined.short_name()));
                let found = self.path_within(inlined, field);
                if !found {
                    self.path.pop();
                }
                found
            }
            _ => std::ptr::eq(own, field),
        })
    }

    /// What upstream writes for a field, which may be nothing for a value and a zero for none.
    fn present(&mut self, field: &'x Field, value: Option<Tree>) -> Option<Tree> {
        match value {
            // An empty list of these asks to forget them, as one with an empty entry does. Nothing would be left of it.
            Some(Tree::Array(entries)) if entries.is_empty() && field.json == "managedFields" => {
                Some(Tree::Array(vec![Tree::Object(Object::new())]))
            }
            Some(value) if field.omit_empty && !field.optional && is_empty(&value) => None,
            Some(value) => Some(value),
            None if field.omit_empty => None,
            None if field.optional || field.shape != Shape::One => Some(Tree::Null),
            None => Some(self.zero(&field.ty)),
        }
    }

    fn zero(&mut self, ty: &Type) -> Tree {
        match ty {
            Type::Bool => Tree::Bool(false),
            Type::String => Tree::from(""),
            Type::Bytes => Tree::Null,
            Type::Message(index) => {
                let message = self.model.at(*index);
                match message.leaf {
                    None => self.object(&[], message),
                    Some(Leaf::Quantity) => Tree::from("0"),
                    Some(Leaf::Duration) => Tree::from("0s"),
                    Some(Leaf::IntOrString) => Tree::from(0),
                    Some(Leaf::PropsOrBool) => Tree::Bool(false),
                    Some(_) => Tree::Null,
                }
            }
            _ => Tree::from(0),
        }
    }

    fn field(&mut self, node: &'x Node<'x>, field: &'x Field) -> Option<Tree> {
        match (field.shape, node) {
            (_, Node::Null) => None,
            (Shape::One, node) => self.value(node, &field.ty, &field.go_type),
            (Shape::List, Node::Array(items)) => {
                let mut list = self.list(items, &field.ty, &field.go_type);
                if let (true, Type::Message(index), Tree::Array(items)) =
                    (field.shows_kind, &field.ty, &mut list)
                {
                    for item in items.iter_mut().filter_map(Tree::as_object_mut) {
                        show_kind(item, self.model.at(*index).short_name());
                    }
                }
                Some(list)
            }
            (Shape::Map, Node::Object(entries, _)) => {
                let mut map = Object::with_capacity(entries.len());
                for (key, node) in entries {
                    if self.too_large {
                        break;
                    }
                    if map.contains_key(key) {
                        self.problem("duplicate", Step::Key(key));
                    }
                    self.path.push(Step::Key(key));
                    let value = match node {
                        Node::Null => Some(self.zero(&field.ty)),
                        node => self.value(node, &field.ty, &field.go_type),
                    };
                    self.path.pop();
                    map.insert(&**key, value.unwrap_or_default());
                }
                if !map.keys().is_sorted() {
                    map.sort_keys();
                }
                Some(Tree::Object(map))
            }
            (shape, node) => {
                let element = type_name(self.model, &field.ty, &field.go_type);
                let container = field.go_type.split_once('|').map_or("", |(_, container)| container);
                let expected = match (container, shape) {
                    ("", Shape::List) => format!("[]{element}"),
                    ("", _) => format!("map[string]{element}"),
                    (container, _) => container.to_owned(),
                };
                self.mismatch(node, &expected);
                None
            }
        }
    }

    fn list(&mut self, items: &'x [Node<'x>], ty: &'x Type, go_type: &str) -> Tree {
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            if self.too_large {
                break;
            }
            self.path.push(Step::Index(index));
            let value = match item {
                Node::Null => Some(self.zero(ty)),
                item => self.value(item, ty, go_type),
            };
            self.path.pop();
            values.push(value.unwrap_or_default());
        }
        Tree::Array(values)
    }

    fn value(&mut self, node: &'x Node<'x>, ty: &'x Type, go_type: &str) -> Option<Tree> {
        let value = match (ty, node) {
            (Type::Message(index), node) => return self.message(node, self.model.at(*index), go_type),
            (Type::Bool, Node::Bool(value)) => Some(Tree::Bool(*value)),
            (Type::String, Node::String(text)) => Some(Tree::from(&**text)),
            (Type::Int32, Node::Number(text)) => text.parse::<i32>().ok().map(Tree::from),
            (Type::Int64, Node::Number(text)) => text.parse::<i64>().ok().map(Tree::from),
            (Type::Uint32, Node::Number(text)) => text.parse::<u32>().ok().map(Tree::from),
            (Type::Uint64, Node::Number(text)) => text.parse::<u64>().ok().map(Tree::from),
            (Type::Double, Node::Number(text)) => double(text),
            (Type::Bytes, Node::String(text)) => {
                let Some(at) = text::base64_error(text) else {
                    return Some(Tree::from(&**text));
                };
                if self.first.is_none() {
                    self.first = Some(format!("illegal base64 data at input byte {at}"));
                }
                return None;
            }
            (Type::Bytes, Node::Array(items)) => return self.byte_list(items),
            _ => None,
        };
        if value.is_none() {
            let expected = if *ty == Type::Bytes && named(go_type).is_empty() {
                "[]uint8".to_owned()
            } else {
                type_name(self.model, ty, go_type)
            };
            self.mismatch(node, &expected);
        }
        value
    }

    /// Bytes may be a list of numbers too.
    fn byte_list(&mut self, items: &'x [Node<'x>]) -> Option<Tree> {
        let mut bytes = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Node::Null => bytes.push(0),
                Node::Number(text) if text.parse::<u8>().is_ok() => bytes.extend(text.parse::<u8>().ok()),
                item => self.mismatch(item, "uint8"),
            }
        }
        Some(Tree::from(text::to_base64(&bytes)))
    }

    fn message(&mut self, node: &'x Node<'x>, message: MessageRef<'x>, go_type: &str) -> Option<Tree> {
        match (message.leaf, node) {
            (None, Node::Object(entries, _)) => Some(self.object(entries, message)),
            (Some(leaf), node) => self.leaf(node, message, leaf),
            (None, node) => {
                let expected = match named(go_type) {
                    "" => message_type(message),
                    name => name.to_owned(),
                };
                self.mismatch(node, &expected);
                None
            }
        }
    }

    fn leaf(&mut self, node: &'x Node<'x>, message: MessageRef<'x>, leaf: Leaf) -> Option<Tree> {
        match (leaf, node) {
            (_, Node::Null) => Some(Tree::Null),
            (Leaf::Time | Leaf::MicroTime, Node::String(text)) => {
                match times::canonical(text, leaf == Leaf::MicroTime) {
                    Ok(canonical) => canonical,
                    Err(error) => {
                        self.fail(error);
                        None
                    }
                }
            }
            (Leaf::Duration, Node::String(text)) => match text::parse_duration(text) {
                Some(duration) => Some(Tree::from(text::format_duration(duration))),
                None => {
                    self.fail(format!("time: invalid duration {text:?}"));
                    None
                }
            },
            (Leaf::Time | Leaf::MicroTime | Leaf::Duration, node) => {
                self.fail_mismatch(node, "string");
                None
            }
            (Leaf::Quantity, node) => {
                let canonical = match node {
                    Node::String(text) | Node::Number(text) => quantity::canonical(quantity::trimmed(text)),
                    _ => Err(quantity::FORMAT_WRONG),
                };
                match canonical {
                    Ok(canonical) => Some(Tree::from(canonical)),
                    Err(error) => {
                        self.fail(error.to_owned());
                        None
                    }
                }
            }
            (Leaf::IntOrString, Node::String(text)) => Some(Tree::from(&**text)),
            (Leaf::IntOrString, Node::Number(text)) if text.parse::<i32>().is_ok() => {
                text.parse::<i32>().ok().map(Tree::from)
            }
            (Leaf::IntOrString, node) => {
                self.fail_mismatch(node, "int32");
                None
            }
            (Leaf::RawExtension, node) => Some(self.raw(node)),
            (Leaf::Json, node) => {
                let mut tree = node.to_tree();
                tree.sort_all_objects();
                Some(tree)
            }
            (Leaf::FieldsV1, node) => Some(self.fields(node)),
            (Leaf::PropsOrBool, Node::Bool(value)) => Some(Tree::Bool(*value)),
            (Leaf::Items | Leaf::PropsOrArray | Leaf::PropsOrStringArray, Node::Array(items)) => {
                let list = message.fields().iter().find(|field| field.shape == Shape::List)?;
                Some(self.list(items, &list.ty, ""))
            }
            (Leaf::PropsOrArray | Leaf::PropsOrBool | Leaf::PropsOrStringArray, node @ Node::Object(..)) => {
                let schema = message
                    .fields()
                    .iter()
                    .find(|field| field.shape == Shape::One && matches!(field.ty, Type::Message(_)))?;
                self.value(node, &schema.ty, "")
            }
            (Leaf::PropsOrBool, _) => {
                self.fail("boolean or JSON schema expected".to_owned());
                None
            }
            (_, node) => {
                self.mismatch(node, &message_type(message));
                None
            }
        }
    }

    /// What no model describes is kept as it was written.
    fn raw(&self, node: &Node<'_>) -> Tree {
        let mut tree = match (self.source, node) {
            (Source::Json(document), Node::Object(_, span)) => {
                return span.of(document).and_then(raw::value).unwrap_or_else(|| node.to_tree());
            }
            _ => node.to_tree(),
        };
        if let Source::Yaml = self.source {
            tree.sort_all_objects();
        }
        tree
    }

    /// A set of fields is kept as text. What is no object cannot be one.
    fn fields(&self, node: &Node<'_>) -> Tree {
        let Node::Object(_, span) = node else { return node.to_tree() };
        if let Source::Json(document) = self.source
            && let Some(text) = span.of(document)
        {
            return raw::fields(text);
        }
        let tree = node.to_tree();
        if raw::kept(&tree).is_some() {
            return tree;
        }
        raw::fields(String::from_utf8_lossy(&crate::json::to_vec(&tree)))
    }

    fn mismatch(&mut self, node: &Node<'_>, expected: &str) {
        if self.first.is_none() {
            self.first = Some(self.mismatch_text(node, expected));
        }
    }

    fn mismatch_text(&self, node: &Node<'_>, expected: &str) -> String {
        let integer = matches!(expected, "int32" | "int64" | "uint32" | "uint64" | "uint8");
        let found = match node {
            Node::Null => "null".to_owned(),
            Node::Bool(_) => "bool".to_owned(),
            Node::Number(text) if integer => format!("number {text}"),
            Node::Number(_) => "number".to_owned(),
            Node::String(_) => "string".to_owned(),
            Node::Array(_) => "array".to_owned(),
            Node::Object(..) => "object".to_owned(),
        };
        let names: Vec<&str> = self
            .path
            .iter()
            .filter_map(|step| match step {
                Step::Field(name) | Step::Inline(name) => Some(*name),
                _ => None,
            })
            .collect();
        if names.is_empty() {
            format!("json: cannot unmarshal {found} into Go value of type {expected}")
        } else {
            format!(
                "json: cannot unmarshal {found} into Go struct field {}.{} of type {expected}",
                self.owner,
                names.join(".")
            )
        }
    }

    fn fail(&mut self, error: String) {
        self.fatal.get_or_insert(error);
    }

    /// A wrong type where upstream's type reads itself.
    fn fail_mismatch(&mut self, node: &Node<'_>, expected: &str) {
        if self.fatal.is_none() {
            self.fatal = Some(self.mismatch_text(node, expected));
        }
    }

    fn problem(&mut self, what: &str, last: Step<'x>) {
        if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let mut path = String::new();
        for step in self.path.iter().chain([&last]) {
            match step {
                Step::Inline(_) => {}
                Step::Index(index) => path.push_str(&format!("[{index}]")),
                Step::Field(name) | Step::Key(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name);
                }
            }
        }
        let problem = format!("{what} field \"{path}\"");
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

/// Puts `kind` and `apiVersion` first, in place of what was said.
fn show_kind(object: &mut Object, kind: &str) {
    let mut ordered = Object::with_capacity(object.len() + 2);
    ordered.insert("kind", Tree::from(kind));
    ordered.insert("apiVersion", Tree::from("v1"));
    for (key, value) in std::mem::take(object) {
        ordered.entry(key).or_insert(value);
    }
    *object = ordered;
}

/// The fields of a message, those of inlined ones in their parent's place.
pub(super) fn flatten<'x>(message: MessageRef<'x>, fields: &mut Vec<&'x Field>) {
    for field in message.fields().iter() {
        match field.ty {
            Type::Message(index) if field.is_inline() => flatten(message.at(index), fields),
            _ => fields.push(field),
        }
    }
}

fn is_empty(value: &Tree) -> bool {
    match value {
        Tree::Null => true,
        Tree::Bool(value) => !value,
        Tree::Number(number) => number.as_f64() == Some(0.0),
        Tree::String(text) => text.is_empty(),
        Tree::Array(items) => items.is_empty(),
        Tree::Object(map) => map.is_empty(),
    }
}

fn double(text: &str) -> Option<Tree> {
    if let Ok(value) = text.parse::<i64>() {
        return Some(Tree::from(value));
    }
    text.parse().ok().filter(|value: &f64| value.is_finite()).and_then(Number::from_f64).map(Tree::Number)
}

/// What [`Field::go_type`] says of a value, or of an element of a list or map.
fn named(go_type: &str) -> &str {
    go_type.split_once('|').map_or(go_type, |(element, _)| element)
}

fn type_name(model: &Model, ty: &Type, go_type: &str) -> String {
    if !named(go_type).is_empty() {
        return named(go_type).to_owned();
    }
    match ty {
        Type::Bool => "bool",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Uint32 => "uint32",
        Type::Uint64 => "uint64",
        Type::Double => "float64",
        Type::String => "string",
        Type::Bytes => "[]uint8",
        Type::Message(index) => return message_type(model.at(*index)),
    }
    .to_owned()
}

/// `v1.Pod`.
fn message_type(message: MessageRef<'_>) -> String {
    let mut parts = message.name.rsplit('.');
    let name = parts.next().unwrap_or_default();
    parts.next().map_or_else(|| name.to_owned(), |package| format!("{package}.{name}"))
}
