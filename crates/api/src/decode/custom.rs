//! A document against the schema of a custom resource: members that the schema does not know are dropped and reported, metadata is
//! read as that of every object, and everything else stays as it was written, members in the order of their names. Whether
//! values are what the schema wants is for the rules to say.

use std::collections::HashSet;

use super::check::{self, MAX_PROBLEMS, Source};
use super::node::Node;
use super::{Decoded, Error, Strictness};
use crate::bounds::Room;
use crate::model::{Field, Leaf, MessageRef, Model, Shape, Type};
use crate::tables;
use crate::tree::{Number, Object, Tree};

const METADATA: &str = "k8s.io.apimachinery.pkg.apis.meta.v1.ObjectMeta";

pub(super) fn check(
    node: &Node<'_>,
    source: Source<'_>,
    message: MessageRef<'_>,
    strictness: Strictness,
) -> Result<Decoded, Error> {
    let mut reader = Reader {
        source,
        model: message.model(),
        path: String::new(),
        duplicates: Vec::new(),
        unknown: Vec::new(),
        metadata: Vec::new(),
        wrong: None,
        room: Room::of_request(),
        too_large: false,
    };
    let mut tree = reader.root(node, message);
    if let Some(wrong) = reader.wrong {
        return Err(Error::Type(wrong));
    }
    if reader.too_large {
        return Err(Error::TooLarge);
    }
    if let Tree::Object(object) = &mut tree {
        object.sort_keys();
    }
    let mut problems = reader.duplicates;
    reader.unknown.sort_unstable();
    let unknown = reader.metadata.into_iter().chain(reader.unknown);
    problems.extend(unknown.map(|field| format!("unknown field \"{field}\"")));
    problems.truncate(MAX_PROBLEMS);
    strictness.judge(tree, problems)
}

/// What the schema says of a value.
#[derive(Clone, Copy)]
enum Place<'m> {
    /// Nothing, and everything is kept.
    Any,
    /// That it is no object: members are dropped.
    Value,
    Message(MessageRef<'m>),
    /// The elements of lists are of this field.
    List(&'m Field),
    /// The values of maps are of this field.
    Map(&'m Field),
}

struct Reader<'x> {
    source: Source<'x>,
    model: &'x Model,
    path: String,
    duplicates: Vec<String>,
    unknown: Vec<String>,
    /// Unknown fields of metadata, which are reported first.
    metadata: Vec<String>,
    /// What is wrong with metadata.
    wrong: Option<String>,
    room: Room,
    too_large: bool,
}

impl<'x> Reader<'x> {
    fn root(&mut self, node: &'x Node<'x>, message: MessageRef<'x>) -> Tree {
        let Node::Object(entries, _) = node else { return self.value(node, Place::Any) };
        self.members(entries, Place::Message(message), true)
    }

    fn place(&self, field: &'x Field) -> Place<'x> {
        match field.shape {
            Shape::One => self.of_type(&field.ty),
            Shape::List => Place::List(field),
            Shape::Map => Place::Map(field),
        }
    }

    /// What lies in a list or map of the field, or what a single field is.
    fn of_type(&self, ty: &Type) -> Place<'x> {
        let Type::Message(index) = ty else { return Place::Value };
        let message = self.model.at(*index);
        match (message.leaf, message.fields().first()) {
            (None, _) => Place::Message(message),
            (Some(Leaf::Json), _) => Place::Any,
            (Some(Leaf::Items | Leaf::Entries), Some(field)) => self.place(field),
            _ => Place::Value,
        }
    }

    fn value(&mut self, node: &'x Node<'x>, place: Place<'x>) -> Tree {
        match node {
            Node::Null => Tree::Null,
            Node::Bool(value) => Tree::Bool(*value),
            Node::Number(text) => number(text),
            Node::String(text) => Tree::from(&**text),
            Node::Array(items) => {
                let element = match place {
                    Place::List(field) => self.of_type(&field.ty),
                    Place::Any => Place::Any,
                    Place::Message(message) if message.open => Place::Any,
                    _ => Place::Value,
                };
                let length = self.path.len();
                let mut values = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    if self.too_large {
                        break;
                    }
                    self.path.push_str(&format!("[{index}]"));
                    values.push(self.value(item, element));
                    self.path.truncate(length);
                }
                Tree::Array(values)
            }
            Node::Object(entries, _) => self.members(entries, place, false),
        }
    }

    fn members(
        &mut self,
        entries: &'x [(std::borrow::Cow<'x, str>, Node<'x>)],
        place: Place<'x>,
        root: bool,
    ) -> Tree {
        self.too_large |= !self.room.take();
        let mut object = Object::with_capacity(entries.len());
        let mut seen = HashSet::with_capacity(entries.len());
        let embedded = root || matches!(place, Place::Message(message) if message.embedded);
        for (key, node) in entries {
            if self.too_large {
                break;
            }
            let length = self.path.len();
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(key);
            if !seen.insert(key) && self.duplicates.len() < MAX_PROBLEMS {
                let problem = format!("duplicate field \"{}\"", self.path);
                if !self.duplicates.contains(&problem) {
                    self.duplicates.push(problem);
                }
            }
            let value = match (&**key, node) {
                ("metadata", node) if embedded => self.metadata(node, root),
                ("kind" | "apiVersion", node) if embedded => Some(self.type_meta(node)),
                (key, node) => self.below(key, node, place),
            };
            match value {
                Some(value) => _ = object.insert(&**key, value),
                None => _ = object.remove(key),
            }
            self.path.truncate(length);
        }
        if !object.keys().is_sorted() {
            object.sort_keys();
        }
        Tree::Object(object)
    }

    /// The member's value, where the schema has it.
    fn below(&mut self, key: &str, node: &'x Node<'x>, place: Place<'x>) -> Option<Tree> {
        let below = match place {
            Place::Any => Some(Place::Any),
            Place::Map(field) => Some(self.of_type(&field.ty)),
            Place::Message(message) => {
                let fields = message.fields();
                let known = fields.binary_search_by(|field| field.json.as_ref().cmp(key)).ok();
                match known.and_then(|place| fields.get(place)) {
                    Some(field) => Some(self.place(field)),
                    None => message.open.then_some(Place::Any),
                }
            }
            Place::Value | Place::List(_) => None,
        };
        if below.is_none() && self.unknown.len() < MAX_PROBLEMS {
            self.unknown.push(self.path.clone());
        }
        below.map(|place| self.value(node, place))
    }

    fn type_meta(&mut self, node: &'x Node<'x>) -> Tree {
        let value = self.value(node, Place::Any);
        if !value.is_string() && self.wrong.is_none() {
            let shown = String::from_utf8_lossy(&crate::json::to_vec(&value)).into_owned();
            self.wrong = Some(format!("{}: Invalid value: {shown}: must be a string", self.path));
        }
        value
    }

    fn metadata(&mut self, node: &'x Node<'x>, root: bool) -> Option<Tree> {
        let message = tables::message(METADATA)?;
        let part = check::part(node, self.source, message);
        if let (Some(wrong), None) = (part.wrong, &self.wrong) {
            self.wrong = Some(match root {
                true => wrong,
                false => {
                    let value = node.to_tree();
                    let shown = String::from_utf8_lossy(&crate::json::to_vec(&value)).into_owned();
                    format!("{}: Invalid value: {shown}: {wrong}", self.path)
                }
            });
        }
        for problem in part.problems {
            let Some((what, field)) = problem.split_once(" field \"") else { continue };
            let field = format!("{}.{}", self.path, field.trim_end_matches('"'));
            match what {
                "unknown" if root => self.metadata.push(field),
                "unknown" => self.unknown.push(field),
                _ => self.duplicates.push(format!("duplicate field \"{field}\"")),
            }
        }
        let mut tree = part.tree;
        tree.sort_all_objects();
        Some(tree)
    }
}

/// A whole number, or one with a fraction: there is nothing between.
fn number(text: &str) -> Tree {
    if let Ok(value) = text.parse::<i64>() {
        return Tree::from(value);
    }
    text.parse().ok().and_then(Number::from_f64).map_or(Tree::Null, Tree::Number)
}
