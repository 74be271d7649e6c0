//! Every object of the published test data, in both encodings.
//!
//! The data comes with the `k8s.io/api` module, which `go mod download` fetches; `CORTEN_TESTDATA` names
//! another place. Where there is neither, the test fails in CI and says that it skips elsewhere.

use std::path::PathBuf;
use std::process::Command;

use api::{Tree, tables, wire};

const MODULE: &str = "k8s.io/api@v0.37.1";

pub struct Sample {
    pub name: String,
    pub json: Tree,
    pub text: String,
    pub yaml: Vec<u8>,
    pub proto: Vec<u8>,
}

fn directory() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CORTEN_TESTDATA") {
        return Some(path.into());
    }
    let output = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        .current_dir(std::env::temp_dir())
        .output()
        .ok()?;
    let answer: Tree = serde_json::from_slice(&output.stdout).ok()?;
    Some(PathBuf::from(answer.get("Dir")?.as_str()?).join("testdata/HEAD"))
}

pub fn samples() -> Vec<Sample> {
    let Some(directory) = directory() else {
        assert!(std::env::var_os("CI").is_none(), "no test data: CI must have Go or CORTEN_TESTDATA");
        eprintln!("skipped: no test data (neither Go nor CORTEN_TESTDATA)");
        return Vec::new();
    };
    let mut samples = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let bytes = std::fs::read(&path).unwrap();
            let mut json: Tree = serde_json::from_slice(&bytes).unwrap();
            show_kinds(&mut json);
            samples.push(Sample {
                name: path.file_stem().unwrap().to_string_lossy().into_owned(),
                text: String::from_utf8(api::json::to_vec(&json)).unwrap(),
                json,
                yaml: std::fs::read(path.with_extension("yaml")).unwrap(),
                proto: std::fs::read(path.with_extension("pb")).unwrap(),
            });
        }
    }
    assert!(samples.len() > 180, "only {} samples", samples.len());
    samples.sort_by(|a, b| a.name.cmp(&b.name));
    samples
}

/// The one thing that the API server adds to what the types say: claim templates with their kind.
fn show_kinds(json: &mut Tree) {
    for claim in
        json.pointer_mut("/spec/volumeClaimTemplates").and_then(Tree::as_array_mut).into_iter().flatten()
    {
        let mut shown = api::json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1"});
        shown.as_object_mut().unwrap().extend(claim.as_object().unwrap().clone());
        *claim = shown;
    }
}

/// The message a file is named after: `core.v1.Pod`, `apidiscovery.k8s.io.v2.APIGroupDiscovery`.
pub fn message(sample: &Sample) -> api::model::MessageRef<'static> {
    let mut parts = sample.name.rsplitn(3, '.');
    let (kind, version, group) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let group = if group == "core" { "" } else { group };
    tables::kind_message(group, version, kind)
        .unwrap_or_else(|| panic!("{} is not in the model", sample.name))
}

pub fn encode(sample: &Sample) -> Result<Vec<u8>, wire::Error> {
    let mut out = Vec::new();
    let text = |name: &str| sample.json[name].as_str().unwrap_or_default();
    let type_meta = wire::TypeMeta { api_version: text("apiVersion"), kind: text("kind") };
    wire::envelope::wrap_with(type_meta, &mut out, |out| {
        wire::tree_to_proto(&sample.json, message(sample), out)
    })?;
    Ok(out)
}

/// A tree's JSON: sets of fields are text in one that was decoded.
fn shown(tree: &api::Tree) -> String {
    String::from_utf8(api::json::to_vec(tree)).unwrap()
}

#[test]
fn protobuf_becomes_the_published_json() {
    let mut failed = Vec::new();
    for sample in samples() {
        let mut out = Vec::new();
        let result = wire::object_to_json(&sample.proto, message(&sample), &mut out);
        let out = String::from_utf8(out).unwrap();
        if result.is_err() || out != sample.text {
            failed.push(sample.name.clone());
            if failed.len() < 4 {
                eprintln!("{} {result:?}\n got {out}\nwant {}", sample.name, sample.text);
            }
        } else {
            assert_eq!(
                shown(&wire::object_to_tree(&sample.proto, message(&sample)).unwrap()),
                shown(&sample.json),
                "{}",
                sample.name
            );
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn json_becomes_the_published_protobuf() {
    let mut failed = Vec::new();
    for sample in samples() {
        let result = encode(&sample);
        if result.as_ref() != Ok(&sample.proto) {
            failed.push(sample.name.clone());
            if failed.len() < 4 {
                let got = result.unwrap_or_else(|error| error.to_string().into_bytes());
                let at = got.iter().zip(&sample.proto).take_while(|(a, b)| a == b).count();
                let from = at.saturating_sub(20);
                eprintln!("{} differs at {at}", sample.name);
                eprintln!(" got {}", got[from.min(got.len())..got.len().min(at + 40)].escape_ascii());
                eprintln!("want {}", sample.proto[from..sample.proto.len().min(at + 40)].escape_ascii());
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn strict_decoding_takes_every_sample_as_it_is() {
    use api::decode::{self, Strictness};
    for sample in samples() {
        let message = message(&sample);
        let decoded = decode::json(sample.text.as_bytes(), message, Strictness::Strict)
            .unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        assert_eq!(
            String::from_utf8(api::json::to_vec(&decoded.tree)).unwrap(),
            sample.text,
            "{}",
            sample.name
        );
        let decoded = decode::yaml(&sample.yaml, message, Strictness::Strict)
            .unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        assert_eq!(
            String::from_utf8(api::json::to_vec(&decoded.tree)).unwrap(),
            sample.text,
            "{} (YAML)",
            sample.name
        );
    }
}

#[test]
fn an_object_that_says_nothing_is_the_same_in_every_encoding() {
    use api::decode::{self, Strictness};
    for sample in samples() {
        let message = message(&sample);
        let empty = decode::json(b"{}", message, Strictness::Strict).unwrap().tree;
        let mut proto = Vec::new();
        wire::tree_to_proto(&empty, message, &mut proto).unwrap();
        assert_eq!(wire::proto_to_tree(&proto, message, None).unwrap(), empty, "{}", sample.name);
        assert_eq!(wire::proto_to_tree(&[], message, None).unwrap(), empty, "{} (no bytes)", sample.name);
    }
}

#[test]
fn resource_versions_are_set_in_place() {
    for sample in samples().iter().filter(|sample| sample.json.pointer("/metadata/uid").is_some()) {
        for version in ["", "7", &"9".repeat(300)] {
            let message = message(sample);
            let mut expect = sample.json.clone();
            let metadata = expect["metadata"].as_object_mut().unwrap();
            if version.is_empty() {
                metadata.remove("resourceVersion");
            } else {
                metadata["resourceVersion"] = version.into();
            }
            let bytes = wire::meta::with_resource_version(&sample.proto, version).unwrap();
            let tree = wire::object_to_tree(&bytes, message).unwrap();
            assert_eq!(shown(&tree), shown(&expect), "{}", sample.name);
        }
    }
}

#[test]
fn peeking_sees_what_decoding_sees() {
    for sample in samples().iter().filter(|sample| sample.json.pointer("/metadata/generateName").is_some()) {
        let envelope = wire::envelope::unwrap(&sample.proto).unwrap();
        let metadata = wire::peek::metadata(envelope.raw).unwrap();
        assert_eq!(
            (metadata.name, metadata.namespace, metadata.uid),
            ("nameValue", "namespaceValue", "uidValue"),
            "{}",
            sample.name
        );
        assert_eq!(metadata.labels, [("labelsKey", "labelsValue")]);
        assert_eq!((metadata.owners[0].name, metadata.owners[0].controller), ("nameValue", true));
        assert!(metadata.deletion.is_some());
    }
    for sample in samples().iter().filter(|sample| sample.name == "core.v1.Pod") {
        let envelope = wire::envelope::unwrap(&sample.proto).unwrap();
        for (path, expect) in [
            ("spec.nodeName", "nodeNameValue"),
            ("spec.hostNetwork", "true"),
            ("status.phase", "phaseValue"),
            ("spec.priority", "25"),
        ] {
            let path = wire::peek::FieldPath::compile(message(sample), path).unwrap();
            assert_eq!(path.read(envelope.raw).unwrap(), expect);
        }
    }
}
