//! Checks the crates' dependencies on each other against the table below, so that they point strictly down and no daemon
//! knows another: they meet over the API alone.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// What a crate may use, itself and, through these, of the layers below. `None` is any.
const MAY_USE: &[(&str, Option<&[&str]>)] = &[
    ("api", Some(&[])),
    ("proto", Some(&[])),
    ("machinery", Some(&["api"])),
    ("cel", Some(&["api", "machinery"])),
    ("daemon", Some(&[])),
    ("store", Some(&[])),
    ("cri", Some(&["proto"])),
    ("streaming", Some(&[])),
    ("packetfilter", Some(&[])),
    ("registry", Some(&["api", "machinery", "cel", "store"])),
    ("client", Some(&["api", "machinery", "daemon"])),
    ("admission", Some(&["registry", "cel"])),
    ("watchcache", Some(&["registry", "store", "daemon"])),
    ("access", Some(&["watchcache", "registry", "daemon"])),
    (
        "apiserver",
        Some(&["admission", "access", "streaming", "watchcache", "registry", "store", "client", "daemon"]),
    ),
    ("scheduler", Some(&["client", "cel", "daemon"])),
    ("controllers", Some(&["client", "machinery", "daemon"])),
    ("controller-manager", Some(&["controllers", "cel"])),
    ("kubelet", Some(&["client", "cri", "streaming", "proto", "daemon"])),
    ("kube-proxy", Some(&["client", "packetfilter", "daemon"])),
    ("cluster-dns", Some(&["client", "daemon"])),
    ("integration", None),
    ("xtask", Some(&[])),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// Set for a crate of this workspace.
    path: Option<String>,
}

pub fn run() -> Result<()> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let wrong = wrong_edges(&metadata);
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

fn wrong_edges(metadata: &Metadata) -> Vec<String> {
    let table: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let Some(allowed) = table.get(package.name.as_str()) else {
            wrong.push(format!("crate {} has no place in the table of layers", package.name));
            continue;
        };
        let Some(allowed) = allowed else { continue };
        // A crate whose own tests need one of its features depends on itself.
        let others = package.dependencies.iter().filter(|dependency| dependency.name != package.name);
        for dependency in others.filter(|dependency| dependency.path.is_some()) {
            if !reaches(&table, allowed, &dependency.name) {
                wrong.push(format!("crate {} may not use {}", package.name, dependency.name));
            }
        }
    }
    wrong
}

/// Whether `name` is one of `from` or of what those may use.
fn reaches(table: &BTreeMap<&str, Option<&[&str]>>, from: &[&str], name: &str) -> bool {
    from.iter().any(|below| {
        *below == name || table.get(below).is_some_and(|next| reaches(table, next.unwrap_or(&[]), name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, uses: &[&str]) -> Package {
        let dependencies = uses
            .iter()
            .map(|name| Dependency { name: (*name).to_owned(), path: Some(String::new()) })
            .collect();
        Package { name: name.to_owned(), dependencies }
    }

    #[test]
    fn edges_point_down() {
        let check = |name, uses: &[&str]| wrong_edges(&Metadata { packages: vec![package(name, uses)] });
        assert!(check("scheduler", &["client", "daemon", "machinery", "api"]).is_empty());
        assert!(check("integration", &["apiserver", "kubelet"]).is_empty());
        assert_eq!(check("scheduler", &["kubelet"]), ["crate scheduler may not use kubelet"]);
        assert_eq!(check("kubelet", &["store"]), ["crate kubelet may not use store"]);
        assert_eq!(check("api", &["machinery"]), ["crate api may not use machinery"]);
        assert_eq!(check("stranger", &[]), ["crate stranger has no place in the table of layers"]);
    }
}
