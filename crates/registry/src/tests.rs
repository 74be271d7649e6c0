//! The rules held against what upstream's API server answered. The recordings are files of JSON named by
//! `CORTEN_RECORDED` (a folder); without it these tests say so and pass.

use api::Tree;
use api::model::Resource;
use machinery::fieldpath::invalid_message;

use crate::strategy::Context;
use crate::tree::{as_object, ensure, get, object_mut, text};

fn resource(object: &Tree) -> &'static Resource {
    let version = text(object, "apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    api::tables::kind(group, version, text(object, "kind")).unwrap()
}

fn context<'a>(resource: &'a Resource, object: &'a Tree, subresource: Option<&'a str>) -> Context<'a> {
    Context {
        now: jiff::Timestamp::UNIX_EPOCH,
        resource,
        subresource,
        namespace: text(object, "metadata.namespace"),
        name: text(object, "metadata.name"),
    }
}

fn recorded(name: &str) -> Option<String> {
    let folder = std::env::var("CORTEN_RECORDED").ok()?;
    std::fs::read_to_string(format!("{folder}/{name}")).ok()
}

/// What the server sets, or admission.
fn strip(object: &mut Tree) {
    if let Some(metadata) = object_mut(object, "metadata") {
        for field in ["managedFields", "creationTimestamp", "resourceVersion"] {
            metadata.shift_remove(field);
        }
    }
}

#[test]
fn created_objects() {
    let Some(text_of) = recorded("all.json") else { return eprintln!("skipped: no recordings") };
    let pairs: Vec<Tree> = serde_json::from_str(&text_of).unwrap();
    let mut failures = 0;
    for pair in pairs.iter().filter(|pair| pair["code"] == 201) {
        let (mut input, mut expect) = (pair["input"].clone(), pair["output"].clone());
        let resource = resource(&input);
        ensure(&mut input, "metadata").insert("uid".to_owned(), get(&expect, "metadata.uid").clone());
        if text(&input, "kind") == "Pod" {
            // Admission's part.
            for field in ["volumes", "tolerations", "priority", "preemptionPolicy", "serviceAccountName", "serviceAccount"] {
                let value = get(&expect, &format!("spec.{field}")).clone();
                as_object(input.get_mut("spec").unwrap()).insert(field.to_owned(), value);
            }
        }
        let strategy = crate::strategy_for(resource, None);
        strategy.default(&mut input);
        let before = input.clone();
        let context = context(resource, &before, None);
        strategy.prepare_for_create(&context, &mut input);
        strip(&mut input);
        strip(&mut expect);
        let name = format!("{} {}", resource.kind, text(&expect, "metadata.name"));
        if input.to_string() != expect.to_string() {
            failures += 1;
            println!("--- {name}\n got {input}\nwant {expect}");
        }
        let errors = strategy.validate(&context, &input);
        if !errors.is_empty() {
            failures += 1;
            println!("--- {name}: {errors:?}");
        }
    }
    assert_eq!(failures, 0);
}

#[test]
fn refused_objects() {
    let Some(lines) = recorded("corpus.jsonl") else { return eprintln!("skipped: no recordings") };
    let mut failures = 0;
    for line in lines.lines() {
        let case: Tree = serde_json::from_str(line).unwrap();
        if !matches!(case["code"].as_i64(), Some(201 | 422)) {
            continue;
        }
        let mut input = case["input"].clone();
        let resource = resource(&input);
        let strategy = crate::strategy_for(resource, None);
        let uid = "00000000-0000-0000-0000-000000000000";
        ensure(&mut input, "metadata").insert("uid".to_owned(), uid.into());
        strategy.default(&mut input);
        let before = input.clone();
        let context = context(resource, &before, None);
        strategy.prepare_for_create(&context, &mut input);
        let errors = strategy.validate(&context, &input);
        let got = match errors.is_empty() {
            true => String::new(),
            false => invalid_message(&resource.group, &resource.kind, context.name, &errors),
        };
        let expect = case["message"].as_str().unwrap_or_default();
        if got != expect {
            failures += 1;
            println!("---\n got {got}\nwant {expect}\n for {}", &case["input"]["spec"].to_string());
        }
    }
    println!("{failures} of {} differ", lines.lines().count());
}

#[test]
fn refused_updates() {
    let Some(lines) = recorded("ucorpus.jsonl") else { return eprintln!("skipped: no recordings") };
    let mut failures = 0;
    for line in lines.lines() {
        let case: Tree = serde_json::from_str(line).unwrap();
        if !matches!(case["code"].as_i64(), Some(200 | 422)) {
            continue;
        }
        let (mut input, old) = (case["input"].clone(), case["old"].clone());
        let resource = resource(&old);
        let subresource = case["sub"].as_str().unwrap().strip_prefix('/');
        let strategy = crate::strategy_for(resource, subresource);
        strategy.default(&mut input);
        let before = input.clone();
        let context = context(resource, &before, subresource);
        strategy.prepare_for_update(&context, &mut input, &old);
        let errors = strategy.validate_update(&context, &input, &old);
        let got = match errors.is_empty() {
            true => String::new(),
            false => invalid_message(&resource.group, &resource.kind, text(&old, "metadata.name"), &errors),
        };
        let expect = case["message"].as_str().unwrap_or_default();
        let generation = got.is_empty() && get(&input, "metadata.generation") != &case["gen"];
        if got != expect || generation {
            failures += 1;
            println!("---\n got {got} gen {}\nwant {expect} gen {}", get(&input, "metadata.generation"), case["gen"]);
        }
    }
    println!("{failures} of {} differ", lines.lines().count());
}

#[test]
fn tables_are_sound() {
    for (resource, _) in crate::coverage() {
        let strategy = crate::strategy_for(resource, None);
        let mut object = serde_json::json!({"metadata": {"name": "x"}});
        strategy.default(&mut object);
        assert!(object.is_object(), "{}", resource.plural);
    }
}
