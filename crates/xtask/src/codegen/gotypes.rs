//! Reads type declarations and struct tags out of Go sources, and nothing else of them.
//!
//! The sources are gofmt'ed, so a declaration starts in the first column and a struct ends at a `}` there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context, Result};

use super::sources::{Package as Source, Sources};

#[derive(Debug)]
pub enum Declaration {
    Struct(Vec<GoField>),
    /// `type A B` and `type A = B`; the right-hand side.
    Named(String),
}

#[derive(Debug)]
pub struct GoField {
    pub ty: String,
    pub embedded: bool,
    /// The JSON name; `None` where there is no tag.
    pub json: Option<String>,
    pub json_options: Vec<String>,
    /// Zero when the field is not on the wire.
    pub tag: u32,
}

#[derive(Default)]
pub struct Package {
    /// API group; set for packages that register kinds.
    pub group: Option<String>,
    /// In order of declaration.
    pub order: Vec<String>,
    pub types: HashMap<String, Declaration>,
    /// Imports, short name → path.
    pub imports: HashMap<String, String>,
    /// Names of the messages in the `.proto` file.
    pub messages: BTreeSet<String>,
}

pub struct Packages(pub BTreeMap<String, Package>);

impl Packages {
    pub fn load(sources: &Sources) -> Result<Self> {
        let mut packages = BTreeMap::new();
        for source in &sources.packages {
            let package = load(source).with_context(|| format!("package {}", source.path))?;
            packages.insert(source.path.clone(), package);
        }
        Ok(Self(packages))
    }
}

fn load(source: &Source) -> Result<Package> {
    let mut package = Package::default();
    let mut files: Vec<_> = std::fs::read_dir(&source.directory)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    for file in &files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let skipped = name.ends_with("_test.go")
            || name.starts_with("generated.pb")
            || name.starts_with("zz_generated")
            || name == "fieldsv1_string.go";
        if name.ends_with(".go") && !skipped {
            read(&std::fs::read_to_string(file)?, &mut package);
        }
    }
    let proto = source.directory.join("generated.proto");
    if proto.exists() {
        for line in std::fs::read_to_string(proto)?.lines() {
            if let Some(name) = line.strip_prefix("message ") {
                package.messages.insert(name.trim_end_matches(" {").to_owned());
            }
        }
    }
    package.group = group(&source.directory)?;
    Ok(package)
}

/// The group in `register.go`, here or one level up.
fn group(directory: &Path) -> Result<Option<String>> {
    for place in [Some(directory), directory.parent()].into_iter().flatten() {
        let path = place.join("register.go");
        if path.exists() {
            let text = std::fs::read_to_string(path)?;
            let line = text.lines().find_map(|line| line.strip_prefix("const GroupName = \""));
            if let Some(name) = line {
                return Ok(Some(name.split('"').next().unwrap_or_default().to_owned()));
            }
        }
    }
    Ok(None)
}

fn read(text: &str, package: &mut Package) {
    let mut lines = text.lines();
    let mut importing = false;
    while let Some(line) = lines.next() {
        if line == "import (" {
            importing = true;
        } else if importing && line == ")" {
            importing = false;
        } else if importing {
            import(line.trim(), package);
        } else if let Some(rest) = line.strip_prefix("import ") {
            import(rest, package);
        } else if let Some(rest) = line.strip_prefix("type ") {
            let Some((name, body)) = rest.split_once(' ') else { continue };
            let declaration = if body.starts_with("struct {") || body == "struct{}" {
                let mut fields = Vec::new();
                if !body.ends_with('}') {
                    for line in lines.by_ref() {
                        if line == "}" {
                            break;
                        }
                        fields.extend(field(line.trim()));
                    }
                }
                Declaration::Struct(fields)
            } else {
                let body = body.trim_start_matches("= ");
                Declaration::Named(body.split(" //").next().unwrap_or(body).trim().to_owned())
            };
            package.order.push(name.to_owned());
            package.types.insert(name.to_owned(), declaration);
        }
    }
}

fn import(line: &str, package: &mut Package) {
    let Some((before, path)) = line.trim_end_matches('"').split_once('"') else { return };
    let short = match before.trim() {
        "" => path.rsplit('/').next().unwrap_or(path),
        alias => alias,
    };
    package.imports.insert(short.to_owned(), path.to_owned());
}

fn field(line: &str) -> Option<GoField> {
    if line.is_empty() || line.starts_with("//") {
        return None;
    }
    let (declaration, tags) = match line.split_once('`') {
        Some((declaration, rest)) => (declaration.trim(), rest.split('`').next().unwrap_or_default()),
        None => (line.split(" //").next().unwrap_or(line).trim(), ""),
    };
    let mut words = declaration.split_whitespace();
    let first = words.next()?;
    let second = words.next();
    let (name, ty) = match second {
        Some(ty) => (Some(first), ty),
        None => (None, first),
    };
    if name.is_some_and(|name| !name.starts_with(char::is_uppercase)) {
        return None;
    }
    let (json, json_options) = match tag(tags, "json") {
        Some(value) => {
            let mut parts = value.split(',');
            (parts.next().map(str::to_owned), parts.map(str::to_owned).collect())
        }
        None => (None, Vec::new()),
    };
    let number = tag(tags, "protobuf").and_then(|value| value.split(',').nth(1)?.parse().ok()).unwrap_or(0);
    Some(GoField { ty: ty.to_owned(), embedded: name.is_none(), json, json_options, tag: number })
}

/// The value of one key of a struct tag.
fn tag<'a>(tags: &'a str, key: &str) -> Option<&'a str> {
    let start = tags.find(&format!("{key}:\""))? + key.len() + 2;
    tags[start..].split('"').next()
}
