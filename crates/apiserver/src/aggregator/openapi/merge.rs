//! Cuts and merges OpenAPI v2 documents, as upstream's aggregator does: of two paths of one name the first stays, of two schemas or
//! parameters of one name the second gets another.

use std::collections::{HashMap, HashSet};

use api::Tree;
use api::tree::Object;
use registry::tree::{entries, get, list, text};

const DEFINITION: &str = "#/definitions/";
const PARAMETER: &str = "#/parameters/";
const KINDS: &str = "x-kubernetes-group-version-kind";

/// A document of the paths below a prefix, with the schemas that they use and those that nobody used before.
pub fn below(document: &Tree, prefix: &str) -> Tree {
    with_paths(document, |path| path.starts_with(prefix))
}

fn with_paths(document: &Tree, keep: impl Fn(&str) -> bool) -> Tree {
    let (Some(all), Some(paths)) = (document.as_object(), get(document, "paths").as_object()) else {
        return document.clone();
    };
    let mut cut: Object = all.iter().filter(|(key, _)| *key != "definitions").map(owned).collect();
    let definitions = get(document, "definitions");
    let before = reached(cut.values(), definitions);
    cut.insert("paths", Tree::Object(paths.iter().filter(|(path, _)| keep(path)).map(owned).collect()));
    let now = reached(cut.values(), definitions);
    let stays = |name: &str| now.contains(name) || !before.contains(name);
    let kept = definitions.as_object().into_iter().flatten().filter(|(name, _)| stays(name));
    cut.insert("definitions", Tree::Object(kept.map(owned).collect()));
    Tree::Object(cut)
}

fn owned<K: Clone>((key, value): (&K, &Tree)) -> (K, Tree) {
    (key.clone(), value.clone())
}

/// The schemas that parts of a document lead to.
fn reached<'t>(parts: impl Iterator<Item = &'t Tree>, definitions: &Tree) -> HashSet<String> {
    let mut found: HashSet<String> = parts.flat_map(used).collect();
    let mut open: Vec<String> = found.iter().cloned().collect();
    while let Some(name) = open.pop() {
        for name in definitions.get(name.as_str()).map(used).unwrap_or_default() {
            if found.insert(name.clone()) {
                open.push(name);
            }
        }
    }
    found
}

/// The schemas that are named in a tree.
fn used(tree: &Tree) -> HashSet<String> {
    let mut found = HashSet::new();
    references(tree, &mut |reference| {
        if let Some(name) = reference.strip_prefix(DEFINITION) {
            found.insert(name.to_owned());
        }
    });
    found
}

fn references(tree: &Tree, see: &mut impl FnMut(&str)) {
    match tree {
        Tree::Object(members) => {
            members.iter().for_each(|(key, value)| match (key.as_str(), value.as_str()) {
                ("$ref", Some(reference)) => see(reference),
                _ => references(value, see),
            })
        }
        Tree::Array(items) => items.iter().for_each(|item| references(item, see)),
        _ => {}
    }
}

fn rename(tree: &mut Tree, names: &HashMap<String, String>) {
    match tree {
        Tree::Object(members) => {
            for (key, value) in members.iter_mut() {
                match (key.as_str(), value.as_str().and_then(|reference| names.get(reference))) {
                    ("$ref", Some(name)) => *value = name.as_str().into(),
                    _ => rename(value, names),
                }
            }
        }
        Tree::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        _ => {}
    }
}

/// A document with others merged into it, the more important ones first.
pub fn merged<'t>(mut document: Tree, others: impl IntoIterator<Item = &'t Tree>) -> Tree {
    others.into_iter().for_each(|other| merge(&mut document, other));
    for field in ["paths", "definitions", "parameters"] {
        if let Some(members) = document.get_mut(field).and_then(Tree::as_object_mut) {
            members.sort_keys();
        }
    }
    document
}

fn merge(document: &mut Tree, other: &Tree) {
    let Some(paths) = get(other, "paths").as_object() else { return };
    let is_known = |path: &str| document["paths"].get(path).is_some();
    let known = paths.keys().filter(|path| is_known(path)).count();
    if known == paths.len() {
        return;
    }
    let mut other = match known {
        0 => other.clone(),
        _ => with_paths(other, |path| !is_known(path)),
    };
    let mut names = HashMap::new();
    for (field, prefix) in [("definitions", DEFINITION), ("parameters", PARAMETER)] {
        for (from, to) in renames(document, &other, field) {
            names.insert(format!("{prefix}{from}"), format!("{prefix}{to}"));
        }
    }
    if !names.is_empty() {
        rename(&mut other, &names);
    }
    for (field, prefix) in [("definitions", DEFINITION), ("parameters", PARAMETER)] {
        let Some(members) = other.get_mut(field).and_then(Tree::as_object_mut) else { continue };
        let members = std::mem::take(members);
        let Some(place) = member(document, field) else { continue };
        for (name, value) in members {
            let new = names.get(&format!("{prefix}{name}")).map(|name| &name[prefix.len()..]);
            let name = new.unwrap_or(&name);
            match place.get_mut(name) {
                Some(own) => merge_kinds(own, &value),
                None => drop(place.insert(name, value)),
            }
        }
    }
    let Some(members) = other.get_mut("paths").and_then(Tree::as_object_mut) else { return };
    let members = std::mem::take(members);
    if let Some(place) = member(document, "paths") {
        members.into_iter().for_each(|(path, item)| drop(place.insert(path, item)));
    }
}

fn member<'t>(document: &'t mut Tree, field: &str) -> Option<&'t mut Object> {
    if !document.get(field).is_some_and(Tree::is_object) {
        document[field] = Tree::Object(Object::new());
    }
    document.get_mut(field)?.as_object_mut()
}

/// The new names of what is called as something else is.
fn renames(document: &Tree, other: &Tree, field: &str) -> Vec<(String, String)> {
    let (own, theirs) = (get(document, field), get(other, field));
    let mut taken: HashSet<String> = HashSet::new();
    let mut renames = Vec::new();
    for (name, value) in entries(other, field) {
        let Some(existing) = own.get(name) else { continue };
        if alike(existing, value) {
            continue;
        }
        let mut number = 1;
        let new = loop {
            number += 1;
            let new = format!("{name}_v{number}");
            match own.get(new.as_str()) {
                Some(existing) if alike(existing, value) => break new,
                Some(_) => {}
                None if taken.contains(&new) || theirs.get(new.as_str()).is_some() => {}
                None => break new,
            }
        };
        taken.insert(new.clone());
        renames.push((name.to_owned(), new));
    }
    renames
}

/// Whether two schemas say the same; for which kinds they do does not count.
fn alike(one: &Tree, other: &Tree) -> bool {
    match (one, other) {
        (Tree::Object(x), Tree::Object(y)) => {
            let count = |members: &Object| members.len() - usize::from(members.contains_key(KINDS));
            let mut own = x.iter().filter(|(key, _)| *key != KINDS);
            count(x) == count(y) && own.all(|(key, value)| y.get(key) == Some(value))
        }
        _ => one == other,
    }
}

fn merge_kinds(own: &mut Tree, other: &Tree) {
    let others = list(other, KINDS);
    if others.is_empty() || !own.is_object() {
        return;
    }
    let key =
        |kind: &Tree| format!("{}/{}.{}", text(kind, "group"), text(kind, "version"), text(kind, "kind"));
    let mut all = list(own, KINDS).to_vec();
    let before = all.len();
    for kind in others {
        if !all.iter().any(|own| key(own) == key(kind)) {
            all.push(kind.clone());
        }
    }
    if all.len() > before {
        if before > 0 {
            all.sort_by_key(key);
        }
        own[KINDS] = Tree::Array(all);
    }
}

#[cfg(test)]
mod tests {
    use api::json;

    use super::*;

    fn uses(name: &str) -> Tree {
        json!({"get": {"schema": {"$ref": format!("#/definitions/{name}")}}})
    }

    #[test]
    fn a_document_is_cut_to_its_paths_and_what_they_use() {
        let document = json!({
            "swagger": "2.0",
            "paths": {"/apis/a/v1/x": uses("X"), "/apis/a/v1beta1/x": uses("Beta"), "/version": uses("Version")},
            "definitions": {
                "X": {"properties": {"y": {"$ref": "#/definitions/Y"}}},
                "Y": {"type": "string"},
                "Beta": {"properties": {"y": {"$ref": "#/definitions/Y"}, "z": {"$ref": "#/definitions/Z"}}},
                "Z": {"type": "string"},
                "Version": {"type": "object"},
                "Spare": {"type": "object"},
            },
        });
        let cut = below(&document, "/apis/a/v1/");
        let names = |field: &str| entries(&cut, field).map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names("paths"), ["/apis/a/v1/x"]);
        assert_eq!(names("definitions"), ["X", "Y", "Spare"]);
        assert_eq!(cut["swagger"], "2.0");
    }

    #[test]
    fn what_is_called_alike_and_is_not_gets_another_name() {
        let own = json!({
            "paths": {"/a": uses("Meta")},
            "definitions": {
                "Meta": {"type": "object", KINDS: [{"group": "a", "version": "v1", "kind": "M"}]},
                "Same": {"type": "object"},
                "Meta_v2": {"type": "integer"},
            },
        });
        let other = json!({
            "paths": {"/a": uses("Same"), "/b": uses("Meta"), "/c": uses("Same")},
            "definitions": {
                "Meta": {"type": "string"},
                "Same": {"type": "object", KINDS: [{"group": "b", "version": "v1", "kind": "M"}]},
                "Own": {"$ref": "#/definitions/Meta"},
            },
            "parameters": {"p": {"in": "query"}},
        });
        let both = merged(own, [&other]);
        let expect = json!({
            "paths": {"/a": uses("Meta"), "/b": uses("Meta_v3"), "/c": uses("Same")},
            "definitions": {
                "Meta": {"type": "object", KINDS: [{"group": "a", "version": "v1", "kind": "M"}]},
                "Meta_v2": {"type": "integer"},
                "Meta_v3": {"type": "string"},
                "Own": {"$ref": "#/definitions/Meta_v3"},
                "Same": {"type": "object", KINDS: [{"group": "b", "version": "v1", "kind": "M"}]},
            },
            "parameters": {"p": {"in": "query"}},
        });
        assert_eq!(both, expect);
        assert_eq!(merged(both.clone(), [&other]), both);
    }
}
