//! A schema as a model: what apply, patches and decoding walk along. What values must be beside that lies in the schema.

use std::sync::LazyLock;

use api::model::{Field, Leaf, ListType, Message, Model, Shape, Text, Type};

use super::schema::{self, Additional, Schema};

const METADATA: &str = "k8s.io.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const INT_OR_STRING: &str = "k8s.io.apimachinery.pkg.util.intstr.IntOrString";

/// A message of the tables.
fn built_in(name: &str) -> u32 {
    api::tables::message_index(name).unwrap_or_default()
}

static METADATA_INDEX: LazyLock<u32> = LazyLock::new(|| built_in(METADATA));
static INT_OR_STRING_INDEX: LazyLock<u32> = LazyLock::new(|| built_in(INT_OR_STRING));

/// The model of a kind's objects, whose message is the first of its own. `open`: unknown fields are kept everywhere.
pub fn model(name: &str, schema: &Schema, open: bool) -> Model {
    let mut compiler = Compiler { name, messages: Vec::new(), any: None, nothing: None };
    let root = compiler.object(schema, open);
    let fields = &mut compiler.messages[(root - Model::first_own()) as usize].fields;
    let implied = [
        ("apiVersion", Type::String, false),
        ("kind", Type::String, false),
        ("metadata", Type::Message(*METADATA_INDEX), true),
    ];
    for (json, ty, granular) in implied {
        let field =
            Field { json: json.into(), ty, omit_empty: true, optional: true, granular, ..Field::default() };
        match fields.binary_search_by(|own| own.json.as_ref().cmp(json)) {
            Ok(place) => fields.to_mut()[place] = field,
            Err(place) => fields.to_mut().insert(place, field),
        }
    }
    Model::with(compiler.messages)
}

struct Compiler<'s> {
    name: &'s str,
    messages: Vec<Message>,
    /// What may be anything, and what is no object with members.
    any: Option<u32>,
    nothing: Option<u32>,
}

/// What a field says of itself, besides its name.
struct Form {
    ty: Type,
    shape: Shape,
}

impl Compiler<'_> {
    fn add(&mut self, message: Message) -> u32 {
        let index = Model::first_own() + self.messages.len() as u32;
        let name = Text::from(self.name.to_owned());
        self.messages.push(Message { name, custom: true, ..message });
        index
    }

    fn any(&mut self) -> u32 {
        match self.any {
            Some(index) => index,
            None => *self.any.insert({
                let message = Message { leaf: Some(Leaf::Json), open: true, ..Message::default() };
                let index = Model::first_own() + self.messages.len() as u32;
                self.messages.push(Message { custom: true, ..message });
                index
            }),
        }
    }

    fn nothing(&mut self) -> u32 {
        match self.nothing {
            Some(index) => index,
            None => {
                let index = self.add(Message::default());
                self.nothing = Some(index);
                index
            }
        }
    }

    /// The message of an object with these properties.
    fn object(&mut self, schema: &Schema, open: bool) -> u32 {
        // Taken first, so that the outermost message is the first.
        let index = self.add(Message::default());
        let fields: Vec<Field> =
            schema.properties.iter().map(|(name, below)| self.field(name, below, schema, open)).collect();
        let message = &mut self.messages[(index - Model::first_own()) as usize];
        message.fields = fields.into();
        message.open = open || schema.preserves;
        message.embedded = schema.embedded;
        message.atomic = schema.atomic;
        index
    }

    fn field(&mut self, name: &str, schema: &Schema, owner: &Schema, open: bool) -> Field {
        let Form { ty, shape } = self.form(schema, open);
        Field {
            json: Text::from(name.to_owned()),
            ty,
            shape,
            omit_empty: true,
            optional: true,
            nullable: schema.nullable,
            required: owner.required.iter().any(|required| &**required == name),
            default: schema
                .default
                .as_deref()
                .map_or(Text::default(), |default| Text::from(default.to_string())),
            ..lists(schema)
        }
    }

    fn form(&mut self, schema: &Schema, open: bool) -> Form {
        let one = |ty| Form { ty, shape: Shape::One };
        let is_object = !schema.properties.is_empty() || schema.embedded;
        match (schema.ty, &schema.items, &schema.additional) {
            (Some(schema::Type::IntOrString), ..) => one(Type::Message(*INT_OR_STRING_INDEX)),
            (_, Some(items), _) => {
                Form { ty: self.element(items, open || schema.preserves), shape: Shape::List }
            }
            (_, _, Some(Additional::Schema(values))) if !is_object => {
                Form { ty: self.element(values, open), shape: Shape::Map }
            }
            (_, _, Some(Additional::Any(true))) if !is_object => {
                let any = if open || schema.preserves { self.any() } else { self.nothing() };
                Form { ty: Type::Message(any), shape: Shape::Map }
            }
            (None | Some(schema::Type::Array), ..) if !is_object && (open || schema.preserves) => {
                one(Type::Message(self.any()))
            }
            (Some(schema::Type::String), ..) => one(Type::String),
            (Some(schema::Type::Integer), ..) => one(Type::Int64),
            (Some(schema::Type::Number), ..) => one(Type::Double),
            (Some(schema::Type::Boolean), ..) => one(Type::Bool),
            (None | Some(schema::Type::Object | schema::Type::Array), ..) => {
                one(Type::Message(self.object(schema, open)))
            }
        }
    }

    /// The type of what lies in a list or a map: a list or a map there is wrapped in a message.
    fn element(&mut self, schema: &Schema, open: bool) -> Type {
        let Form { ty, shape } = self.form(schema, open);
        let leaf = match shape {
            Shape::One => {
                if let Type::Message(index) = ty
                    && let Some(place) = index.checked_sub(Model::first_own())
                    && open
                {
                    self.messages[place as usize].open = true;
                }
                return ty;
            }
            Shape::List => Leaf::Items,
            Shape::Map => Leaf::Entries,
        };
        let field =
            Field { json: "items".into(), ty, shape, omit_empty: true, optional: true, ..lists(schema) };
        Type::Message(self.add(Message {
            fields: vec![field].into(),
            leaf: Some(leaf),
            ..Message::default()
        }))
    }
}

/// What apply merges by.
fn lists(schema: &Schema) -> Field {
    Field {
        list: schema.list,
        list_said: schema.list != ListType::Atomic,
        list_keys: schema.list_keys.to_vec().into(),
        atomic: schema.atomic,
        ..Field::default()
    }
}
