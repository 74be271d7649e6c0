//! Sets of fields that were written when the schema was another one: parts of what is owned as a whole by now.

use super::Set;
use super::text::{MAX_DEPTH, Malformed, Reader};
use super::types::{Form, Type};

/// Whether values of the type are owned as a whole.
fn is_whole(ty: Type<'_>) -> Option<bool> {
    match ty {
        Type::Deduced => None,
        Type::Opaque => Some(true),
        Type::Scalar(_) => Some(false),
        Type::Map(map) => Some(map.atomic),
        Type::List(_) => Some(matches!(ty.form(&api::Tree::Array(Vec::new())), Form::List(None))),
    }
}

/// Makes members of what is owned as a whole, in place of its parts. Answers whether there was any.
pub fn refresh(set: &mut Set, ty: Type<'_>) -> bool {
    let mut found = false;
    for node in &mut set.nodes {
        let Some(ty) = ty.below(&node.element) else { continue };
        match is_whole(ty) {
            Some(true) if !node.below.nodes.is_empty() => {
                node.below = Set::default();
                node.member = true;
                found = true;
            }
            Some(false) => found |= refresh(&mut node.below, ty),
            _ => {}
        }
    }
    found
}

/// Whether [`refresh`] would find something in a set's text.
pub fn is_stale(text: &str, ty: Type<'_>) -> Result<bool, Malformed> {
    let mut reader = Reader::new(text);
    walk(&mut reader, ty, 0)
}

fn walk(reader: &mut Reader<'_>, ty: Type<'_>, depth: usize) -> Result<bool, Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed);
    }
    let mut found = false;
    reader.members(|reader, name| {
        let below = match (ty, name.strip_prefix("f:")) {
            (_, Some(name)) => ty.below(&super::Element::field(name)),
            (Type::List(list), None) if name != "." => Some(list.item()),
            _ => None,
        };
        match below.map(|ty| (ty, is_whole(ty))) {
            Some((_, Some(true))) => {
                let mut parts = false;
                reader.members(|reader, name| {
                    parts |= name != ".";
                    reader.skip(depth)
                })?;
                found |= parts;
                Ok(())
            }
            Some((ty, Some(false))) => {
                found |= walk(reader, ty, depth + 1)?;
                Ok(())
            }
            _ => reader.skip(depth),
        }
    })?;
    Ok(found)
}
