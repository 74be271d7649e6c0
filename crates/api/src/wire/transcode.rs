//! Wire bytes → JSON or tree, in upstream's JSON field order.
//!
//! A message is scanned once to note where each field's value lies, then its fields are written in the order of
//! JSON, which is not that of the tags. The notes of all open messages share one vector.

use super::envelope::{self, TypeMeta};
use super::reader::{Raw, Reader};
use super::sink::{JsonSink, Sink, TreeSink};
use super::{Error, MAX_DEPTH};
use crate::bounds::Room;
use crate::model::{Field, Leaf, MessageRef, Shape, Type};
use crate::{Tree, tables, text};

/// Appends the JSON of an object's bytes (no envelope). With `header`, `kind` and `apiVersion` come first.
pub fn proto_to_json(
    bytes: &[u8],
    message: MessageRef<'_>,
    header: Option<TypeMeta<'_>>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let start = out.len();
    let mut sink = JsonSink::new(out);
    let result = Transcoder::new(&mut sink).root(bytes, message, header);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// [`proto_to_json`] into a tree.
pub fn proto_to_tree(
    bytes: &[u8],
    message: MessageRef<'_>,
    header: Option<TypeMeta<'_>>,
) -> Result<Tree, Error> {
    tree(bytes, message, header, Room::unbounded())
}

/// The tree of an object that a client sent.
pub(crate) fn request_to_tree(bytes: &[u8], message: MessageRef<'_>) -> Result<Tree, Error> {
    tree(bytes, message, None, Room::of_request())
}

fn tree(
    bytes: &[u8],
    message: MessageRef<'_>,
    header: Option<TypeMeta<'_>>,
    room: Room,
) -> Result<Tree, Error> {
    let mut sink = TreeSink::new(room);
    Transcoder::new(&mut sink).root(bytes, message, header)?;
    Ok(sink.finish())
}

/// Appends the JSON of an enveloped object, with the envelope's `kind` and `apiVersion`.
pub fn object_to_json(stored: &[u8], message: MessageRef<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let envelope = envelope::unwrap(stored)?;
    proto_to_json(envelope.raw, message, Some(envelope.type_meta), out)
}

/// [`object_to_json`] into a tree.
pub fn object_to_tree(stored: &[u8], message: MessageRef<'_>) -> Result<Tree, Error> {
    let envelope = envelope::unwrap(stored)?;
    proto_to_tree(envelope.raw, message, Some(envelope.type_meta))
}

/// Position of a field's value in its message.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// How often the field occurs.
    count: u32,
    /// For one value of bytes, where they are; for lists and maps, from the first tag to the last value's end.
    start: u32,
    end: u32,
    /// For one number.
    number: u64,
}

/// A map's entry: ranges of the key, and of the value as an entry message.
#[derive(Clone, Copy)]
struct Entry<'a> {
    key: &'a [u8],
    value: Option<Raw<'a>>,
}

struct Transcoder<'s, S> {
    sink: &'s mut S,
    slots: Vec<Slot>,
}

impl<'s, S: Sink> Transcoder<'s, S> {
    fn new(sink: &'s mut S) -> Self {
        Self { sink, slots: Vec::with_capacity(128) }
    }

    fn root(
        &mut self,
        bytes: &[u8],
        message: MessageRef<'_>,
        header: Option<TypeMeta<'_>>,
    ) -> Result<(), Error> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(Error::Malformed("too large"));
        }
        if message.leaf.is_some() {
            return self.message(bytes, message, 0);
        }
        self.object(bytes, message, header, 0)
    }

    fn object(
        &mut self,
        data: &[u8],
        message: MessageRef<'_>,
        header: Option<TypeMeta<'_>>,
        depth: usize,
    ) -> Result<(), Error> {
        let base = self.scan(data, message, depth)?;
        let there = self.slots[base..].iter().filter(|slot| slot.count > 0).count();
        self.sink.object_start(there + 2 * usize::from(header.is_some()))?;
        self.fields(data, message, base, header, depth)?;
        self.sink.object_end();
        Ok(())
    }

    /// Writes what [`Transcoder::scan`] noted from `base` on.
    fn fields(
        &mut self,
        data: &[u8],
        message: MessageRef<'_>,
        base: usize,
        header: Option<TypeMeta<'_>>,
        depth: usize,
    ) -> Result<(), Error> {
        for (index, field) in message.fields().iter().enumerate() {
            let slot = self.slots[base + index];
            self.field(data, field, slot, header, depth)?;
        }
        self.slots.truncate(base);
        Ok(())
    }

    /// Notes where the fields of a message lie; answers where the notes begin.
    fn scan(&mut self, data: &[u8], message: MessageRef<'_>, depth: usize) -> Result<usize, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        let base = self.slots.len();
        self.slots.resize(base + message.fields().len(), Slot::default());
        let mut reader = Reader::new(data);
        let count = message.fields().len();
        // tags mostly ascend with the fields, so the search goes on where it stopped
        let mut cursor = 0;
        loop {
            let start = reader.position;
            let Some((number, raw)) = reader.next()? else { return Ok(base) };
            let mut found = None;
            for step in 0..count {
                let index = if cursor + step < count { cursor + step } else { cursor + step - count };
                if message.fields()[index].tag == number {
                    found = Some(index);
                    break;
                }
            }
            let Some(index) = found else { continue };
            cursor = index;
            let slot = &mut self.slots[base + index];
            slot.count += 1;
            let end = reader.position;
            match (message.fields()[index].shape, raw) {
                (Shape::One, Raw::Bytes(bytes)) => {
                    slot.start = (end - bytes.len()) as u32;
                    slot.end = end as u32;
                }
                (Shape::One, Raw::Varint(value) | Raw::Fixed64(value)) => slot.number = value,
                (Shape::One, Raw::Fixed32(value)) => slot.number = u64::from(value),
                _ => {
                    if slot.count == 1 {
                        slot.start = start as u32;
                    }
                    slot.end = end as u32;
                }
            }
        }
    }

    fn field(
        &mut self,
        data: &[u8],
        field: &Field,
        slot: Slot,
        header: Option<TypeMeta<'_>>,
        depth: usize,
    ) -> Result<(), Error> {
        let range = data.get(slot.start as usize..slot.end as usize).ok_or(Error::Truncated)?;
        if field.is_inline() {
            return self.inline(range, field, header, depth);
        }
        if slot.count == 0 {
            return self.absent(field, depth);
        }
        match field.shape {
            Shape::One => self.one(range, field, slot, depth),
            Shape::List => {
                self.sink.name(&field.json);
                self.sink.array_start();
                let mut reader = Reader::new(range);
                while let Some((number, raw)) = reader.next()? {
                    if number != field.tag {
                        continue;
                    }
                    match field.ty {
                        Type::Message(index) if field.shows_kind => {
                            let message = tables::message_at(index);
                            let header = TypeMeta { api_version: "v1", kind: message.short_name() };
                            self.object(raw.bytes()?, message, Some(header), depth + 1)?;
                        }
                        _ => self.value(&field.ty, raw, depth)?,
                    }
                }
                self.sink.array_end();
                Ok(())
            }
            Shape::Map => {
                self.sink.name(&field.json);
                self.map(range, field, depth)
            }
        }
    }

    fn inline(
        &mut self,
        range: &[u8],
        field: &Field,
        header: Option<TypeMeta<'_>>,
        depth: usize,
    ) -> Result<(), Error> {
        let Type::Message(index) = field.ty else { return Ok(()) };
        if field.tag != 0 {
            let message = tables::message_at(index);
            let base = self.scan(range, message, depth + 1)?;
            return self.fields(range, message, base, None, depth + 1);
        }
        if let Some(header) = header {
            if !header.kind.is_empty() {
                self.sink.name("kind");
                self.sink.string(header.kind.as_bytes());
            }
            if !header.api_version.is_empty() {
                self.sink.name("apiVersion");
                self.sink.string(header.api_version.as_bytes());
            }
        }
        Ok(())
    }

    fn absent(&mut self, field: &Field, depth: usize) -> Result<(), Error> {
        if field.omit_empty {
            return Ok(());
        }
        self.sink.name(&field.json);
        if field.optional || field.shape != Shape::One {
            self.sink.null();
            return Ok(());
        }
        self.zero(&field.ty, depth)
    }

    fn zero(&mut self, ty: &Type, depth: usize) -> Result<(), Error> {
        match ty {
            Type::Bool => self.sink.boolean(false),
            Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 | Type::Double => self.sink.integer(0),
            Type::String => self.sink.plain(""),
            Type::Bytes => self.sink.null(),
            Type::Message(index) => {
                let message = tables::message_at(*index);
                if message.leaf == Some(Leaf::Items) {
                    self.sink.null();
                } else {
                    return self.message(&[], message, depth + 1);
                }
            }
        }
        Ok(())
    }

    fn one(&mut self, range: &[u8], field: &Field, slot: Slot, depth: usize) -> Result<(), Error> {
        let raw = match field.ty {
            Type::String | Type::Bytes | Type::Message(_) => {
                if field.omit_empty && !field.optional && range.is_empty() {
                    return Ok(());
                }
                Raw::Bytes(range)
            }
            Type::Double => Raw::Fixed64(slot.number),
            _ => Raw::Varint(slot.number),
        };
        let zero = matches!(raw, Raw::Varint(0) | Raw::Fixed64(0));
        if zero && field.omit_empty && !field.optional {
            return Ok(());
        }
        self.sink.name(&field.json);
        self.value(&field.ty, raw, depth)
    }

    fn map(&mut self, range: &[u8], field: &Field, depth: usize) -> Result<(), Error> {
        let mut entries: Vec<Entry<'_>> = Vec::new();
        let mut sorted = true;
        let mut reader = Reader::new(range);
        while let Some((number, raw)) = reader.next()? {
            if number != field.tag {
                continue;
            }
            let mut entry = Entry { key: &[], value: None };
            let mut inner = Reader::new(raw.bytes()?);
            while let Some((number, raw)) = inner.next()? {
                match number {
                    1 => entry.key = raw.bytes()?,
                    2 => entry.value = Some(raw),
                    _ => {}
                }
            }
            sorted &= entries.last().is_none_or(|last| last.key < entry.key);
            entries.push(entry);
        }
        if !sorted {
            // the last of equal keys counts
            entries.reverse();
            entries.sort_by_key(|entry| entry.key);
            entries.dedup_by_key(|entry| entry.key);
        }
        self.sink.object_start(entries.len())?;
        for entry in entries {
            self.sink.key(entry.key);
            match entry.value {
                Some(raw) => self.value(&field.ty, raw, depth)?,
                None => self.zero(&field.ty, depth)?,
            }
        }
        self.sink.object_end();
        Ok(())
    }

    #[inline]
    fn value(&mut self, ty: &Type, raw: Raw<'_>, depth: usize) -> Result<(), Error> {
        match ty {
            Type::Bool => self.sink.boolean(raw.varint()? != 0),
            Type::Int32 => self.sink.integer(i64::from(raw.varint()? as i32)),
            Type::Int64 => self.sink.integer(raw.varint()? as i64),
            Type::Uint32 => self.sink.unsigned(u64::from(raw.varint()? as u32)),
            Type::Uint64 => self.sink.unsigned(raw.varint()?),
            Type::Double => match raw {
                Raw::Fixed64(bits) => self.sink.double(f64::from_bits(bits)),
                _ => return Err(Error::Malformed("wrong wire type for a double")),
            },
            Type::String => self.sink.string(raw.bytes()?),
            Type::Bytes => self.sink.plain(&text::to_base64(raw.bytes()?)),
            Type::Message(index) => return self.message(raw.bytes()?, tables::message_at(*index), depth + 1),
        }
        Ok(())
    }

    fn message(&mut self, data: &[u8], message: MessageRef<'_>, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        let Some(leaf) = message.leaf else {
            return self.object(data, message, None, depth);
        };
        match leaf {
            Leaf::Time | Leaf::MicroTime => self.time(data, leaf)?,
            Leaf::Duration => {
                let duration = last(data, 1)?.map_or(Ok(0), Raw::varint)?;
                self.sink.string(text::format_duration(duration as i64).as_bytes());
            }
            Leaf::Quantity => match last(data, 1)?.map_or(Ok(&[][..]), Raw::bytes)? {
                [] => self.sink.plain("0"),
                quantity => self.sink.string(quantity),
            },
            Leaf::IntOrString => self.int_or_string(data)?,
            Leaf::RawExtension => match last(data, 1)?.map_or(Ok(&[][..]), Raw::bytes)? {
                [] => self.sink.null(),
                json => self.sink.raw(json)?,
            },
            Leaf::FieldsV1 => match last(data, 1)?.map_or(Ok(&[][..]), Raw::bytes)? {
                [] => self.sink.null(),
                json => self.sink.fields(json)?,
            },
            Leaf::Json => match last(data, 1)?.map_or(Ok(&[][..]), Raw::bytes)? {
                [] => self.sink.null(),
                json => self.sink.json(json)?,
            },
            Leaf::Items | Leaf::PropsOrArray | Leaf::PropsOrBool | Leaf::PropsOrStringArray => {
                self.choice(data, message, leaf, depth)?
            }
            Leaf::Entries => self.sink.null(),
        }
        Ok(())
    }

    fn time(&mut self, data: &[u8], leaf: Leaf) -> Result<(), Error> {
        if data.is_empty() {
            self.sink.null();
            return Ok(());
        }
        let seconds = last(data, 1)?.map_or(Ok(0), Raw::varint)? as i64;
        let nanoseconds = last(data, 2)?.map_or(Ok(0), Raw::varint)? as i32;
        let mut buffer = String::with_capacity(28);
        if leaf == Leaf::MicroTime {
            text::format_micro_time(seconds, nanoseconds, &mut buffer);
        } else {
            text::format_time(seconds, &mut buffer);
        }
        self.sink.plain(&buffer);
        Ok(())
    }

    fn int_or_string(&mut self, data: &[u8]) -> Result<(), Error> {
        let mut integer = 0;
        let mut string: &[u8] = &[];
        let mut kind = 0;
        let mut reader = Reader::new(data);
        while let Some((number, raw)) = reader.next()? {
            match number {
                1 => kind = raw.varint()?,
                2 => integer = raw.varint()? as i32,
                3 => string = raw.bytes()?,
                _ => {}
            }
        }
        match kind {
            0 => self.sink.integer(i64::from(integer)),
            _ => self.sink.string(string),
        }
        Ok(())
    }

    /// Messages that show one of their two fields, and lists that are messages.
    fn choice(
        &mut self,
        data: &[u8],
        message: MessageRef<'_>,
        leaf: Leaf,
        depth: usize,
    ) -> Result<(), Error> {
        let list = message.fields().iter().find(|field| field.shape == Shape::List);
        if let Some(list) = list {
            let mut reader = Reader::new(data);
            let mut open = leaf == Leaf::Items;
            if open {
                self.sink.array_start();
            }
            while let Some((number, raw)) = reader.next()? {
                if number == list.tag {
                    if !open {
                        self.sink.array_start();
                        open = true;
                    }
                    self.value(&list.ty, raw, depth)?;
                }
            }
            if open {
                self.sink.array_end();
                return Ok(());
            }
        }
        let schema = message
            .fields
            .iter()
            .find(|field| matches!(field.ty, Type::Message(_)) && field.shape == Shape::One);
        if let Some(schema) = schema
            && let Some(raw) = last(data, schema.tag)?
        {
            return self.value(&schema.ty, raw, depth);
        }
        if leaf == Leaf::PropsOrBool {
            self.sink.boolean(last(data, 1)?.map_or(Ok(0), Raw::varint)? != 0);
        } else {
            self.sink.null();
        }
        Ok(())
    }
}

/// The last value of a field in a message that has each once.
fn last(data: &[u8], tag: u32) -> Result<Option<Raw<'_>>, Error> {
    let mut reader = Reader::new(data);
    let mut found = None;
    while let Some((number, raw)) = reader.next()? {
        if number == tag {
            found = Some(raw);
        }
    }
    Ok(found)
}
