//! Which built-in resources are served: those of the API level's defaults, as `--runtime-config` changes them.

use std::collections::HashMap;

use api::discovery::{self, Group};
use api::model::Resource;
use api::tables;

/// Answers for every built-in resource whether it is served.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// By `alpha`, `beta`, `ga`; the first that is set speaks for all versions of that stability.
    stages: HashMap<Stage, bool>,
    all: Option<bool>,
    /// By `apps/v1`, `v1`.
    versions: HashMap<String, bool>,
    /// By `apps/v1/deployments`.
    resources: HashMap<String, bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Stable,
    Beta,
    Alpha,
}

impl Stage {
    fn of(version: &str) -> Stage {
        match () {
            () if version.contains("alpha") => Stage::Alpha,
            () if version.contains("beta") => Stage::Beta,
            () => Stage::Stable,
        }
    }
}

impl Served {
    /// `--runtime-config`'s pairs. A wrong one is named in upstream's words; there may be several.
    pub fn parse(pairs: &[String]) -> Result<Served, Vec<String>> {
        let mut served = Served::default();
        let (mut invalid, mut unknown, mut unregistered) = (Vec::new(), Vec::new(), Vec::new());
        for pair in pairs.iter().filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let on = match value {
                "" => true,
                value => match daemon::flags::go_bool(value) {
                    Some(on) => on,
                    None => {
                        invalid.push(format!("invalid value {key}={value}"));
                        continue;
                    }
                },
            };
            let parts: Vec<&str> = key.split('/').collect();
            let known = |group: &str| tables::groups().iter().find(|own| own.name == group);
            let registered = |group: &str, version: &str| {
                known(group).is_some_and(|group| group.versions.iter().any(|own| own == version))
            };
            match parts.as_slice() {
                ["api", "all"] => served.all = Some(on),
                ["api", "ga"] => _ = served.stages.insert(Stage::Stable, on),
                ["api", "beta"] => _ = served.stages.insert(Stage::Beta, on),
                ["api", "alpha"] => _ = served.stages.insert(Stage::Alpha, on),
                // the versions before v1, gone long since
                ["api", "legacy"] => {}
                ["v1"] => _ = served.versions.insert(key.to_owned(), on),
                [group, _] | [group, _, _] if group.is_empty() || known(group).is_none() => unknown.push(key),
                [group, version] | [group, version, _] if !registered(group, version) => {
                    unregistered
                        .push(format!("group version {group}/{version} that has not been registered"));
                }
                [_, _] => _ = served.versions.insert(key.to_owned(), on),
                [_, _, _] => _ = served.resources.insert(key.to_owned(), on),
                _ => unknown.push(key),
            }
        }
        if !unknown.is_empty() {
            invalid.push(format!("unknown api groups {}", unknown.join(",")));
        }
        invalid.extend(unregistered);
        if pairs == ["api/all=false"] {
            invalid.push(
                "--runtime-config=api/all=false conflicts with --enable-priority-and-fairness=true".into(),
            );
            invalid.push("invalid runtime-config with only api/all=false".into());
        }
        if invalid.is_empty() { Ok(served) } else { Err(invalid) }
    }

    /// The more particular a setting, the more it counts.
    pub fn includes(&self, resource: &Resource) -> bool {
        let version = resource.api_version();
        self.resources
            .get(&format!("{version}/{}", resource.plural))
            .or_else(|| self.versions.get(&version))
            .or_else(|| self.stages.get(&Stage::of(&resource.version)))
            .copied()
            .or(self.all)
            .unwrap_or(resource.enabled)
    }

    /// The groups that are served, in discovery's order.
    pub fn groups(&self) -> Vec<Group<'static>> {
        discovery::select(|resource| self.includes(resource))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(pairs: &[&str]) -> Result<Served, Vec<String>> {
        Served::parse(&pairs.iter().map(|pair| (*pair).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_more_particular_setting_counts() {
        let check = |pairs: &[&str], row: (&str, &str, &str), expected: bool| {
            let resource = tables::resource(row.0, row.1, row.2).unwrap();
            assert_eq!(served(pairs).unwrap().includes(resource), expected, "{pairs:?} {row:?}");
        };
        let (deployments, pods) = (("apps", "v1", "deployments"), ("", "v1", "pods"));
        let alpha = ("scheduling.k8s.io", "v1alpha3", "workloads");
        let beta = ("scheduling.k8s.io", "v1beta1", "workloads");
        check(&[], deployments, true);
        check(&[], alpha, false);
        check(&["apps/v1=false"], deployments, false);
        check(&["apps/v1=false"], pods, true);
        check(&["apps/v1/deployments=false"], deployments, false);
        check(&["apps/v1/deployments=false"], ("apps", "v1", "replicasets"), true);
        check(&["v1=false"], pods, false);
        check(&["api/all=true"], alpha, true);
        check(&["api/all=true", "api/alpha=false"], alpha, false);
        check(&["api/all=false", "v1=true"], pods, true);
        check(&["api/all=false", "v1=true"], deployments, false);
        check(&["api/beta"], beta, true);
        check(&["api/beta"], alpha, false);
        check(&["scheduling.k8s.io/v1alpha3=true"], alpha, true);
        check(&["scheduling.k8s.io/v1alpha3=true"], beta, false);
    }

    #[test]
    fn disabled_versions_are_not_discovered() {
        let groups = served(&["apps/v1=false"]).unwrap().groups();
        assert!(!groups.iter().any(|group| group.name == "apps"));
        let names = |pairs: &[&str]| -> Vec<String> {
            let groups = served(pairs).unwrap().groups();
            let found = groups.into_iter().find(|group| group.name == "scheduling.k8s.io").unwrap();
            found.versions.iter().map(|version| version.version.to_owned()).collect()
        };
        assert!(!names(&[]).contains(&"v1alpha3".to_owned()));
        assert!(names(&["api/all=true"]).contains(&"v1alpha3".to_owned()));
    }

    #[test]
    fn refusals_are_upstreams() {
        let refused = |pair: &str| served(&[pair]).unwrap_err().join(", ");
        assert_eq!(refused("foo/v1=true"), "unknown api groups foo/v1");
        assert_eq!(refused("api/foo=true"), "unknown api groups api/foo");
        assert_eq!(refused("api/all=maybe"), "invalid value api/all=maybe");
        assert_eq!(refused("apps/v9=true"), "group version apps/v9 that has not been registered");
        assert_eq!(
            refused("api/all=false"),
            "--runtime-config=api/all=false conflicts with --enable-priority-and-fairness=true, invalid runtime-config with only api/all=false"
        );
    }
}
