//! Every object of the published test data, in both encodings.
//!
//! The data comes with the `k8s.io/api` module, which `go mod download` fetches; `CORTEN_TESTDATA` names
//! another place. Where there is neither, the test fails in CI and says that it skips elsewhere.

use std::path::PathBuf;
use std::process::Command;

use api::{Tree, tables, wire};

const MODULE: &str = "k8s.io/api@v0.37.1";

struct Sample {
    name: String,
    json: Tree,
    text: String,
    proto: Vec<u8>,
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

fn samples() -> Vec<Sample> {
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
            let json: Tree = serde_json::from_slice(&bytes).unwrap();
            samples.push(Sample {
                name: path.file_stem().unwrap().to_string_lossy().into_owned(),
                text: String::from_utf8(api::json::to_vec(&json)).unwrap(),
                json,
                proto: std::fs::read(path.with_extension("pb")).unwrap(),
            });
        }
    }
    assert!(samples.len() > 180, "only {} samples", samples.len());
    samples.sort_by(|a, b| a.name.cmp(&b.name));
    samples
}

/// The message a file is named after: `core.v1.Pod`, `apidiscovery.k8s.io.v2.APIGroupDiscovery`.
fn message(sample: &Sample) -> &'static api::model::Message {
    let mut parts = sample.name.rsplitn(3, '.');
    let (kind, version, group) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let group = if group == "core" { "" } else { group };
    tables::kind_message(group, version, kind)
        .unwrap_or_else(|| panic!("{} is not in the model", sample.name))
}

fn encode(sample: &Sample) -> Result<Vec<u8>, wire::Error> {
    let mut out = Vec::new();
    let text = |name: &str| sample.json[name].as_str().unwrap_or_default();
    let type_meta = wire::TypeMeta { api_version: text("apiVersion"), kind: text("kind") };
    wire::envelope::wrap_with(type_meta, &mut out, |out| {
        wire::tree_to_proto(&sample.json, message(sample), out)
    })?;
    Ok(out)
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
                wire::object_to_tree(&sample.proto, message(&sample)).unwrap(),
                sample.json,
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
