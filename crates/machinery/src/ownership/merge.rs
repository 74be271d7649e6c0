//! Merge of an applied configuration into a live object: what it states replaces, what it leaves out stays.

use std::collections::BTreeSet;

use api::Tree;
use api::tree::Object;

use super::Element;
use super::element::same;
use super::types::{Form, Items, List, NoPath, Type};

/// The live object with the configuration merged into it. Members stand in the live object's order.
pub fn merge(live: &Tree, config: &Tree, ty: Type<'_>) -> Result<Tree, NoPath> {
    Ok(merged(Some(live), Some(config), ty)?.unwrap_or(Tree::Null))
}

fn is_empty(value: Option<&Tree>) -> bool {
    match value {
        Some(Tree::Object(members)) => members.is_empty(),
        Some(Tree::Array(items)) => items.is_empty(),
        _ => true,
    }
}

fn merged(live: Option<&Tree>, config: Option<&Tree>, ty: Type<'_>) -> Result<Option<Tree>, NoPath> {
    // What is equal stays as it was written, which matters to text that no model describes.
    let whole = || match (live, config) {
        (Some(live), Some(config)) if same(live, config) => Some(live.clone()),
        _ => config.or(live).cloned(),
    };
    let (Some(live_value), Some(config_value)) = (live, config) else { return Ok(whole()) };
    match ty.form(config_value) {
        Form::Scalar(_) | Form::List(None) => Ok(whole()),
        Form::Map(map) if !map.atomic => {
            let (old, new) = (live_value.as_object(), config_value.as_object());
            if is_empty(old.and(live)) && is_empty(new.and(config)) {
                return Ok(whole());
            }
            let mut out = Object::with_capacity(old.map_or(0, Object::len) + new.map_or(0, Object::len));
            let type_of = |key: &str| map.member(key).unwrap_or(Type::Opaque);
            for (key, value) in old.into_iter().flatten() {
                let other = new.and_then(|new| new.get(key));
                if let Some(value) = merged(Some(value), other, type_of(key))? {
                    out.insert(key.clone(), value);
                }
            }
            for (key, value) in new.into_iter().flatten() {
                if old.is_none_or(|old| !old.contains_key(key)) {
                    out.insert(key.clone(), value.clone());
                }
            }
            Ok((!out.is_empty()).then(|| Tree::Object(out)))
        }
        Form::Map(_) => Ok(whole()),
        Form::List(Some(list)) => {
            if is_empty(live) && is_empty(config) {
                return Ok(whole());
            }
            let items = merge_items(
                live_value.as_array().map_or(&[][..], Vec::as_slice),
                config_value.as_array().map_or(&[][..], Vec::as_slice),
                list,
            )?;
            Ok((!items.is_empty()).then(|| Tree::Array(items)))
        }
    }
}

/// Merges lists by the elements that lead to their items. Items of the configuration keep their order among
/// themselves; those of the live object alone stay behind the item that they stood behind.
fn merge_items(live: &[Tree], config: &[Tree], list: List<'_>) -> Result<Vec<Tree>, NoPath> {
    let elements =
        |items: &[Tree]| items.iter().map(|item| list.element(item)).collect::<Result<Vec<_>, _>>();
    let index = |items| Items::of(list, items).map_err(|(_, error)| error);
    let (live_order, config_order) = (elements(live)?, elements(config)?);
    let (live_index, config_index) = (index(live)?, index(config)?);
    let merge_one = |element: &Element| {
        let live = match live_index.get(element) {
            [one] => Some(*one),
            // Repeated items are not merged into: the configuration's one replaces them.
            _ => None,
        };
        merged(live, config_index.get(element).first().copied(), list.item())
    };
    let mut shared = config_order.iter().filter(|element| !live_index.get(element).is_empty()).peekable();
    let mut done: BTreeSet<&Element> = BTreeSet::new();
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let (mut at_live, mut at_config) = (0, 0);
    while at_live < live.len() || at_config < config.len() {
        if let (Some(old), Some(new)) = (live_order.get(at_live), config_order.get(at_config)) {
            if old == new {
                out.extend(merge_one(new)?);
                done.insert(new);
                (at_live, at_config) = (at_live + 1, at_config + 1);
                shared.next();
                continue;
            }
            let later = shared.peek().is_some_and(|next| **next != *old);
            if later && !config_index.get(old).is_empty() {
                // It comes at its place in the configuration.
                at_live += 1;
                continue;
            }
        }
        if let Some(old) = live_order.get(at_live) {
            if config_index.get(old).is_empty() {
                out.push(live[at_live].clone());
                at_live += 1;
                continue;
            }
            if done.contains(old) {
                at_live += 1;
            }
        }
        if let Some(new) = config_order.get(at_config) {
            out.extend(merge_one(new)?);
            done.insert(new);
            at_config += 1;
            if shared.peek().is_some_and(|next| **next == *new) {
                shared.next();
            }
        }
    }
    Ok(out)
}
