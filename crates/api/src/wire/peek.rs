//! Reads a few facts out of an object's bytes without decoding the rest: what the watch cache keys, selects
//! and filters by.

use super::Error;
use super::envelope::utf8;
use super::reader::{Raw, Reader};
use crate::model::{MessageRef, Shape, Type};
use crate::tables;

/// What the API server keeps of `ObjectMeta` beside the bytes. Texts borrow from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata<'a> {
    pub name: &'a str,
    pub generate_name: &'a str,
    pub namespace: &'a str,
    pub uid: &'a str,
    pub resource_version: &'a str,
    pub generation: i64,
    /// Unix seconds.
    pub creation: Option<i64>,
    pub deletion: Option<i64>,
    pub labels: Vec<(&'a str, &'a str)>,
    pub annotations: Vec<(&'a str, &'a str)>,
    pub finalizers: Vec<&'a str>,
    pub owners: Vec<Owner<'a>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

/// The metadata of an object's bytes (no envelope).
pub fn metadata(raw: &[u8]) -> Result<Metadata<'_>, Error> {
    let mut metadata = Metadata::default();
    let mut reader = Reader::new(raw);
    while let Some((number, value)) = reader.next()? {
        if number == 1 {
            object_meta(value.bytes()?, &mut metadata)?;
            break;
        }
    }
    Ok(metadata)
}

fn object_meta<'a>(data: &'a [u8], metadata: &mut Metadata<'a>) -> Result<(), Error> {
    let mut reader = Reader::new(data);
    while let Some((number, value)) = reader.next()? {
        match number {
            1 => metadata.name = utf8(value.bytes()?)?,
            2 => metadata.generate_name = utf8(value.bytes()?)?,
            3 => metadata.namespace = utf8(value.bytes()?)?,
            5 => metadata.uid = utf8(value.bytes()?)?,
            6 => metadata.resource_version = utf8(value.bytes()?)?,
            7 => metadata.generation = value.varint()? as i64,
            8 => metadata.creation = time(value.bytes()?)?,
            9 => metadata.deletion = time(value.bytes()?)?,
            11 => metadata.labels.push(pair(value.bytes()?)?),
            12 => metadata.annotations.push(pair(value.bytes()?)?),
            13 => metadata.owners.push(owner(value.bytes()?)?),
            14 => metadata.finalizers.push(utf8(value.bytes()?)?),
            _ => {}
        }
    }
    Ok(())
}

fn time(data: &[u8]) -> Result<Option<i64>, Error> {
    let mut reader = Reader::new(data);
    while let Some((number, value)) = reader.next()? {
        if number == 1 {
            return Ok(Some(value.varint()? as i64));
        }
    }
    Ok(None)
}

fn pair(data: &[u8]) -> Result<(&str, &str), Error> {
    let mut pair = ("", "");
    let mut reader = Reader::new(data);
    while let Some((number, value)) = reader.next()? {
        match number {
            1 => pair.0 = utf8(value.bytes()?)?,
            2 => pair.1 = utf8(value.bytes()?)?,
            _ => {}
        }
    }
    Ok(pair)
}

fn owner(data: &[u8]) -> Result<Owner<'_>, Error> {
    let mut owner = Owner::default();
    let mut reader = Reader::new(data);
    while let Some((number, value)) = reader.next()? {
        match number {
            1 => owner.kind = utf8(value.bytes()?)?,
            3 => owner.name = utf8(value.bytes()?)?,
            4 => owner.uid = utf8(value.bytes()?)?,
            5 => owner.api_version = utf8(value.bytes()?)?,
            6 => owner.controller = value.varint()? != 0,
            7 => owner.block_owner_deletion = value.varint()? != 0,
            _ => {}
        }
    }
    Ok(owner)
}

/// The way to one scalar field, `spec.nodeName`, ready to be read many times.
#[derive(Clone, Debug)]
pub struct FieldPath {
    tags: Vec<u32>,
    ty: Type,
}

impl FieldPath {
    /// `None` when the message has no such scalar field, or a list or map is on the way.
    pub fn compile(message: MessageRef<'_>, path: &str) -> Option<Self> {
        let mut tags = Vec::new();
        let mut message = message;
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let ty = find(message, name, &mut tags)?;
            match ty {
                Type::Message(index) if names.peek().is_some() => message = tables::message_at(*index),
                Type::Message(_) | Type::Bytes | Type::Double => return None,
                _ if names.peek().is_some() => return None,
                scalar => return Some(Self { tags, ty: scalar.clone() }),
            }
        }
        None
    }

    /// The field's value as a field selector spells it: text, decimal digits, `true` or `false`; `""` when it is not set.
    pub fn read(&self, raw: &[u8]) -> Result<String, Error> {
        let mut data = raw;
        let Some((last, way)) = self.tags.split_last() else { return Ok(String::new()) };
        for tag in way {
            data = find_last(data, *tag)?.map_or(Ok(&[][..]), Raw::bytes)?;
        }
        let value = find_last(data, *last)?;
        Ok(match self.ty {
            Type::String => value.map_or(Ok(""), |value| utf8(value.bytes()?))?.to_owned(),
            Type::Bool => (value.map_or(Ok(0), Raw::varint)? != 0).to_string(),
            Type::Int32 => (value.map_or(Ok(0), Raw::varint)? as i32).to_string(),
            _ => (value.map_or(Ok(0), Raw::varint)? as i64).to_string(),
        })
    }
}

/// Appends the tags that lead to a field, through inlined messages.
fn find<'a>(message: MessageRef<'a>, name: &str, tags: &mut Vec<u32>) -> Option<&'a Type> {
    for field in message.fields().iter() {
        if field.is_inline() {
            if let Type::Message(index) = field.ty
                && field.tag != 0
            {
                tags.push(field.tag);
                if let Some(found) = find(tables::message_at(index), name, tags) {
                    return Some(found);
                }
                tags.pop();
            }
        } else if field.json == name {
            if field.tag == 0 || field.shape != Shape::One {
                return None;
            }
            tags.push(field.tag);
            return Some(&field.ty);
        }
    }
    None
}

fn find_last(data: &[u8], tag: u32) -> Result<Option<Raw<'_>>, Error> {
    let mut reader = Reader::new(data);
    let mut found = None;
    while let Some((number, value)) = reader.next()? {
        if number == tag {
            found = Some(value);
        }
    }
    Ok(found)
}
