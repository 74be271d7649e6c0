//! No list that a client may send makes the server work more than in proportion to its length: every list and map of
//! every kind, with items that are empty, repeated, all different and all wrong, through all that happens to a body.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;

use api::Tree;
use api::decode::{Expected, Format, Strictness};
use api::model::{MessageRef, Shape, Type};
use api::status::{MAX_CAUSES, Status};

use super::{context, resource};
use crate::kind::Kind;
use crate::tree::{as_object, ensure, text};

const MODULE: &str = "k8s.io/api@v0.37.1";
/// More items than an answer names causes; of large items fewer fit into a body anyway.
const MOST: usize = MAX_CAUSES + OVERSHOOT + 60;
const BYTES: usize = 100_000;
/// Into how many parts the items are divided: each should take its part of the time.
const PART: usize = 4;
/// How often what looks out of proportion is measured before that is believed.
const ROUNDS: usize = 8;
/// Work of less than this is not compared: it is too short to be measured.
const NOTICEABLE: u64 = 30_000_000;
/// A single item may say several things before the walk looks whether that is enough.
const OVERSHOOT: usize = 128;

/// Published objects with every field set. See `crates/api/tests/it/testdata.rs`.
fn samples() -> Vec<Tree> {
    let directory = std::env::var_os("CORTEN_TESTDATA").map(PathBuf::from).or_else(|| {
        let mut go = Command::new("go");
        let output =
            go.args(["mod", "download", "-json", MODULE]).current_dir(std::env::temp_dir()).output().ok()?;
        let answer: Tree = serde_json::from_slice(&output.stdout).ok()?;
        Some(PathBuf::from(answer.get("Dir")?.as_str()?).join("testdata/HEAD"))
    });
    let Some(directory) = directory else {
        assert!(std::env::var_os("CI").is_none(), "no test data: CI must have Go or CORTEN_TESTDATA");
        eprintln!("skipped: no test data (neither Go nor CORTEN_TESTDATA)");
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let read = |path: PathBuf| serde_json::from_slice::<Tree>(&std::fs::read(path).unwrap()).unwrap();
    let served = |object: &Tree| {
        let version = text(object, "apiVersion");
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        api::tables::kind(group, version, text(object, "kind")).is_some_and(|kind| !kind.plural.is_empty())
    };
    let samples: Vec<Tree> = paths.into_iter().map(read).filter(served).collect();
    assert!(samples.len() > 50, "only {} samples", samples.len());
    // Fields common to all objects are measured in the first sample only.
    let short = |(index, mut sample): (usize, Tree)| {
        if index > 0 {
            as_object(&mut sample)["metadata"] = api::json!({"name": "name", "namespace": "space"});
        }
        sample
    };
    samples.into_iter().enumerate().map(short).collect()
}

/// JSON pointers of the lists and maps of an object, each field of each message once in all.
fn places(
    tree: &Tree,
    message: MessageRef<'_>,
    at: &str,
    known: &mut HashSet<(u32, String)>,
    found: &mut Vec<String>,
) {
    for field in message.json_fields() {
        let Some(value) = tree.get(field.json.as_ref()) else { continue };
        let place = format!("{at}/{}", field.json);
        let inner = match field.ty {
            Type::Message(inner) => Some(message.at(inner)).filter(|inner| inner.leaf.is_none()),
            _ => None,
        };
        if field.shape != Shape::One
            && field.json != "managedFields"
            && known.insert((message.index, field.json.to_string()))
        {
            found.push(place.clone());
        }
        let Some(inner) = inner else { continue };
        match (field.shape, value) {
            (Shape::One, value) => places(value, inner, &place, known, found),
            (_, Tree::Array(items)) if !items.is_empty() => {
                places(&items[0], inner, &format!("{place}/0"), known, found);
            }
            (_, Tree::Object(entries)) => {
                for (key, value) in entries.iter().take(1) {
                    places(value, inner, &format!("{place}/{key}"), known, found);
                }
            }
            _ => {}
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Items {
    Empty,
    Repeated,
    Different,
    Wrong,
}

/// An item whose texts and numbers are those of its index.
fn altered(item: &Tree, index: usize, wrong: bool) -> Tree {
    match item {
        Tree::String(_) if wrong => format!("!{index}").into(),
        Tree::String(text) => {
            let short: String = text.chars().take(20).collect();
            format!("{}{index}", short.trim_end_matches("Value").to_lowercase()).into()
        }
        Tree::Number(_) => (index % 30_000 + 1).into(),
        Tree::Array(items) => items.iter().map(|item| altered(item, index, wrong)).collect(),
        Tree::Object(map) => {
            map.iter().map(|(key, value)| (key.clone(), altered(value, index, wrong))).collect()
        }
        other => other.clone(),
    }
}

/// Without what is large and not on the way to a place: it is looked at elsewhere.
fn pruned(tree: &Tree, way: &[&str]) -> Tree {
    const LARGE: usize = 400;
    let Some((step, rest)) = way.split_first() else { return tree.clone() };
    match tree {
        Tree::Object(map) => map
            .iter()
            .filter(|(key, value)| key == step || value.to_string().len() < LARGE)
            .map(|(key, value)| (key.clone(), if key == step { pruned(value, rest) } else { value.clone() }))
            .collect(),
        Tree::Array(items) => items.iter().map(|item| pruned(item, rest)).collect(),
        other => other.clone(),
    }
}

/// The object with the list at a place made that long.
fn grown(sample: &Tree, place: &str, items: Items, count: usize) -> Tree {
    let mut object = sample.clone();
    ensure(&mut object, "metadata").insert("name", "name".into());
    let Some(value) = object.pointer_mut(place) else { return object };
    let item = |first: &Tree, index| match items {
        Items::Empty if first.is_object() => api::json!({}),
        Items::Empty => "".into(),
        Items::Repeated => first.clone(),
        Items::Different => altered(first, index, false),
        Items::Wrong => altered(first, index, true),
    };
    *value = match &*value {
        Tree::Array(all) => {
            let first = all.first().cloned().unwrap_or("x".into());
            (0..count).map(|index| item(&first, index)).collect()
        }
        Tree::Object(all) => {
            let first = all.values().next().cloned().unwrap_or("x".into());
            let mark = if matches!(items, Items::Wrong) { "!" } else { "k" };
            let entries = (0..count).map(|index| (format!("{mark}{index}"), item(&first, index)));
            Tree::Object(entries.collect())
        }
        other => other.clone(),
    };
    object
}

/// Nanoseconds of processor that this thread has had, to this moment and not to the last tick.
fn processor() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap()
}

/// What happens to a body of each verb, step by step, with the time that each takes.
fn work(resource: &'static Kind, body: &Tree, sample: &Tree, updates: bool) -> Vec<(&'static str, u64)> {
    let mut steps = Vec::new();
    let mut at = processor();
    let mut step = |name| {
        let now = processor();
        steps.push((name, now - at));
        at = now;
    };
    let message = resource.message();
    let strategy = resource.strategy(None);
    let bytes = api::json::to_vec(body);
    step("-");
    let expected = Expected {
        group: &resource.group,
        version: &resource.version,
        kind: &resource.kind,
        message: Some(resource.message()),
    };
    let decoded = api::decode::object(&bytes, Format::Json, expected, Strictness::Strict);
    step("decode");
    let mut object = decoded.map_or_else(|_| body.clone(), |decoded| decoded.tree);
    strategy.default(&mut object).unwrap();
    step("default");
    let origin = object.clone();
    let context = context(resource, &origin, None);
    strategy.prepare_for_create(&context, &mut object).unwrap();
    step("prepare");
    let full = |errors: &[_], what| {
        assert!(errors.len() <= MAX_CAUSES + OVERSHOOT, "{} causes of {what}", errors.len())
    };
    let errors = strategy.validate(&context, &object);
    full(&errors, "a create");
    step("validate");
    Status::invalid("", "", "", errors).to_json();
    step("status");
    strategy.warnings(&context, &object, None);
    step("warnings");
    crate::columns::cells(resource, &object, jiff::Timestamp::UNIX_EPOCH);
    step("cells");
    if !updates {
        return steps;
    }
    let mut old = sample.clone();
    strategy.default(&mut old).unwrap();
    for subresource in [None, Some("status")] {
        let context = super::context(resource, &origin, subresource);
        let strategy = resource.strategy(subresource);
        for old in [&object, &old] {
            let mut changed = origin.clone();
            step("-");
            strategy.prepare_for_update(&context, &mut changed, old);
            step("prepare for update");
            full(&strategy.validate_update(&context, &changed, old), "an update");
            step("validate update");
            let mut back = old.clone();
            step("-");
            strategy.prepare_for_update(&context, &mut back, &object);
            full(&strategy.validate_update(&context, &back, &object), "an update back");
            step("update back");
        }
    }
    let mut raw = Vec::new();
    let encoded = api::wire::tree_to_proto(&object, message, &mut raw);
    step("encode");
    if encoded.is_ok() {
        let _ = api::wire::proto_to_tree(&raw, message, None);
        step("read");
    }
    for (target, patch) in [(&object, &origin), (&old, &origin), (&object, &old)] {
        let _ = machinery::patch::strategic(target, patch, message);
        step("strategic patch");
        let _ = machinery::patch::merge(target, patch);
        step("merge patch");
    }
    steps
}

/// Adds the times of one more run to those of the runs before.
fn add(sums: &mut Vec<(&'static str, u64)>, times: Vec<(&'static str, u64)>) {
    sums.resize(times.len(), ("", 0));
    sums.iter_mut().zip(times).for_each(|(sum, (step, time))| *sum = (step, sum.1 + time));
}

/// The steps in which the whole took more than twice as long as all its parts: were they linear, it would be as long,
/// and were they quadratic, [`PART`] times.
fn out_of_proportion(parts: &[(&'static str, u64)], whole: &[(&'static str, u64)]) -> Vec<String> {
    parts
        .iter()
        .zip(whole)
        .filter(|((step, parts), (_, whole))| *step != "-" && *whole > NOTICEABLE && *whole > 2 * parts)
        .map(|((step, parts), (_, whole))| format!("{step}: {parts} ns in parts, {whole} ns as a whole"))
        .collect()
}

#[test]
fn work_grows_with_the_body() {
    let mut known = HashSet::new();
    let mut failures = Vec::new();
    for sample in samples() {
        let sample = &sample;
        let resource = resource(sample);
        let Some(message) = api::tables::message_of(resource) else { continue };
        let mut found = Vec::new();
        places(sample, message, "", &mut known, &mut found);
        for place in found {
            let sample = &pruned(sample, &place.split('/').skip(1).collect::<Vec<_>>());
            for items in [Items::Empty, Items::Repeated, Items::Different, Items::Wrong] {
                let keyed = sample.pointer(&place).is_some_and(Tree::is_object);
                if keyed && matches!(items, Items::Empty | Items::Repeated) {
                    continue;
                }
                let updates = matches!(items, Items::Different);
                let size = sample.pointer(&place).map_or(0, |value| value.to_string().len());
                let most_items = (BYTES / size.max(1)).clamp(MOST / PART, MOST);
                let measure = |count| work(resource, &grown(sample, &place, items, count), sample, updates);
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    if measure(most_items).iter().all(|(_, time)| *time < NOTICEABLE) {
                        return Vec::new();
                    }
                    let (mut most, mut parts) = (Vec::new(), Vec::new());
                    let mut compare = |rounds| {
                        for _ in 0..rounds {
                            add(&mut most, measure(most_items));
                            (0..PART).for_each(|_| add(&mut parts, measure(most_items / PART)));
                        }
                        out_of_proportion(&parts, &most)
                    };
                    // One run says little: other processes take the caches away.
                    if compare(1).is_empty() { Vec::new() } else { compare(ROUNDS) }
                }));
                let name = format!("{} {place} {items:?}", resource.kind);
                match outcome {
                    Ok(steps) if steps.is_empty() => {}
                    Ok(steps) => failures.push(format!("{name}: {}", steps.join(", "))),
                    Err(panic) => {
                        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                        failures.push(format!("{name}: {text}"));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}\n{} in all", failures.join("\n"), failures.len());
}
