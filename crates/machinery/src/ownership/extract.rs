//! The set of fields that an object states, as one who applies it owns them.

use api::Tree;

use super::types::{Form, Items, NoPath, Type};
use super::{Element, Node, Set};

/// The fields of a value below it.
pub fn extract(value: &Tree, ty: Type<'_>) -> Result<Set, NoPath> {
    Ok(walk(value, ty)?.1)
}

/// Whether the value itself is owned, and what is below it.
fn walk(value: &Tree, ty: Type<'_>) -> Result<(bool, Set), NoPath> {
    match (ty.form(value), value) {
        (Form::Scalar(_) | Form::List(None), _) => Ok((true, Set::default())),
        (Form::Map(map), _) if map.atomic => Ok((true, Set::default())),
        (Form::List(Some(list)), Tree::Array(items)) => {
            let items = Items::of(list, items).map_err(|(_, error)| error)?;
            let mut nodes = Vec::with_capacity(items.found.len());
            for (element, items) in items.found {
                let below = match items[..] {
                    [item] => walk(item, list.item())?.1,
                    // Items that stand there twice are owned as one.
                    _ => Set::default(),
                };
                nodes.push(Node { element, member: true, below });
            }
            Ok((false, Set::from_nodes(nodes)))
        }
        (Form::Map(map), Tree::Object(members)) => {
            let mut nodes = Vec::with_capacity(members.len());
            for (key, value) in members {
                let (member, below) = walk(value, map.member(key).unwrap_or(Type::Opaque))?;
                let empty = value.is_null() || value.as_object().is_some_and(|members| members.is_empty());
                let member = member || empty || !map.declares(key);
                if member || !below.nodes.is_empty() {
                    nodes.push(Node { element: Element::Field(key.clone()), member, below });
                }
            }
            Ok((false, Set::from_nodes(nodes)))
        }
        // Null, or of another type than it should be.
        _ => Ok((false, Set::default())),
    }
}
