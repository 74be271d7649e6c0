//! Tree → wire bytes, as upstream's marshaller lays them out.
//!
//! Fields go in the order of their tags. A value that is not behind a pointer is written even when it is zero or the
//! tree lacks it; a pointer only when set. Bytes and list messages are nil when the tree lacks them, and then absent.

use crate::tree::Object;

use super::{Error, MAX_DEPTH};
use crate::model::{Field, Leaf, MessageRef, Shape, Type};
use crate::{Tree, json, raw, tables, text};

/// Appends an object's bytes, without an envelope. `kind` and `apiVersion` are not part of them.
pub fn tree_to_proto(tree: &Tree, message: MessageRef<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    let result = root(tree, message, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn root(tree: &Tree, message: MessageRef<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    match (message.leaf, tree) {
        (None, Tree::Object(map)) => fields(Some(map), message, out, 0),
        (None, _) => Err(mismatch(message, "the object")),
        (Some(leaf), tree) => leaf_value(Some(tree), message, leaf, out, 0),
    }
}

fn mismatch(message: MessageRef<'_>, field: &str) -> Error {
    Error::Mismatch { message: message.short_name().to_owned(), field: field.to_owned() }
}

fn fields(
    object: Option<&Object>,
    message: MessageRef<'_>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    let values = values(object, message);
    let mut each = |index: usize| match (message.fields().get(index), values.get(index)) {
        (Some(one), Some(value)) => field(object, one, *value, message, out, depth),
        _ => Ok(()),
    };
    if message.wire_order.is_empty() {
        (0..values.len()).try_for_each(each)
    } else {
        message.wire_order.iter().try_for_each(|index| each(usize::from(*index)))
    }
}

/// The members of an object by the index of their field; a null is none.
fn values<'v>(object: Option<&'v Object>, message: MessageRef<'_>) -> Vec<Option<&'v Tree>> {
    let count = message.fields().len();
    let mut values = vec![None; count];
    // members mostly stand in the order of the fields, so the search goes on where it stopped
    let mut cursor = 0;
    for (key, value) in object.into_iter().flatten() {
        let found = (cursor..count).chain(0..cursor).find(|index| message.fields()[*index].json == *key);
        if let Some(index) = found {
            values[index] = Some(value).filter(|value| !value.is_null());
            cursor = index + 1;
        }
    }
    values
}

fn field(
    object: Option<&Object>,
    field: &Field,
    value: Option<&Tree>,
    owner: MessageRef<'_>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Error> {
    if field.tag == 0 {
        return Ok(());
    }
    if field.is_inline() {
        let Type::Message(index) = field.ty else { return Ok(()) };
        put_tag(field.tag, 2, out);
        return put_nested(out, |out| fields(object, tables::message_at(index), out, depth + 1));
    }
    let result = match (field.shape, value) {
        (Shape::One, None) if field.optional => Ok(()),
        (Shape::One, value) => one(value, field, out, depth),
        (_, None) => Ok(()),
        (Shape::List, Some(Tree::Array(items))) => items.iter().try_for_each(|item| match item {
            Tree::Null => element(None, field.tag, &field.ty, out, depth),
            item => element(Some(item), field.tag, &field.ty, out, depth),
        }),
        (Shape::Map, Some(Tree::Object(map))) => map_entries(map, field, out, depth),
        _ => Err(Misfit::Here),
    };
    result.map_err(|misfit| match misfit {
        Misfit::Here => mismatch(owner, &field.json),
        Misfit::Inside(error) => error,
    })
}

/// A value that does not fit: this field's own, or one further in that already has its name.
enum Misfit {
    Here,
    Inside(Error),
}

impl From<Error> for Misfit {
    fn from(error: Error) -> Self {
        Misfit::Inside(error)
    }
}

fn one(value: Option<&Tree>, field: &Field, out: &mut Vec<u8>, depth: usize) -> Result<(), Misfit> {
    if value.is_none() {
        // nil slices are not written
        match field.ty {
            Type::Bytes => return Ok(()),
            Type::Message(index) if tables::message_at(index).leaf == Some(Leaf::Items) => return Ok(()),
            _ => {}
        }
    }
    element(value, field.tag, &field.ty, out, depth)
}

fn map_entries(map: &Object, field: &Field, out: &mut Vec<u8>, depth: usize) -> Result<(), Misfit> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    for (key, value) in entries {
        put_tag(field.tag, 2, out);
        put_nested(out, |out| {
            put_tag(1, 2, out);
            put_bytes(key.as_bytes(), out);
            match value {
                Tree::Null if field.ty == Type::Bytes => Ok(()),
                Tree::Null => element(None, 2, &field.ty, out, depth),
                value => element(Some(value), 2, &field.ty, out, depth),
            }
        })?;
    }
    Ok(())
}

/// One tag and its value; the zero value for `None`.
fn element(value: Option<&Tree>, tag: u32, ty: &Type, out: &mut Vec<u8>, depth: usize) -> Result<(), Misfit> {
    match ty {
        Type::Bool => {
            let value = value.map_or(Some(false), Tree::as_bool).ok_or(Misfit::Here)?;
            put_tag(tag, 0, out);
            out.push(u8::from(value));
        }
        Type::Int32 | Type::Int64 => {
            let value = value.map_or(Some(0), Tree::as_i64).ok_or(Misfit::Here)?;
            if *ty == Type::Int32 && i32::try_from(value).is_err() {
                return Err(Misfit::Here);
            }
            put_tag(tag, 0, out);
            put_varint(value as u64, out);
        }
        Type::Uint32 | Type::Uint64 => {
            let value = value.map_or(Some(0), Tree::as_u64).ok_or(Misfit::Here)?;
            if *ty == Type::Uint32 && u32::try_from(value).is_err() {
                return Err(Misfit::Here);
            }
            put_tag(tag, 0, out);
            put_varint(value, out);
        }
        Type::Double => {
            let value = value.map_or(Some(0.0), Tree::as_f64).ok_or(Misfit::Here)?;
            put_tag(tag, 1, out);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        Type::String => {
            let value = value.map_or(Some(""), Tree::as_str).ok_or(Misfit::Here)?;
            put_tag(tag, 2, out);
            put_bytes(value.as_bytes(), out);
        }
        Type::Bytes => {
            let value = value.map_or(Some(""), Tree::as_str).ok_or(Misfit::Here)?;
            let bytes = text::from_base64(value).ok_or(Misfit::Here)?;
            put_tag(tag, 2, out);
            put_bytes(&bytes, out);
        }
        Type::Message(index) => {
            let message = tables::message_at(*index);
            put_tag(tag, 2, out);
            put_nested(out, |out| nested(value, message, out, depth + 1))?;
        }
    }
    Ok(())
}

fn nested(
    value: Option<&Tree>,
    message: MessageRef<'_>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Error> {
    match (message.leaf, value) {
        (Some(leaf), value) => leaf_value(value, message, leaf, out, depth),
        (None, None) => fields(None, message, out, depth),
        (None, Some(Tree::Object(map))) => fields(Some(map), message, out, depth),
        (None, Some(_)) => Err(mismatch(message, "the object")),
    }
}

fn leaf_value(
    value: Option<&Tree>,
    message: MessageRef<'_>,
    leaf: Leaf,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    let value = value.filter(|value| !value.is_null());
    let misfit = || mismatch(message, "the value");
    match leaf {
        Leaf::Time | Leaf::MicroTime => {
            let Some(value) = value else { return Ok(()) };
            let (seconds, nanoseconds) = value.as_str().and_then(text::parse_time).ok_or_else(misfit)?;
            if seconds == text::ZERO_TIME && nanoseconds == 0 {
                return Ok(());
            }
            put_tag(1, 0, out);
            put_varint(seconds as u64, out);
            put_tag(2, 0, out);
            let micros = if leaf == Leaf::MicroTime { nanoseconds / 1000 * 1000 } else { 0 };
            put_varint(u64::from(micros), out);
        }
        Leaf::Duration => {
            let duration = match value {
                None => 0,
                Some(value) => value.as_str().and_then(text::parse_duration).ok_or_else(misfit)?,
            };
            put_tag(1, 0, out);
            put_varint(duration as u64, out);
        }
        Leaf::Quantity => {
            put_tag(1, 2, out);
            match value {
                None => put_bytes(b"0", out),
                Some(Tree::String(quantity)) => put_bytes(quantity.as_bytes(), out),
                Some(Tree::Number(number)) => put_bytes(number.to_string().as_bytes(), out),
                Some(_) => return Err(misfit()),
            }
        }
        Leaf::IntOrString => {
            let (kind, integer, string) = match value {
                None => (0, 0, ""),
                Some(Tree::String(string)) => (1, 0, string.as_str()),
                Some(value) => (0, value.as_i64().ok_or_else(misfit)?, ""),
            };
            put_tag(1, 0, out);
            put_varint(kind, out);
            put_tag(2, 0, out);
            put_varint(integer as u64, out);
            put_tag(3, 2, out);
            put_bytes(string.as_bytes(), out);
        }
        Leaf::RawExtension | Leaf::FieldsV1 | Leaf::Json => {
            if let Some(value) = value {
                put_tag(1, 2, out);
                if let Some(text) = value.as_object().and_then(raw::text) {
                    put_bytes(text.as_bytes(), out);
                    return Ok(());
                }
                put_nested(out, |out| {
                    json::write(value, out);
                    Ok::<(), Error>(())
                })?;
            }
        }
        Leaf::Items | Leaf::PropsOrArray | Leaf::PropsOrBool | Leaf::PropsOrStringArray => {
            choice(value, message, leaf, out, depth)?
        }
        // Of custom resources alone, which have no protobuf.
        Leaf::Entries => {}
    }
    Ok(())
}

/// Messages that show one of their two fields, and lists that are messages.
fn choice(
    value: Option<&Tree>,
    message: MessageRef<'_>,
    leaf: Leaf,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Error> {
    let misfit = |misfit: Misfit| match misfit {
        Misfit::Here => mismatch(message, "the value"),
        Misfit::Inside(error) => error,
    };
    let list = message.fields().iter().find(|field| field.shape == Shape::List);
    let schema = message
        .fields()
        .iter()
        .find(|field| matches!(field.ty, Type::Message(_)) && field.shape == Shape::One);
    if leaf == Leaf::PropsOrBool {
        put_tag(1, 0, out);
        out.push(u8::from(!matches!(value, None | Some(Tree::Bool(false)))));
    }
    match (value, list, schema) {
        (None | Some(Tree::Bool(_)), _, _) => Ok(()),
        (Some(Tree::Array(items)), Some(list), _) => {
            for item in items {
                element(Some(item).filter(|item| !item.is_null()), list.tag, &list.ty, out, depth)
                    .map_err(misfit)?;
            }
            Ok(())
        }
        (Some(value @ Tree::Object(_)), _, Some(schema)) => {
            element(Some(value), schema.tag, &schema.ty, out, depth).map_err(misfit)
        }
        _ => Err(misfit(Misfit::Here)),
    }
}

#[inline]
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
pub(crate) fn put_tag(tag: u32, wire_type: u32, out: &mut Vec<u8>) {
    put_varint(u64::from(tag << 3 | wire_type), out);
}

#[inline]
pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends what `write` appends, its length before it. Most lengths take one byte; a longer one moves the content.
pub(crate) fn put_nested<E>(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let at = out.len();
    out.push(0);
    write(out)?;
    let length = out.len() - at - 1;
    if length < 0x80 {
        out[at] = length as u8;
        return Ok(());
    }
    let mut buffer = [0u8; 10];
    let mut rest = length;
    let mut count = 0;
    while rest >= 0x80 {
        buffer[count] = rest as u8 | 0x80;
        rest >>= 7;
        count += 1;
    }
    buffer[count] = rest as u8;
    count += 1;
    out.resize(out.len() + count - 1, 0);
    out.copy_within(at + 1..at + 1 + length, at + count);
    out[at..at + count].copy_from_slice(&buffer[..count]);
    Ok(())
}
