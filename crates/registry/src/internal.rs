//! Structures as upstream's error texts show them: not in an API version's form but in the server's internal one, with
//! every field written under its Go name. `internal_names.txt` holds those names, a message a line:
//! `message name:kind[?][=json][>embedded]…`, where the kind says what an unset field shows (`s`tring, `n`umber, `b`ool,
//! `p`ointer or list, `m`essage, `t`ime, `q`uantity, `i`nt or string, `+` embedded), `?` that it is left out then, and
//! `json` the field's name in the API where that is not the Go name with a small first letter.

use std::collections::HashMap;
use std::sync::LazyLock;

use api::Tree;
use api::model::{Field, MessageRef, Shape, Type};
use api::tree::Object;
use machinery::fieldpath::Shown;

struct Name {
    shown: &'static str,
    kind: char,
    omitted: bool,
    json: String,
    embedded: &'static str,
}

static NAMES: LazyLock<HashMap<&'static str, Vec<Name>>> = LazyLock::new(|| {
    let message = |line: &'static str| {
        let (message, fields) = line.split_once(' ').unwrap_or((line, ""));
        (message, fields.split_whitespace().filter_map(name).collect())
    };
    include_str!("internal_names.txt").lines().map(message).collect()
});

fn name(token: &'static str) -> Option<Name> {
    let (token, embedded) = token.split_once('>').unwrap_or((token, ""));
    let (token, json) = token.split_once('=').map_or((token, None), |(token, json)| (token, Some(json)));
    let (shown, kind) = token.split_once(':')?;
    let small = || {
        let mut letters = shown.chars();
        letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
    };
    let json = json.map_or_else(small, str::to_owned);
    Some(Name { shown, kind: kind.chars().next()?, omitted: kind.ends_with('?'), json, embedded })
}

const API: &str = "k8s.io.api.";

/// The internal form of a message of `k8s.io/api`, named without that prefix: `core.v1.PodSpec`.
pub fn form(tree: &Tree, message: &str) -> Tree {
    if tree.is_null() {
        return Tree::Null;
    }
    let mut out = Object::new();
    fill(tree, message, &mut out);
    Tree::Object(out)
}

/// The form as error texts show it.
pub fn shown(tree: &Tree, message: &str) -> Shown<'static> {
    Shown::Plain(String::from_utf8(api::json::to_vec(&form(tree, message))).unwrap_or_default())
}

/// What changed between two messages, as lines of their internal forms.
pub fn difference(old: &Tree, new: &Tree, message: &str) -> String {
    let lines = |tree: &Tree| {
        let mut out = Vec::new();
        api::json::write_indented(&api::json::to_vec(&form(tree, message)), &mut out);
        let text = String::from_utf8(out).unwrap_or_default();
        // One space a level.
        let halved = |line: &str| {
            let rest = line.trim_start_matches(' ');
            format!("{}{rest}", " ".repeat((line.len() - rest.len()) / 2))
        };
        text.lines().map(halved).collect::<Vec<_>>().join("\n")
    };
    machinery::difference::unified(&lines(old), &lines(new))
}

fn fill(tree: &Tree, message: &str, out: &mut Object) {
    let Some(names) = NAMES.get(message) else {
        let own = tree.as_object().into_iter().flatten();
        out.extend(own.map(|(key, value)| (key.clone(), value.clone())));
        return;
    };
    let model = api::tables::message(&format!("{API}{message}"));
    for name in names {
        if name.kind == '+' {
            let inner = if name.json.is_empty() { tree } else { tree.get(&name.json).unwrap_or(&Tree::Null) };
            fill(inner, name.embedded, out);
            continue;
        }
        if name.json.is_empty() {
            out.insert(name.shown.to_owned(), form(tree, name.embedded));
            continue;
        }
        let value = tree.get(&name.json).unwrap_or(&Tree::Null);
        if name.omitted && crate::tree::unset(value) {
            continue;
        }
        let value = match (value.is_null(), name.kind) {
            (true, 's') => "".into(),
            (true, 'n' | 'i') => 0.into(),
            (true, 'b') => false.into(),
            (true, 'q') => "0".into(),
            (true, 'm') => member(&Tree::Object(Object::new()), model, &name.json),
            (true, _) => Tree::Null,
            (false, _) => member(value, model, &name.json),
        };
        out.insert(name.shown.to_owned(), value);
    }
}

fn find(message: MessageRef<'static>, json: &str) -> Option<&'static Field> {
    message.fields().iter().find_map(|field| match field.ty {
        Type::Message(inner) if field.json.is_empty() => find(message.at(inner), json),
        _ => (field.json == json).then_some(field),
    })
}

/// A field's value, its messages in their internal form, its maps by key.
fn member(value: &Tree, message: Option<MessageRef<'static>>, json: &str) -> Tree {
    let Some(field) = message.and_then(|message| find(message, json)) else { return value.clone() };
    let inner = match field.ty {
        Type::Message(index) => {
            let message = &api::tables::messages()[index as usize];
            message.name.strip_prefix(API).filter(|_| message.leaf.is_none())
        }
        _ => None,
    };
    let one = |value: &Tree| inner.map_or_else(|| value.clone(), |message| form(value, message));
    match (field.shape, value) {
        (Shape::List, Tree::Array(items)) => Tree::Array(items.iter().map(one).collect()),
        (Shape::Map, Tree::Object(map)) => {
            let mut map: Object = map.iter().map(|(key, value)| (key.clone(), one(value))).collect();
            map.sort_keys();
            Tree::Object(map)
        }
        _ => one(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn forms() {
        let taint = json!({"key": "a", "effect": "NoSchedule"});
        assert_eq!(
            form(&taint, "core.v1.Taint"),
            json!({"Key": "a", "Value": "", "Effect": "NoSchedule", "TimeAdded": null})
        );
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}});
        let form = form(&template, "core.v1.PodTemplateSpec");
        assert_eq!(form["labels"]["a"], "b");
        assert_eq!(form["Spec"]["Containers"][0]["Resources"]["Limits"], Tree::Null);
    }

    /// Every name stands for a field of the model.
    #[test]
    fn names_are_the_model_s() {
        for (message, names) in NAMES.iter() {
            let model = api::tables::message(&format!("{API}{message}")).expect(message);
            for name in names.iter().filter(|name| !name.json.is_empty() && name.json != "-") {
                assert!(find(model, &name.json).is_some(), "{message} {}", name.json);
            }
        }
    }
}
