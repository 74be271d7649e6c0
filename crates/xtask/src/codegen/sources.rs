//! Where the published facts lie on this machine.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{KUBERNETES, LIBRARIES};

/// A Go package whose types the model takes in.
pub struct Package {
    /// The import path, `k8s.io/api/core/v1`.
    pub path: String,
    pub directory: PathBuf,
}

pub struct Sources {
    kubernetes: PathBuf,
    pub packages: Vec<Package>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Download {
    dir: PathBuf,
}

impl Sources {
    pub fn locate() -> Result<Self> {
        let kubernetes = module("k8s.io/kubernetes", KUBERNETES)?;
        let api = module("k8s.io/api", LIBRARIES)?;
        let machinery = module("k8s.io/apimachinery", LIBRARIES)?;
        let extensions = module("k8s.io/apiextensions-apiserver", LIBRARIES)?;
        let aggregator = module("k8s.io/kube-aggregator", LIBRARIES)?;

        let mut packages = Vec::new();
        let mut groups: Vec<PathBuf> = directories(&api)?;
        groups.sort();
        for group in groups {
            let mut versions = directories(&group)?;
            versions.sort();
            for version in versions.into_iter().filter(|version| version.join("generated.proto").exists()) {
                let below = version.strip_prefix(&api)?.display().to_string();
                packages.push(Package { path: format!("k8s.io/api/{below}"), directory: version });
            }
        }
        for (root, import, below) in [
            (&machinery, "k8s.io/apimachinery", "pkg/apis/meta/v1"),
            (&machinery, "k8s.io/apimachinery", "pkg/apis/meta/v1beta1"),
            (&machinery, "k8s.io/apimachinery", "pkg/api/resource"),
            (&machinery, "k8s.io/apimachinery", "pkg/runtime"),
            (&machinery, "k8s.io/apimachinery", "pkg/types"),
            (&machinery, "k8s.io/apimachinery", "pkg/util/intstr"),
            (&extensions, "k8s.io/apiextensions-apiserver", "pkg/apis/apiextensions/v1"),
            (&extensions, "k8s.io/apiextensions-apiserver", "pkg/apis/apiextensions/v1beta1"),
            (&aggregator, "k8s.io/kube-aggregator", "pkg/apis/apiregistration/v1"),
        ] {
            packages.push(Package { path: format!("{import}/{below}"), directory: root.join(below) });
        }
        Ok(Self { kubernetes, packages })
    }

    pub fn specs(&self) -> PathBuf {
        self.kubernetes.join("api/openapi-spec")
    }

    pub fn discovery(&self) -> PathBuf {
        self.kubernetes.join("api/discovery")
    }
}

fn directories(parent: &std::path::Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(parent)? {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    Ok(found)
}

/// The directory of a module in the module cache, downloaded when it is not there.
fn module(path: &str, version: &str) -> Result<PathBuf> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", &format!("{path}@{version}")])
        .current_dir(std::env::temp_dir())
        .output()
        .context("running go: the generator reads published modules through it")?;
    if !output.status.success() {
        bail!("go mod download {path}@{version}: {}", String::from_utf8_lossy(&output.stdout));
    }
    let download: Download = serde_json::from_slice(&output.stdout)?;
    Ok(download.dir)
}
