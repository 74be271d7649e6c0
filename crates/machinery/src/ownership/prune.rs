//! Removal of fields from an object: those that a manager no longer applies and nobody else owns.

use api::Tree;
use api::tree::Object;

use super::types::{Form, Type};
use super::{Element, Node, Set};

/// The value without the fields of a set. What becomes empty by that is null.
pub fn remove(value: &Tree, set: &Set, ty: Type<'_>) -> Tree {
    match (ty.form(value), value) {
        (Form::Scalar(_), _) => value.clone(),
        (Form::List(Some(list)), Tree::Array(items)) => {
            let mut kept = Vec::with_capacity(items.len());
            for item in items {
                match list.element(item).ok().and_then(|element| set.get(&element)) {
                    Some(node) if node.member => {}
                    Some(node) => kept.push(remove(item, &node.below, list.item())),
                    None => kept.push(item.clone()),
                }
            }
            if kept.is_empty() { Tree::Null } else { Tree::Array(kept) }
        }
        (Form::Map(map), Tree::Object(members)) if !map.atomic => {
            let mut kept = Object::with_capacity(members.len());
            for (key, member) in members {
                match set.get_field(key) {
                    Some(node) if node.member => {}
                    Some(node) => {
                        let ty = map.member(key).unwrap_or(Type::Opaque);
                        kept.insert(key.clone(), remove(member, &node.below, ty));
                    }
                    None => {
                        kept.insert(key.clone(), member.clone());
                    }
                }
            }
            if kept.is_empty() { Tree::Null } else { Tree::Object(kept) }
        }
        _ => Tree::Null,
    }
}

/// The set with the fields of messages that lead to its members. Keys of maps and items of lists are not added:
/// whoever owns what is inside does not keep them alive.
pub fn with_named_parents(set: &Set, ty: Option<Type<'_>>) -> Set {
    let node = |node: &Node| {
        let declared = ty.is_some_and(|ty| ty.declares(&node.element));
        let below = match &node.element {
            element @ (Element::Field(_) | Element::Key(_)) => ty.and_then(|ty| ty.below(element)),
            _ => None,
        };
        Node {
            element: node.element.clone(),
            member: node.member || declared && !node.below.nodes.is_empty(),
            below: with_named_parents(&node.below, below),
        }
    };
    Set { nodes: set.nodes.iter().map(node).collect() }
}
