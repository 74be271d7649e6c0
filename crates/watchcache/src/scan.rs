//! Reads what the cache needs of a stored protobuf object without decoding it: metadata, and the values of selectable fields;
//! and puts the resource version in, which the store does not hold.

use api::model::{MessageRef, Shape, Type};

/// The parts of `metadata` that the cache keeps.
#[derive(Default)]
pub struct Meta<'a> {
    pub name: &'a str,
    pub namespace: &'a str,
    pub uid: &'a str,
    pub labels: Vec<(&'a str, &'a str)>,
}

/// One field on the wire.
pub struct Field<'a> {
    pub tag: u32,
    pub number: u64,
    pub bytes: &'a [u8],
    /// The whole field, tag included.
    pub whole: &'a [u8],
}

/// Steps through a message; ends early on malformed bytes.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let start = self.0;
        let mut rest = start;
        let key = varint(&mut rest)?;
        let (mut number, mut bytes) = (0, &rest[..0]);
        match key & 7 {
            0 => number = varint(&mut rest)?,
            1 => {
                bytes = rest.get(..8)?;
                rest = &rest[8..];
            }
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                bytes = rest.get(..length)?;
                rest = &rest[length..];
            }
            5 => {
                bytes = rest.get(..4)?;
                rest = &rest[4..];
            }
            _ => return None,
        }
        self.0 = rest;
        let whole = &start[..start.len() - rest.len()];
        Some(Field { tag: (key >> 3) as u32, number, bytes, whole })
    }
}

/// Whether an object's bytes, and those of its metadata, which are reassembled, are complete protobuf fields. The content of other
/// fields is not checked.
pub fn is_whole(object: &[u8]) -> bool {
    let mut fields = Fields(object);
    let mut metadata = true;
    for field in fields.by_ref().filter(|field| field.tag == 1) {
        let mut own = Fields(field.bytes);
        own.by_ref().for_each(drop);
        metadata &= own.0.is_empty();
    }
    metadata && fields.0.is_empty()
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field of bytes.
pub fn put_field(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    put_varint(out, u64::from(tag << 3 | 2));
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// How many bytes a varint takes.
pub fn varint_size(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Reads `metadata`, which is field 1 of every object.
pub fn meta(raw: &[u8]) -> Meta<'_> {
    let mut meta = Meta::default();
    let Some(metadata) = Fields(raw).find(|field| field.tag == 1) else { return meta };
    for field in Fields(metadata.bytes) {
        match field.tag {
            1 => meta.name = text(field.bytes),
            3 => meta.namespace = text(field.bytes),
            5 => meta.uid = text(field.bytes),
            11 => {
                let (mut key, mut value) = ("", "");
                for entry in Fields(field.bytes) {
                    match entry.tag {
                        1 => key = text(entry.bytes),
                        2 => value = text(entry.bytes),
                        _ => {}
                    }
                }
                meta.labels.push((key, value));
            }
            _ => {}
        }
    }
    meta
}

/// Appends the object's bytes with `metadata.resourceVersion` (tag 6) set to `version`.
pub fn with_resource_version(raw: &[u8], version: &str, out: &mut Vec<u8>) {
    let mut rest = Fields(raw);
    for field in rest.by_ref() {
        if field.tag != 1 {
            out.extend_from_slice(field.whole);
            continue;
        }
        let mut metadata = Vec::with_capacity(field.bytes.len() + version.len() + 2);
        let mut put = false;
        for part in Fields(field.bytes) {
            if part.tag >= 6 && !put {
                put_field(&mut metadata, 6, version.as_bytes());
                put = true;
            }
            if part.tag != 6 {
                metadata.extend_from_slice(part.whole);
            }
        }
        if !put {
            put_field(&mut metadata, 6, version.as_bytes());
        }
        put_field(out, 1, &metadata);
    }
    // whatever could not be read stays what it is
    out.extend_from_slice(rest.0);
}

/// A field's way through nested messages: tags, and what stands at the end.
#[derive(Clone, Debug)]
pub struct Path {
    tags: Vec<u32>,
    ty: Type,
    json: String,
    /// Read when this one is empty.
    otherwise: Option<Box<Path>>,
}

impl Path {
    /// From a path of JSON names, `spec.nodeName`, or several between `|`, of which the first that is not empty counts. `None`
    /// when the message has no such field.
    pub fn compile(message: MessageRef<'_>, path: &str) -> Option<Path> {
        let Some((first, others)) = path.split_once('|') else { return Path::single(message, path) };
        let otherwise = Some(Box::new(Path::compile(message, others)?));
        Some(Path { otherwise, ..Path::single(message, first)? })
    }

    fn single(message: MessageRef<'_>, path: &str) -> Option<Path> {
        let mut tags = Vec::new();
        let mut owner = message;
        let mut parts = path.trim_start_matches('.').split('.').peekable();
        loop {
            let part = parts.next()?;
            let field =
                owner.fields().iter().find(|field| field.json == part && field.shape == Shape::One)?;
            tags.push(field.tag);
            if parts.peek().is_none() {
                let pointer = format!("/{}", path.trim_start_matches('.').replace('.', "/"));
                return Some(Path { tags, ty: field.ty.clone(), json: pointer, otherwise: None });
            }
            let Type::Message(index) = field.ty else { return None };
            owner = owner.at(index);
        }
    }

    /// The field's text in a protobuf object; numbers and booleans as written in JSON.
    pub fn read(&self, raw: &[u8]) -> String {
        match (self.read_own(raw), &self.otherwise) {
            (own, Some(otherwise)) if own.is_empty() => otherwise.read(raw),
            (own, _) => own,
        }
    }

    fn read_own(&self, raw: &[u8]) -> String {
        let mut bytes = raw;
        let (last, parents) = match self.tags.split_last() {
            Some(split) => split,
            None => return String::new(),
        };
        for tag in parents {
            match Fields(bytes).find(|field| field.tag == *tag) {
                Some(field) => bytes = field.bytes,
                None => return self.zero(),
            }
        }
        let Some(field) = Fields(bytes).find(|field| field.tag == *last) else { return self.zero() };
        match self.ty {
            Type::Bool => (field.number != 0).to_string(),
            Type::Int32 | Type::Int64 => (field.number as i64).to_string(),
            Type::Uint32 | Type::Uint64 => field.number.to_string(),
            _ => text(field.bytes).to_owned(),
        }
    }

    /// The field's text in a JSON tree.
    pub fn read_tree(&self, tree: &api::Tree) -> String {
        let own = match tree.pointer(&self.json) {
            None | Some(api::Tree::Null) => self.zero(),
            Some(api::Tree::String(text)) => text.to_string(),
            Some(other) => other.to_string(),
        };
        match &self.otherwise {
            Some(otherwise) if own.is_empty() => otherwise.read_tree(tree),
            _ => own,
        }
    }

    fn zero(&self) -> String {
        match self.ty {
            Type::Bool => "false".to_owned(),
            Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 => "0".to_owned(),
            _ => String::new(),
        }
    }
}
