//! Discovery and OpenAPI against the published documents.

use std::path::PathBuf;
use std::process::Command;

use api::{Tree, discovery};

/// The `api` directory of the published specification; see `testdata` for when it may be missing.
fn directory() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CORTEN_SPECS") {
        return Some(path.into());
    }
    let download = Command::new("go")
        .args(["mod", "download", "-json", "k8s.io/kubernetes@v1.37.1"])
        .current_dir(std::env::temp_dir())
        .output();
    let answer = download.ok().and_then(|output| serde_json::from_slice::<Tree>(&output.stdout).ok());
    let directory = answer.and_then(|answer| Some(PathBuf::from(answer.get("Dir")?.as_str()?).join("api")));
    if directory.is_none() {
        assert!(std::env::var_os("CI").is_none(), "no specifications: CI must have Go or CORTEN_SPECS");
        eprintln!("skipped: no specifications (neither Go nor CORTEN_SPECS)");
    }
    directory
}

fn read(path: PathBuf) -> Tree {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn discovery_is_the_published_one() {
    let Some(directory) = directory() else { return };
    let groups = discovery::select(|_| true);
    let (core, others) = groups.split_first().unwrap();
    assert_eq!(
        discovery::aggregated(others, |_, _| None),
        read(directory.join("discovery/aggregated_v2.json"))
    );
    assert_eq!(discovery::api_group_list(&groups), read(directory.join("discovery/apis.json")));
    assert_eq!(
        discovery::api_resource_list("", "v1", &core.versions[0].resources),
        read(directory.join("discovery/api__v1.json"))
    );
    for group in others {
        for version in &group.versions {
            let list = discovery::api_resource_list(group.name, version.version, &version.resources);
            assert_eq!(
                list,
                read(directory.join(format!("discovery/apis__{}__{}.json", group.name, version.version)))
            );
        }
    }
}

/// A document without the words meant for people, and without what says nothing: bytes that are said to be an
/// atomic list, and the patch strategy that is the default.
fn without_descriptions(tree: &Tree) -> Tree {
    match tree {
        Tree::Object(map) => map
            .iter()
            .filter(|(key, value)| !(*key == "description" && value.is_string()))
            .filter(|(key, value)| !(*key == "x-kubernetes-patch-strategy" && *value == "replace"))
            // served documents list enumerated values, published ones do not
            .filter(|(key, value)| !(*key == "enum" && value.is_array()))
            .filter(|(key, _)| {
                !(*key == "x-kubernetes-list-type"
                    && map.get("format").is_some_and(|format| format == "byte"))
            })
            .map(|(key, value)| (key.clone(), without_descriptions(value)))
            .collect(),
        Tree::Array(items) => items.iter().map(without_descriptions).collect(),
        other => other.clone(),
    }
}

/// Schemas that differ, and the first difference of some.
fn differing(ours: &Tree, published: &Tree) -> Vec<String> {
    let mut differing = Vec::new();
    for (name, schema) in ours.as_object().unwrap() {
        let Some(other) = published.get(name) else {
            differing.push(format!("{name}: not published"));
            continue;
        };
        let (mut ours, mut other) = (without_descriptions(schema), without_descriptions(other));
        for tree in [&mut ours, &mut other] {
            let map = tree.as_object_mut().unwrap();
            // unions are not in the model, and kinds of all groups depend on what is served
            map.remove("x-kubernetes-unions");
            map.remove("x-kubernetes-group-version-kind");
            if let Some(Tree::Array(required)) = map.get_mut("required") {
                required.sort_by_key(ToString::to_string);
            }
        }
        if ours != other {
            differing.push(format!("{name}\n  ours {ours}\n  other {other}"));
        }
    }
    differing
}

#[test]
fn openapi_v3_has_the_published_schemas() {
    let Some(directory) = directory() else { return };
    let mut wrong = Vec::new();
    for group in discovery::built_in() {
        for version in &group.versions {
            let ours = api::openapi::v3(group.name, version.version, &version.resources, Default::default());
            let path = api::openapi::path_of(group.name, version.version);
            let published =
                read(directory.join(format!("openapi-spec/v3/{}_openapi.json", path.replace('/', "__"))));
            wrong.extend(differing(&ours["components"]["schemas"], &published["components"]["schemas"]));
            for (path, entry) in ours["paths"].as_object().unwrap() {
                let other = &published["paths"][path];
                assert!(other.is_object(), "{path} is not published");
                for (method, operation) in
                    entry.as_object().unwrap().iter().filter(|(method, _)| *method != "parameters")
                {
                    for fact in ["x-kubernetes-action", "x-kubernetes-group-version-kind", "tags"] {
                        let (ours, other) = (&operation[fact], &other[method][fact]);
                        if ours != other {
                            wrong.push(format!("{path} {method} {fact}: {ours} / {other}"));
                        }
                    }
                }
            }
        }
    }
    for text in wrong.iter().take(25) {
        eprintln!("{}", text.chars().take(1500).collect::<String>());
    }
    assert!(wrong.is_empty(), "{} differences", wrong.len());
}

#[test]
fn openapi_v3_of_what_is_no_resource() {
    let Some(directory) = directory() else { return };
    for path in api::openapi::root_paths(&discovery::built_in()) {
        let ours = api::openapi::root(&path).unwrap();
        let published =
            read(directory.join(format!("openapi-spec/v3/{}_openapi.json", path.replace('/', "__"))));
        if let Some(schemas) = ours["components"].get("schemas") {
            let wrong = differing(schemas, &published["components"]["schemas"]);
            assert!(wrong.is_empty(), "{path}: {}", wrong.join("\n"));
        }
        let (name, entry) = ours["paths"].as_object().unwrap().iter().next().unwrap();
        let other = &published["paths"][name]["get"];
        for fact in ["operationId", "tags"] {
            assert_eq!(entry["get"][fact], other[fact], "{path}");
        }
    }
}

#[test]
fn openapi_v2_has_the_published_schemas() {
    let Some(directory) = directory() else { return };
    let ours = api::openapi::v2(&discovery::built_in(), Default::default());
    let published = read(directory.join("openapi-spec/swagger.json"));
    let wrong = differing(&ours["definitions"], &published["definitions"]);
    for text in wrong.iter().take(25) {
        eprintln!("{}", text.chars().take(1500).collect::<String>());
    }
    assert!(wrong.is_empty(), "{} differences", wrong.len());
    assert!(
        ours["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]["description"]
            .is_string()
    );
}
