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
    assert_eq!(discovery::aggregated(others), read(directory.join("discovery/aggregated_v2.json")));
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
