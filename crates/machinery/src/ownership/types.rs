//! Types of values as ownership sees them: which of their parts can be owned, out of the model.

use super::Element;
use api::Tree;
use api::model::{Field, Leaf, ListType, MessageRef, Model, PatchStrategy, Shape, Text, Type as Of};

/// The type of a value.
#[derive(Clone, Copy)]
pub enum Type<'m> {
    Scalar(Scalar),
    List(List<'m>),
    Map(Map<'m>),
    /// Not described, so that the value decides: objects have parts, lists are owned as a whole.
    Deduced,
    /// Not described, and owned as a whole.
    Opaque,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    Number,
    Text,
    Bool,
    /// Any of these.
    Untyped,
}

#[derive(Clone, Copy)]
pub struct List<'m> {
    model: &'m Model,
    ty: &'m Of,
    relation: ListType,
    keys: &'m [Text],
}

#[derive(Clone, Copy)]
pub struct Map<'m> {
    members: Members<'m>,
    /// Owned as a whole.
    pub atomic: bool,
}

#[derive(Clone, Copy)]
enum Members<'m> {
    /// The fields of a message.
    Fields(MessageRef<'m>),
    /// Values of one type under any key.
    Values(&'m Model, &'m Of),
    Deduced,
    Opaque,
}

/// A value by its type and what it is: the type may leave that open.
#[derive(Clone, Copy)]
pub enum Form<'m> {
    Scalar(Scalar),
    /// Its type, where its items can be owned.
    List(Option<List<'m>>),
    Map(Map<'m>),
}

impl<'m> Type<'m> {
    /// The type of an object of a kind.
    pub fn of_message(message: MessageRef<'m>) -> Type<'m> {
        match message.leaf {
            None => Type::Map(Map { members: Members::Fields(message), atomic: message.atomic }),
            Some(Leaf::Time | Leaf::MicroTime | Leaf::Quantity | Leaf::IntOrString) => {
                Type::Scalar(Scalar::Untyped)
            }
            Some(Leaf::Duration) => Type::Scalar(Scalar::Text),
            Some(Leaf::RawExtension) => Type::Opaque,
            Some(Leaf::Items | Leaf::Entries) => match message.fields() {
                [field] => Type::of_field(message.model(), field),
                _ => Type::Deduced,
            },
            Some(
                Leaf::FieldsV1
                | Leaf::Json
                | Leaf::PropsOrArray
                | Leaf::PropsOrBool
                | Leaf::PropsOrStringArray,
            ) => Type::Deduced,
        }
    }

    fn of(model: &'m Model, ty: &'m Of) -> Type<'m> {
        match ty {
            Of::Bool => Type::Scalar(Scalar::Bool),
            Of::Int32 | Of::Int64 | Of::Uint32 | Of::Uint64 | Of::Double => Type::Scalar(Scalar::Number),
            Of::String | Of::Bytes => Type::Scalar(Scalar::Text),
            Of::Message(index) => Type::of_message(model.at(*index)),
        }
    }

    fn of_list(model: &'m Model, field: &'m Field) -> Type<'m> {
        let merged = matches!(field.patch, PatchStrategy::Merge | PatchStrategy::MergeRetainKeys);
        let (relation, keys) = match (field.list_said, merged) {
            (true, _) => (field.list, &*field.list_keys),
            // The strategy of patches counts where nothing else is stated.
            (false, true) if field.merge_key.is_empty() => (ListType::Set, &[][..]),
            (false, true) => (ListType::Map, std::slice::from_ref(&field.merge_key)),
            (false, false) => (ListType::Atomic, &[][..]),
        };
        Type::List(List { model, ty: &field.ty, relation, keys })
    }

    fn of_field(model: &'m Model, field: &'m Field) -> Type<'m> {
        match field.shape {
            Shape::List => Type::of_list(model, field),
            Shape::Map => Type::Map(Map { members: Members::Values(model, &field.ty), atomic: field.atomic }),
            Shape::One => match Type::of(model, &field.ty) {
                Type::Map(map) if field.atomic || field.granular => {
                    Type::Map(Map { atomic: field.atomic, ..map })
                }
                other => other,
            },
        }
    }

    /// What a value of this type is; null is whatever the type is.
    pub fn form(self, value: &Tree) -> Form<'m> {
        let open = |members, atomic| match value {
            Tree::Array(_) => Form::List(None),
            Tree::Object(_) | Tree::Null => Form::Map(Map { members, atomic }),
            _ => Form::Scalar(Scalar::Untyped),
        };
        match self {
            Type::Scalar(scalar) => Form::Scalar(scalar),
            Type::List(list) => Form::List((list.relation != ListType::Atomic).then_some(list)),
            Type::Map(map) => Form::Map(map),
            Type::Deduced => open(Members::Deduced, false),
            Type::Opaque => open(Members::Opaque, true),
        }
    }

    /// Whether values of two sorts can stand here.
    pub fn is_open(self) -> bool {
        matches!(self, Type::Deduced | Type::Opaque)
    }

    /// The type of a value inside, as far as it is known.
    pub fn below(self, element: &Element) -> Option<Type<'m>> {
        match (self, element) {
            (Type::Map(map), Element::Field(name)) => map.member(name),
            (Type::Deduced, Element::Field(_)) => Some(Type::Deduced),
            (Type::Opaque, Element::Field(_)) => Some(Type::Opaque),
            (Type::List(list), _) => Some(list.item()),
            _ => None,
        }
    }

    /// Whether it is an object with a field of this name.
    pub fn declares(self, element: &Element) -> bool {
        matches!((self, element), (Type::Map(map), Element::Field(name)) if map.declares(name))
    }
}

/// The fields of a message are few, and those of inlined ones are its own.
fn find<'m>(message: MessageRef<'m>, name: &str) -> Option<&'m Field> {
    message.fields().iter().find_map(|field| match &field.ty {
        Of::Message(index) if field.is_inline() => find(message.at(*index), name),
        _ => (field.json == name).then_some(field),
    })
}

impl<'m> Map<'m> {
    /// The type of a member; `None` where there may be none of that name.
    pub fn member(self, name: &str) -> Option<Type<'m>> {
        match self.members {
            Members::Fields(message) => match find(message, name) {
                Some(field) => Some(Type::of_field(message.model(), field)),
                None if message.open || message.fields().is_empty() => Some(Type::Deduced),
                None if message.custom && matches!(name, "apiVersion" | "kind") => {
                    Some(Type::Scalar(Scalar::Text))
                }
                None => None,
            },
            Members::Values(model, ty) => Some(Type::of(model, ty)),
            Members::Deduced => Some(Type::Deduced),
            Members::Opaque => Some(Type::Opaque),
        }
    }

    /// Whether its members are not described, so that it can be of any depth.
    pub fn is_open(self) -> bool {
        matches!(self.members, Members::Deduced)
    }

    /// Whether a member is a field of a message, and not a key that someone chose.
    pub fn declares(self, name: &str) -> bool {
        matches!(self.members, Members::Fields(message) if find(message, name).is_some())
    }
}

/// An item that no path leads to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPath {
    #[error("associative list with keys may not have a null element")]
    NullItem,
    #[error("associative list with keys may not have non-map elements")]
    NoKeys,
    #[error(
        "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
        .0.iter().map(|key| crate::fieldpath::Quoted(key).to_string()).collect::<Vec<_>>().join(" ")
    )]
    OmitsKeys(Vec<String>),
    #[error("associative list without keys has an element that's a map type")]
    MapInSet,
    #[error("not supported: associative list with lists as elements")]
    ListInSet,
    #[error("associative list without keys has an element that's an explicit null")]
    NullInSet,
}

impl<'m> List<'m> {
    pub fn item(self) -> Type<'m> {
        Type::of(self.model, self.ty)
    }

    /// The element that leads to an item. Keys that the item leaves out have their defaults.
    pub fn element(self, item: &Tree) -> Result<Element, NoPath> {
        if self.keys.is_empty() {
            return match item {
                Tree::Object(_) => Err(NoPath::MapInSet),
                Tree::Array(_) => Err(NoPath::ListInSet),
                Tree::Null => Err(NoPath::NullInSet),
                value => Ok(Element::Value(Box::new(value.clone()))),
            };
        }
        let members = match item {
            Tree::Object(members) => members,
            Tree::Null => return Err(NoPath::NullItem),
            _ => return Err(NoPath::NoKeys),
        };
        let mut keys = Vec::with_capacity(self.keys.len());
        for key in self.keys {
            let value = members.get(key).cloned().or_else(|| self.default(key));
            keys.extend(value.map(|value| (api::tree::key(key), value)));
        }
        match keys.is_empty() {
            true => Err(NoPath::OmitsKeys(self.keys.iter().map(|key| key.to_string()).collect())),
            false => Ok(Element::keys(keys)),
        }
    }

    fn default(self, key: &str) -> Option<Tree> {
        let Of::Message(index) = self.ty else { return None };
        let field = find(self.model.at(*index), key)?;
        if !field.default.is_empty() {
            return serde_json::from_str(&field.default).ok();
        }
        // A field that is always written has its type's zero.
        match &field.ty {
            _ if field.omit_empty || field.optional => None,
            Of::String => Some(Tree::from("")),
            Of::Int32 | Of::Int64 => Some(Tree::from(0)),
            _ => None,
        }
    }
}

/// Items by the element that leads to them, in the order in which they first occur.
pub(super) struct Items<'t> {
    places: std::collections::BTreeMap<Element, usize>,
    pub found: Vec<(Element, Vec<&'t Tree>)>,
}

impl<'t> Items<'t> {
    pub fn of(list: List<'_>, items: &'t [Tree]) -> Result<Items<'t>, (usize, NoPath)> {
        let mut index = Items { places: Default::default(), found: Vec::with_capacity(items.len()) };
        for (place, item) in items.iter().enumerate() {
            let element = list.element(item).map_err(|error| (place, error))?;
            match index.places.entry(element) {
                std::collections::btree_map::Entry::Occupied(known) => {
                    index.found[*known.get()].1.push(item);
                }
                std::collections::btree_map::Entry::Vacant(free) => {
                    index.found.push((free.key().clone(), vec![item]));
                    free.insert(index.found.len() - 1);
                }
            }
        }
        Ok(index)
    }

    pub fn get(&self, element: &Element) -> &[&'t Tree] {
        self.places.get(element).map_or(&[][..], |place| &self.found[*place].1)
    }
}

impl Type<'_> {
    /// Visits the paths of parts of a value that are owned as a whole, those within others included.
    pub fn atomics(self, value: &Tree, visit: &mut dyn FnMut(&str)) {
        self.atomics_at(value, &mut String::new(), visit);
    }

    fn atomics_at(self, value: &Tree, path: &mut String, visit: &mut dyn FnMut(&str)) {
        let length = path.len();
        match (self.form(value), value) {
            (Form::Map(map), Tree::Object(members)) => {
                if map.atomic {
                    visit(path);
                }
                for (name, value) in members {
                    path.push_str(&Element::field(name).to_string());
                    map.member(name).unwrap_or(Type::Opaque).atomics_at(value, path, visit);
                    path.truncate(length);
                }
            }
            (Form::List(list), Tree::Array(items)) => {
                if list.is_none() {
                    visit(path);
                }
                for (index, item) in items.iter().enumerate() {
                    path.push_str(&Element::Index(index as i64).to_string());
                    list.map_or(Type::Opaque, List::item).atomics_at(item, path, visit);
                    path.truncate(length);
                }
            }
            _ => {}
        }
    }
}
