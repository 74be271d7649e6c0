//! Where messages lie: the built-in ones in one table, and those of a kind that is made at run time behind them, in a model
//! of their own that goes when the kind goes.

use std::ops::Deref;
use std::sync::LazyLock;

use super::{Field, Message, Type};
use crate::tables;

static BUILT_IN: LazyLock<Model> = LazyLock::new(Model::default);

/// The messages that a kind's objects are made of. The built-in ones are part of every model, so that a custom
/// resource's `metadata` is the same as a pod's.
#[derive(Debug, Default)]
pub struct Model {
    own: Vec<Message>,
}

impl Model {
    /// The built-in messages alone.
    pub fn built_in() -> &'static Model {
        &BUILT_IN
    }

    /// The place of the first message that is not built in.
    pub fn first_own() -> u32 {
        u32::try_from(tables::messages().len()).expect("the tables are small")
    }

    /// The built-in messages, and behind them these, which refer to each other by their places.
    pub fn with(mut own: Vec<Message>) -> Model {
        for (index, message) in (Model::first_own()..).zip(&mut own) {
            message.index = index;
        }
        Model { own }
    }

    /// The message at a place.
    ///
    /// # Panics
    /// Where the place is not of this model.
    pub fn at(&self, index: u32) -> MessageRef<'_> {
        let built_in = tables::messages();
        let index = index as usize;
        let message = built_in.get(index).unwrap_or_else(|| &self.own[index - built_in.len()]);
        MessageRef { model: self, message }
    }
}

/// A message, with the model that the types of its fields are places of.
#[derive(Clone, Copy, Debug)]
pub struct MessageRef<'m> {
    model: &'m Model,
    message: &'m Message,
}

impl<'m> MessageRef<'m> {
    pub fn model(self) -> &'m Model {
        self.model
    }

    /// The message of one of its fields.
    pub fn at(self, index: u32) -> MessageRef<'m> {
        self.model.at(index)
    }

    /// The last part of the name: `Pod`.
    pub fn short_name(self) -> &'m str {
        self.message.name.rsplit('.').next().unwrap_or(&self.message.name)
    }

    pub fn fields(self) -> &'m [Field] {
        &self.message.fields
    }

    /// The fields as JSON shows them: those of inlined messages in their parent's place.
    pub fn json_fields(self) -> JsonFields<'m> {
        JsonFields { model: self.model, fields: self.fields().iter(), outer: Vec::new() }
    }
}

impl Deref for MessageRef<'_> {
    type Target = Message;

    fn deref(&self) -> &Message {
        self.message
    }
}

/// See [`MessageRef::json_fields`].
pub struct JsonFields<'m> {
    model: &'m Model,
    fields: std::slice::Iter<'m, Field>,
    /// Remaining fields of the messages that `fields` is inlined into.
    outer: Vec<std::slice::Iter<'m, Field>>,
}

impl<'m> Iterator for JsonFields<'m> {
    type Item = &'m Field;

    fn next(&mut self) -> Option<&'m Field> {
        loop {
            match self.fields.next() {
                None => self.fields = self.outer.pop()?,
                Some(field) if !field.is_inline() => return Some(field),
                Some(field) => {
                    if let Type::Message(index) = field.ty {
                        let inlined = self.model.at(index).fields().iter();
                        self.outer.push(std::mem::replace(&mut self.fields, inlined));
                    }
                }
            }
        }
    }
}
