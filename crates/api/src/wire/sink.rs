//! Where transcoded values go: JSON bytes or a tree.

use crate::tree::{CompactString, Number, Object, Tree};

use super::Error;
use crate::bounds::Room;
use crate::{json, raw};

pub(super) trait Sink {
    /// An object of about so many members.
    fn object_start(&mut self, members: usize) -> Result<(), Error>;
    fn object_end(&mut self);
    fn array_start(&mut self);
    fn array_end(&mut self);
    /// A name of the model, which needs no escaping.
    fn name(&mut self, name: &str);
    /// A map's key.
    fn key(&mut self, key: &[u8]);
    fn string(&mut self, text: &[u8]);
    /// Text that needs no escaping.
    fn plain(&mut self, text: &str);
    fn integer(&mut self, value: i64);
    fn unsigned(&mut self, value: u64);
    fn double(&mut self, value: f64);
    fn boolean(&mut self, value: bool);
    fn null(&mut self);
    /// A JSON text from the wire.
    fn json(&mut self, text: &[u8]) -> Result<(), Error>;
    /// A JSON text that is to be kept as it is.
    fn raw(&mut self, text: &[u8]) -> Result<(), Error> {
        self.json(text)
    }
    /// A set of fields.
    fn fields(&mut self, text: &[u8]) -> Result<(), Error> {
        self.json(text)
    }
}

pub(super) struct JsonSink<'a> {
    out: &'a mut Vec<u8>,
    /// A value at this place follows another one.
    comma: bool,
}

impl<'a> JsonSink<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, comma: false }
    }

    #[inline]
    fn separate(&mut self) {
        if self.comma {
            self.out.push(b',');
        }
        self.comma = true;
    }
}

impl Sink for JsonSink<'_> {
    fn object_start(&mut self, _: usize) -> Result<(), Error> {
        self.separate();
        self.out.push(b'{');
        self.comma = false;
        Ok(())
    }

    fn object_end(&mut self) {
        self.out.push(b'}');
        self.comma = true;
    }

    fn array_start(&mut self) {
        self.separate();
        self.out.push(b'[');
        self.comma = false;
    }

    fn array_end(&mut self) {
        self.out.push(b']');
        self.comma = true;
    }

    #[inline]
    fn name(&mut self, name: &str) {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.comma = false;
    }

    fn key(&mut self, key: &[u8]) {
        self.separate();
        json::write_bytes_as_string(key, self.out);
        self.out.push(b':');
        self.comma = false;
    }

    #[inline]
    fn string(&mut self, text: &[u8]) {
        self.separate();
        json::write_bytes_as_string(text, self.out);
    }

    fn plain(&mut self, text: &str) {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'"');
    }

    fn integer(&mut self, value: i64) {
        self.separate();
        json::write_integer(value, self.out);
    }

    fn unsigned(&mut self, value: u64) {
        self.separate();
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn double(&mut self, value: f64) {
        self.separate();
        json::write_double(value, self.out);
    }

    fn boolean(&mut self, value: bool) {
        self.separate();
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn null(&mut self) {
        self.separate();
        self.out.extend_from_slice(b"null");
    }

    fn json(&mut self, text: &[u8]) -> Result<(), Error> {
        self.separate();
        json::write_compact(text, self.out).map_err(|_| Error::NotJson)
    }
}

pub(super) struct TreeSink {
    stack: Vec<Frame>,
    root: Tree,
    room: Room,
}

enum Frame {
    /// An object under construction, and the key of its next member.
    Object(Object, CompactString),
    Array(Vec<Tree>),
}

impl TreeSink {
    pub(super) fn new(room: Room) -> Self {
        Self { stack: Vec::new(), root: Tree::Null, room }
    }

    pub(super) fn finish(self) -> Tree {
        self.root
    }

    fn push(&mut self, value: Tree) {
        match self.stack.last_mut() {
            Some(Frame::Object(map, key)) => {
                map.insert(std::mem::take(key), value);
            }
            Some(Frame::Array(items)) => items.push(value),
            None => self.root = value,
        }
    }

    fn pop(&mut self) {
        match self.stack.pop() {
            Some(Frame::Object(map, _)) => self.push(Tree::Object(map)),
            Some(Frame::Array(items)) => self.push(Tree::Array(items)),
            None => {}
        }
    }
}

impl Sink for TreeSink {
    fn object_start(&mut self, members: usize) -> Result<(), Error> {
        if !self.room.take() {
            return Err(Error::TooLarge);
        }
        self.stack.push(Frame::Object(Object::with_capacity(members), CompactString::default()));
        Ok(())
    }

    fn object_end(&mut self) {
        self.pop();
    }

    fn array_start(&mut self) {
        self.stack.push(Frame::Array(Vec::new()));
    }

    fn array_end(&mut self) {
        self.pop();
    }

    fn name(&mut self, name: &str) {
        if let Some(Frame::Object(_, key)) = self.stack.last_mut() {
            *key = name.into();
        }
    }

    fn key(&mut self, text: &[u8]) {
        if let Some(Frame::Object(_, key)) = self.stack.last_mut() {
            *key = String::from_utf8_lossy(text).into();
        }
    }

    fn string(&mut self, text: &[u8]) {
        self.push(Tree::from(String::from_utf8_lossy(text)));
    }

    fn plain(&mut self, text: &str) {
        self.push(Tree::from(text));
    }

    fn integer(&mut self, value: i64) {
        self.push(Tree::from(value));
    }

    fn unsigned(&mut self, value: u64) {
        self.push(Tree::from(value));
    }

    fn double(&mut self, value: f64) {
        self.push(Number::from_f64(value).map_or(Tree::Null, Tree::Number));
    }

    fn boolean(&mut self, value: bool) {
        self.push(Tree::Bool(value));
    }

    fn null(&mut self) {
        self.push(Tree::Null);
    }

    fn json(&mut self, text: &[u8]) -> Result<(), Error> {
        self.push(serde_json::from_slice(text).map_err(|_| Error::NotJson)?);
        Ok(())
    }

    fn raw(&mut self, text: &[u8]) -> Result<(), Error> {
        let text = std::str::from_utf8(text).map_err(|_| Error::NotJson)?;
        self.push(raw::value(text).ok_or(Error::NotJson)?);
        Ok(())
    }

    fn fields(&mut self, text: &[u8]) -> Result<(), Error> {
        let text = std::str::from_utf8(text).map_err(|_| Error::NotJson)?;
        self.push(raw::fields(text));
        Ok(())
    }
}
