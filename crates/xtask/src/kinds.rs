//! Checks that what serves every kind names none: a kind's particulars are data of its profile, or a module of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// Files and folders that serve every kind alike.
const GENERIC: &[&str] = &[
    "crates/api/src/discovery.rs",
    "crates/api/src/openapi.rs",
    "crates/api/src/openapi",
    "crates/apiserver/src/catalog.rs",
    "crates/apiserver/src/discovery.rs",
    "crates/apiserver/src/handlers.rs",
    "crates/apiserver/src/handlers",
    "crates/apiserver/src/negotiate.rs",
    "crates/apiserver/src/negotiate",
    "crates/apiserver/src/openapi.rs",
    "crates/apiserver/src/request.rs",
    "crates/apiserver/src/request",
    "crates/apiserver/src/writes.rs",
    "crates/apiserver/src/writes",
    "crates/registry/src/strategy.rs",
    "crates/watchcache/src",
];

/// What these may name, by file, and why. Any name, where none is given.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("crates/api/src/openapi/kinds.rs", "", "it is the list of described types"),
    (
        "crates/api/src/openapi/paths.rs",
        "namespaces",
        "the path of what is in a namespace is part of the protocol",
    ),
    ("crates/api/src/openapi/schema.rs", "Pod", "any kind's words for the fields that all have"),
    (
        "crates/apiserver/src/handlers/components.rs",
        "ComponentStatus",
        "it makes the one kind that is reported",
    ),
];

const TABLE: &str = "crates/api/src/tables/generated.txt";

pub fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = std::fs::read_to_string(root.join(TABLE)).context(TABLE)?;
    let names = names(&table);
    ensure!(!names.is_empty(), "{TABLE} has no resources");
    let mut found = Vec::new();
    for path in files(&root)? {
        if is_test(&path) {
            continue;
        }
        let text = std::fs::read_to_string(root.join(&path)).with_context(|| path.display().to_string())?;
        let named = named(&text, &names).into_iter().filter(|(_, name)| !is_allowed(&path, name));
        found.extend(named.map(|(line, name)| format!("{}:{line}: {name}", path.display())));
    }
    if !found.is_empty() {
        bail!("kinds that are named where every kind is served:\n{}", found.join("\n"));
    }
    Ok(())
}

/// The source files of [`GENERIC`], below the root.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut left: Vec<PathBuf> = GENERIC.iter().map(PathBuf::from).collect();
    while let Some(path) = left.pop() {
        if root.join(&path).is_dir() {
            for entry in std::fs::read_dir(root.join(&path))? {
                left.push(path.join(entry?.file_name()));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") && root.join(&path).exists() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_allowed(path: &Path, name: &str) -> bool {
    let of_file = ALLOWED.iter().filter(|(file, ..)| Path::new(file) == path);
    of_file.map(|(_, allowed, _)| *allowed).any(|allowed| allowed.is_empty() || allowed == name)
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")))
}

/// Plurals and kinds of the table's resources.
fn names(table: &str) -> BTreeSet<&str> {
    let rows = table.lines().filter_map(|line| line.strip_prefix("R "));
    rows.flat_map(|row| {
        let columns: Vec<&str> = row.split(' ').collect();
        [2, 4].into_iter().filter_map(move |column| columns.get(column).copied())
    })
    .collect()
}

/// Lines before the tests that name a kind: in a literal of names and separators alone, or by its function.
fn named(text: &str, names: &BTreeSet<&str>) -> Vec<(usize, String)> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let line = line.trim_start();
        if line.starts_with("//") {
            continue;
        }
        let literals = line.split('"').skip(1).step_by(2).filter(|literal| !literal.contains(' '));
        let parts = literals.flat_map(|literal| literal.split(['/', ',', '.', ':']));
        let by_function =
            line.split("kinds::").skip(1).filter_map(|rest| rest.split_once("()")).map(|(name, _)| name);
        let by_function = by_function
            .filter(|name| name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'));
        let name = parts.filter(|part| names.contains(part)).chain(by_function).next();
        found.extend(name.map(|name| (number + 1, name.to_owned())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_kinds_are_found() {
        let table = "G - v1\nR - v1 pods pod Pod N + create - - - v1 - P - 358\nF pods 3 283 1 ep\n";
        let names = names(table);
        assert_eq!(names.iter().copied().collect::<Vec<_>>(), ["Pod", "pods"]);
        let check = |line: &str, expect: &[&str]| {
            let found: Vec<String> = named(line, &names).into_iter().map(|(_, name)| name).collect();
            assert_eq!(found, expect, "{line}");
        };
        check(r#"if plural == "pods" {"#, &["pods"]);
        check(r#"let key = format!("/registry/pods/{name}");"#, &["pods"]);
        check("let resource = kinds::config_maps();", &["config_maps"]);
        check(r#"    // not "pods""#, &[]);
        check(r#"let why = "no pods of this node";"#, &[]);
        check("registry::kinds::warnings::deprecated(resource)", &[]);
        check("#[cfg(test)]\nlet name = \"pods\";", &[]);
    }
}
