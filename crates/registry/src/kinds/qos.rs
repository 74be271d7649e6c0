//! A pod's quality-of-service class.

use api::Tree;
use machinery::Quantity;

use crate::tree::{entries, get, list};

/// `Guaranteed`, `Burstable` or `BestEffort`, of a pod's spec.
pub fn class(spec: &Tree) -> &'static str {
    let amount = |resources: &Tree, set: &str, name: &str| {
        let found = get(resources, set).get(name);
        found.and_then(|value| Quantity::from_tree(value).ok()).filter(|quantity| quantity.nanos() > 0)
    };
    let (mut any, mut guaranteed) = (false, true);
    let own = get(spec, "resources");
    if ["limits", "requests"].iter().any(|set| entries(own, set).next().is_some()) {
        return of(std::iter::once(own), amount);
    }
    let containers = list(spec, "containers").iter().chain(list(spec, "initContainers"));
    for container in containers {
        match of(std::iter::once(get(container, "resources")), amount) {
            "Guaranteed" => any = true,
            "Burstable" => (any, guaranteed) = (true, false),
            _ => guaranteed = false,
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn of<'t>(
    sets: impl Iterator<Item = &'t Tree>,
    amount: impl Fn(&Tree, &str, &str) -> Option<Quantity>,
) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    for resources in sets {
        for name in ["cpu", "memory"] {
            let (request, limit) = (amount(resources, "requests", name), amount(resources, "limits", name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn classes() {
        let r = |requests: Tree, limits: Tree| json!({"resources": {"requests": requests, "limits": limits}});
        for (containers, expect) in [
            (json!([{}]), "BestEffort"),
            (json!([r(json!({"cpu": "1"}), json!({}))]), "Burstable"),
            (
                json!([r(json!({"cpu": "1", "memory": "1"}), json!({"cpu": "1000m", "memory": "1"}))]),
                "Guaranteed",
            ),
            (
                json!([r(json!({"cpu": "1", "memory": "1"}), json!({"cpu": "1", "memory": "1"})), {}]),
                "Burstable",
            ),
            (json!([r(json!({"ephemeral-storage": "1"}), json!({}))]), "BestEffort"),
        ] {
            assert_eq!(class(&json!({"containers": containers})), expect, "{containers}");
        }
    }
}
