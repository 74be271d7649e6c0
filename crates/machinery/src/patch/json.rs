//! JSON patch. Beyond RFC 6902: replacing a missing member adds it, copying a missing one copies null, a missing
//! `value` is null, and negative indices count from the end.

use api::Tree;
use api::decode::MAX_DEPTH;

use super::{Error, Rejection};

/// More operations than this are refused.
const MAX_OPERATIONS: usize = 10_000;
/// What all copies of a patch may add, in bytes of JSON: copies of copies would grow without end.
const MAX_COPIED: usize = 3 << 20;

/// How many elements may be moved by insertions and removals in front of them, as each moves all behind its place; and how many bytes
/// of kept text may be read.
const MAX_MOVED: usize = 50_000_000;

/// What the operations have cost so far, beyond their own size.
#[derive(Default)]
struct Spent {
    /// Bytes that copies have added.
    copied: usize,
    /// Elements moved, and bytes of kept text read.
    moved: usize,
    /// Something was put where it is nested too deep.
    too_deep: bool,
}

impl Spent {
    /// The value, where it may stand there: operations could nest what each of them has without end.
    fn checked(&mut self, path: &[String], value: Tree) -> Option<Tree> {
        let fits = MAX_DEPTH.checked_sub(path.len()).is_some_and(|left| value.is_within(left));
        self.too_deep |= !fits;
        fits.then_some(value)
    }
}

pub fn json(target: &Tree, patch: &Tree) -> Result<Tree, Error> {
    let Tree::Array(operations) = patch else {
        let kind = match patch {
            Tree::Object(_) => "object",
            Tree::String(_) => "string",
            Tree::Number(_) => "number",
            Tree::Bool(_) => "bool",
            _ => return Ok(target.clone()),
        };
        return Err(Error::Malformed(format!(
            "error decoding patch: json: cannot unmarshal {kind} into Go value of type []handlers.jsonPatchOp"
        )));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(Error::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    for operation in operations {
        check_types(operation)?;
    }
    let mut result = target.clone();
    let mut spent = Spent::default();
    for operation in operations {
        let applied = apply(&mut result, operation, &mut spent);
        if spent.too_deep {
            return Err(Error::TooLarge("exceeded max depth".to_owned()));
        }
        if applied.is_none() {
            return Err(Error::Rejected(rejection(&mut result, operation)));
        }
        if spent.moved > MAX_MOVED {
            return Err(Error::TooLarge(
                "the operations of the JSON patch move too many elements".to_owned(),
            ));
        }
    }
    Ok(result)
}

/// An operation is an object, and what names it and its places is text.
fn check_types(operation: &Tree) -> Result<(), Error> {
    let kind = match operation {
        Tree::Object(_) | Tree::Null => "",
        Tree::Array(_) => "array",
        Tree::String(_) => "string",
        Tree::Number(_) => "number",
        Tree::Bool(_) => "bool",
    };
    if !kind.is_empty() {
        return Err(Error::Malformed(format!(
            "error decoding patch: json: cannot unmarshal {kind} into Go value of type handlers.jsonPatchOp"
        )));
    }
    for name in ["op", "path", "from"] {
        let kind = match operation.get(name) {
            None | Some(Tree::Null | Tree::String(_)) => continue,
            Some(Tree::Number(_)) => "number",
            Some(Tree::Bool(_)) => "bool",
            Some(Tree::Array(_)) => "array",
            Some(Tree::Object(_)) => "object",
        };
        return Err(Error::Malformed(format!(
            "error decoding patch: json: cannot unmarshal {kind} into Go struct field jsonPatchOp.{name} of type string"
        )));
    }
    Ok(())
}

fn apply(document: &mut Tree, operation: &Tree, spent: &mut Spent) -> Option<()> {
    let text = |name: &str| operation.get(name).and_then(Tree::as_str);
    let value = || operation.get("value").cloned().unwrap_or(Tree::Null);
    if (text("op"), text("path")) == (Some("replace"), Some("")) {
        *document = operation.get("value").filter(|value| value.is_object())?.clone();
        return Some(());
    }
    let path = pointer(text("path")?)?;
    open_along(document, &path, spent)?;
    if let Some(from) = text("from").and_then(pointer) {
        open_along(document, &from, spent)?;
    }
    match text("op")? {
        "add" => add(document, &path, value(), spent),
        "remove" => remove(document, &path, spent).map(drop),
        "replace" => replace(document, &path, spent.checked(&path, value())?),
        "test" => {
            let found = find(document, &path)?.unwrap_or(&Tree::Null);
            spent.moved += api::raw::kept(found).map_or(0, str::len);
            let opened = api::raw::opened(found);
            (*opened.as_ref().unwrap_or(found) == value()).then_some(())
        }
        "move" => {
            let taken = remove(document, &pointer(text("from")?)?, spent)?;
            spent.moved += taken.count();
            add(document, &path, taken, spent)
        }
        "copy" => {
            let copy = find(document, &pointer(text("from")?)?)?.cloned().unwrap_or(Tree::Null);
            spent.copied += serde_json::to_vec(&copy).ok()?.len();
            if spent.copied > MAX_COPIED {
                return None;
            }
            add(document, &path, copy, spent)
        }
        _ => None,
    }
}

/// Why an operation does not apply, in upstream's words.
fn rejection(document: &mut Tree, operation: &Tree) -> Rejection {
    let text = |name: &str| operation.get(name).and_then(Tree::as_str).unwrap_or_default();
    let (kind, path, from) = (text("op"), text("path"), text("from"));
    let missing = |words: String| Rejection { tested: false, words: format!("{words}: missing value") };
    let parent = path.rsplit_once('/').and_then(|(parent, _)| match parent {
        "" => Some(true),
        parent => find(document, &pointer(parent)?).map(|found| found.is_some()),
    });
    match (kind, parent) {
        ("test", Some(true)) => {
            Rejection { tested: true, words: format!("testing value {path} failed: test failed") }
        }
        ("test", _) => missing(format!("test operation does not apply: is missing path: {path}")),
        ("remove", Some(true)) => {
            let key = path.rsplit('/').next().unwrap_or_default();
            missing(format!("error in remove for path: '{path}': Unable to remove nonexistent key: {key}"))
        }
        ("replace", Some(true)) => {
            missing(format!("replace operation does not apply: doc is missing key: {path}"))
        }
        ("replace", _) => missing(format!("replace operation does not apply: doc is missing path: {path}")),
        ("add" | "remove", _) => {
            missing(format!("{kind} operation does not apply: doc is missing path: \"{path}\""))
        }
        ("move" | "copy", _) => {
            missing(format!("{kind} operation does not apply: doc is missing from path: {from}"))
        }
        _ => Rejection { tested: false, words: format!("Unexpected kind: {kind}") },
    }
}

/// The steps of a pointer to anything but the whole document. What stands before its first slash does not count.
fn pointer(text: &str) -> Option<Vec<String>> {
    let (_, rest) = text.split_once('/')?;
    Some(rest.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect())
}

fn index(step: &str, length: usize) -> Option<usize> {
    let number: i64 = step.parse().ok()?;
    let number = if number < 0 { number + length as i64 } else { number };
    usize::try_from(number).ok()
}

fn child<'t>(tree: &'t mut Tree, step: &str) -> Option<&'t mut Tree> {
    match tree {
        Tree::Object(map) => map.get_mut(step),
        Tree::Array(list) => {
            let at = index(step, list.len())?;
            list.get_mut(at)
        }
        _ => None,
    }
}

/// Takes apart what is kept as text on the way to a place.
fn open_along(document: &mut Tree, path: &[String], spent: &mut Spent) -> Option<()> {
    let mut tree = document;
    for step in path.iter().take(path.len().saturating_sub(1)) {
        let Some(next) = child(tree, step) else { return Some(()) };
        spent.moved += api::raw::kept(next).map_or(0, str::len);
        super::open(next).ok()?;
        tree = next;
    }
    Some(())
}

fn parent<'t, 'p>(document: &'t mut Tree, path: &'p [String]) -> Option<(&'t mut Tree, &'p str)> {
    let (last, steps) = path.split_last()?;
    let container = steps.iter().try_fold(document, |tree, step| child(tree, step))?;
    Some((container, last))
}

/// `None` where the way there is missing, `Some(None)` where only the member is.
fn find<'t>(document: &'t Tree, path: &[String]) -> Option<Option<&'t Tree>> {
    let (last, steps) = path.split_last()?;
    let mut tree = document;
    for step in steps {
        tree = match tree {
            Tree::Object(map) => map.get(step)?,
            Tree::Array(list) => list.get(index(step, list.len())?)?,
            _ => return None,
        };
    }
    match tree {
        Tree::Object(map) => Some(map.get(last)),
        Tree::Array(list) => Some(Some(list.get(index(last, list.len())?)?)),
        _ => None,
    }
}

fn add(document: &mut Tree, path: &[String], value: Tree, spent: &mut Spent) -> Option<()> {
    let value = spent.checked(path, value)?;
    match parent(document, path)? {
        (Tree::Object(map), key) => {
            map.insert(key.to_owned(), value);
        }
        (Tree::Array(list), "-") => list.push(value),
        (Tree::Array(list), key) => {
            // From the end, -1 is behind the last element.
            let at = index(key, list.len() + 1)?;
            spent.moved += list.len().checked_sub(at)?;
            list.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(document: &mut Tree, path: &[String], spent: &mut Spent) -> Option<Tree> {
    match parent(document, path)? {
        (Tree::Object(map), key) => {
            spent.moved += map.len();
            map.remove(key)
        }
        (Tree::Array(list), key) => {
            let at = index(key, list.len())?;
            spent.moved += list.len().checked_sub(at + 1)?;
            Some(list.remove(at))
        }
        _ => None,
    }
}

fn replace(document: &mut Tree, path: &[String], value: Tree) -> Option<()> {
    match parent(document, path)? {
        (Tree::Object(map), key) => {
            map.insert(key.to_owned(), value);
            Some(())
        }
        (container, key) => child(container, key).map(|place| *place = value),
    }
}
