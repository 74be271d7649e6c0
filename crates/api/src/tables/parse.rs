//! Reads the generated text. A line is a fact; its words stand apart by one space, `-` means nothing, and
//! trailing nothings of a field are left out.
//!
//! | first word | rest |
//! |---|---|
//! | `G` group | name, versions |
//! | `R` resource | group, version, plural, singular, kind, scope, enabled, verbs, short names, categories, storage group, storage version, prefix, stored as, hash, message |
//! | `S` subresource of the resource above | name, group, version, kind, verbs |
//! | `K` kind | group, version, kind, message |
//! | `M` message | name, OpenAPI name, leaf, `a` for an atomic map |
//! | `F` field of the message above | JSON name, tag, type, shape, flags, list type, patch strategy, merge key, Go type, default |
//!
//! Types are a message's index or a letter; flags are `e` omit empty, `p` pointer, `r` required, `a` atomic map, `g` granular map, `k` elements with their kind, `l` list said to be atomic.

use std::borrow::Cow;

use crate::model::{
    Field, Group, GroupVersionKind, Leaf, ListType, Message, PatchStrategy, Resource, Scope, Shape,
    Subresource, Text, Type,
};

#[derive(Default)]
pub(super) struct Rows {
    pub groups: Vec<Group>,
    pub resources: Vec<Resource>,
    pub kinds: Vec<Kind>,
    pub messages: Vec<Message>,
}

pub(super) struct Kind {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub message: u32,
}

pub(super) fn parse(text: &'static str) -> Rows {
    let mut rows = Rows::default();
    let mut messages_of_resources = Vec::new();
    let mut fields = Vec::new();
    let mut subresources = Vec::new();
    for line in text.lines() {
        let mut words = Words(line);
        match words.next() {
            "G" => rows.groups.push(Group { name: words.text(), versions: words.list() }),
            "R" => {
                close_resource(&mut rows, &mut subresources);
                let (resource, message) = resource(&mut words);
                rows.resources.push(resource);
                messages_of_resources.push(message);
            }
            "S" => subresources.push(Subresource {
                name: words.text(),
                gvk: GroupVersionKind { group: words.text(), version: words.text(), kind: words.text() },
                verbs: words.list(),
            }),
            "K" => rows.kinds.push(Kind {
                group: words.next(),
                version: words.next(),
                kind: words.next(),
                message: words.number(),
            }),
            "M" => {
                close_message(&mut rows, &mut fields);
                rows.messages.push(Message {
                    name: words.text(),
                    openapi: words.text(),
                    leaf: leaf(words.next()),
                    atomic: words.next() == "a",
                    ..Message::default()
                });
            }
            "F" => fields.push(field(&mut words)),
            _ => {}
        }
    }
    close_resource(&mut rows, &mut subresources);
    close_message(&mut rows, &mut fields);
    for (resource, message) in rows.resources.iter_mut().zip(messages_of_resources) {
        resource.message = rows.messages[message as usize].name.clone();
    }
    rows
}

fn close_resource(rows: &mut Rows, subresources: &mut Vec<Subresource>) {
    if let Some(resource) = rows.resources.last_mut()
        && !subresources.is_empty()
    {
        resource.subresources = Cow::Owned(std::mem::take(subresources));
    }
}

fn close_message(rows: &mut Rows, fields: &mut Vec<Field>) {
    if let Some(message) = rows.messages.last_mut() {
        let fields = std::mem::take(fields);
        if !fields.is_sorted_by_key(|field| field.tag) {
            let mut order: Vec<u16> = (0..fields.len() as u16).collect();
            order.sort_by_key(|index| fields[usize::from(*index)].tag);
            message.wire_order = Cow::Owned(order);
        }
        message.fields = Cow::Owned(fields);
    }
}

fn resource(words: &mut Words) -> (Resource, u32) {
    let resource = Resource {
        group: words.text(),
        version: words.text(),
        plural: words.text(),
        singular: words.text(),
        kind: words.text(),
        scope: if words.next() == "N" { Scope::Namespaced } else { Scope::Cluster },
        enabled: words.next() == "+",
        verbs: words.list(),
        short_names: words.list(),
        categories: words.list(),
        storage_group: words.text(),
        storage_version: words.text(),
        storage_prefix: words.text(),
        storage_json: words.next() == "J",
        storage_hash: words.text(),
        ..Resource::default()
    };
    (resource, words.number())
}

fn field(words: &mut Words) -> Field {
    let json = words.text();
    let tag = words.number();
    let ty = match words.next() {
        "b" => Type::Bool,
        "i" => Type::Int32,
        "l" => Type::Int64,
        "u" => Type::Uint32,
        "U" => Type::Uint64,
        "d" => Type::Double,
        "s" => Type::String,
        "y" => Type::Bytes,
        index => Type::Message(index.parse().unwrap_or(0)),
    };
    let shape = match words.next() {
        "L" => Shape::List,
        "M" => Shape::Map,
        _ => Shape::One,
    };
    let flags = words.next();
    let list_type = words.next();
    let (list, list_keys) = match list_type.split_once(':') {
        Some((_, keys)) => (ListType::Map, list(keys)),
        None if list_type == "s" => (ListType::Set, list("")),
        None => (ListType::Atomic, list("")),
    };
    let patch = match words.next() {
        "m" => PatchStrategy::Merge,
        "r" => PatchStrategy::RetainKeys,
        "b" => PatchStrategy::MergeRetainKeys,
        _ => PatchStrategy::Replace,
    };
    Field {
        json,
        tag,
        ty,
        shape,
        omit_empty: flags.contains('e'),
        optional: flags.contains('p'),
        required: flags.contains('r'),
        atomic: flags.contains('a'),
        granular: flags.contains('g'),
        shows_kind: flags.contains('k'),
        list_said: flags.contains('l') || !list_type.is_empty(),
        list,
        list_keys,
        patch,
        merge_key: words.text(),
        go_type: words.text(),
        default: Cow::Borrowed(words.0),
        nullable: false,
    }
}

fn leaf(name: &str) -> Option<Leaf> {
    Some(match name {
        "Time" => Leaf::Time,
        "MicroTime" => Leaf::MicroTime,
        "Duration" => Leaf::Duration,
        "Quantity" => Leaf::Quantity,
        "IntOrString" => Leaf::IntOrString,
        "RawExtension" => Leaf::RawExtension,
        "FieldsV1" => Leaf::FieldsV1,
        "Json" => Leaf::Json,
        "PropsOrArray" => Leaf::PropsOrArray,
        "PropsOrBool" => Leaf::PropsOrBool,
        "PropsOrStringArray" => Leaf::PropsOrStringArray,
        "Items" => Leaf::Items,
        _ => return None,
    })
}

fn list(words: &'static str) -> Cow<'static, [Text]> {
    if words.is_empty() {
        return Cow::Borrowed(&[]);
    }
    Cow::Owned(words.split(',').map(Cow::Borrowed).collect())
}

/// The rest of a line.
struct Words(&'static str);

impl Words {
    fn next(&mut self) -> &'static str {
        let (word, rest) = self.0.split_once(' ').unwrap_or((self.0, ""));
        self.0 = rest;
        if word == "-" { "" } else { word }
    }

    fn text(&mut self) -> Text {
        Cow::Borrowed(self.next())
    }

    fn list(&mut self) -> Cow<'static, [Text]> {
        list(self.next())
    }

    fn number(&mut self) -> u32 {
        self.next().parse().unwrap_or(0)
    }
}
