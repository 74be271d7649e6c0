//! `LimitRanger`: containers that ask for nothing get what their namespace says, and none asks for less or more than that allows.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Status, Tree};
use async_trait::async_trait;
use machinery::Quantity;
use machinery::bounds::Seen;

use crate::{Attributes, Operation, Plugin, Point, Services};
use registry::tree::{as_object, ensure, entries, get, has, list, object_mut, text};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub struct LimitRanger {
    services: Arc<dyn Services>,
}

impl LimitRanger {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }

    /// The limits of a namespace, of its ranges in order of their names.
    fn ranges(&self, namespace: &str) -> Result<Vec<Arc<Tree>>, Status> {
        let mut ranges = self.services.list("", "limitranges", namespace)?;
        ranges.sort_by(|one, other| text(one, "metadata.name").cmp(text(other, "metadata.name")));
        Ok(ranges)
    }
}

/// Objects on their way out are let be.
fn is_leaving(object: &Tree) -> bool {
    has(object, "metadata.deletionTimestamp")
}

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.is("", "pods") && point.creates()
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        let resize = point.is_sub("", "pods", "resize") && point.operation == Operation::Update;
        let claim = point.is("", "persistentvolumeclaims") && point.operation.writes();
        self.mutates(point) || claim || resize
    }

    async fn admit(&self, attributes: &Attributes<'_>, pod: &mut Tree) -> Result<(), Status> {
        if !is_leaving(pod) {
            for range in self.ranges(attributes.namespace)? {
                bounded(pod, &range)?;
                fill(pod, &range);
            }
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Tree) -> Result<(), Status> {
        if is_leaving(object) {
            return Ok(());
        }
        for range in self.ranges(attributes.namespace)? {
            bounded(object, &range)?;
            let mut problems = Vec::new();
            for limit in list(&range, "spec.limits") {
                match (text(limit, "type"), attributes.is("", "pods")) {
                    ("Container", true) => {
                        for field in ["containers", "initContainers"] {
                            for container in list(get(object, "spec"), field) {
                                check(limit, &amounts(container, "resources"), &mut problems);
                            }
                        }
                    }
                    ("Pod", true) => check(limit, &of_pod(object), &mut problems),
                    ("PersistentVolumeClaim", false) => {
                        let requests = read(get(object, "spec.resources.requests"));
                        check_claim(limit, &requests, &mut problems);
                    }
                    _ => {}
                }
            }
            let mut seen = Seen::new();
            problems.retain(|problem| !seen.repeats(problem.clone()));
            match problems.as_slice() {
                [] => {}
                [one] => return Err(attributes.forbid(one)),
                several => return Err(attributes.forbid(&format!("[{}]", several.join(", ")))),
            }
        }
        Ok(())
    }
}

/// What a range says of containers counts for each of them: more of both than any cluster has is refused, since defaults would
/// make the pod as large as the product.
fn bounded(pod: &Tree, range: &Tree) -> Result<(), Status> {
    const MOST: usize = 100_000;
    let amounts = |limit: &Tree| {
        ["min", "max", "default", "defaultRequest", "maxLimitRequestRatio"]
            .map(|field| entries(limit, field).count())
            .iter()
            .sum::<usize>()
    };
    let limits: usize = list(range, "spec.limits").iter().map(amounts).sum();
    let containers: usize =
        ["containers", "initContainers"].map(|field| list(get(pod, "spec"), field).len()).iter().sum();
    match limits.saturating_mul(containers) {
        0..=MOST => Ok(()),
        _ => Err(Status::request_entity_too_large("containers times limits of the namespace's LimitRange")),
    }
}

/// Sets what containers leave open, and says so in an annotation.
fn fill(pod: &mut Tree, range: &Tree) {
    let limits: Vec<&Tree> =
        list(range, "spec.limits").iter().filter(|limit| text(limit, "type") == "Container").collect();
    let mut said = Vec::new();
    for (field, kind) in [("containers", "container"), ("initContainers", "init container")] {
        let spec = object_mut(pod, "spec").and_then(|spec| spec.get_mut(field));
        for container in spec.and_then(Tree::as_array_mut).into_iter().flatten() {
            for (part, from, word) in
                [("requests", "defaultRequest", "request"), ("limits", "default", "limit")]
            {
                let set = fill_part(container, part, limits.iter().flat_map(|limit| entries(limit, from)));
                if !set.is_empty() {
                    said.push(format!("{} {word} for {kind} {}", set.join(", "), text(container, "name")));
                }
            }
        }
    }
    if !said.is_empty() {
        let said = format!("LimitRanger plugin set: {}", said.join("; "));
        ensure(pod, "metadata.annotations").insert(ANNOTATION.to_owned(), said.into());
    }
}

fn fill_part<'t>(
    container: &mut Tree,
    part: &str,
    from: impl Iterator<Item = (&'t str, &'t Tree)>,
) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in from {
        if get(container, "resources").get(part).is_none_or(|own| own.get(name).is_none()) {
            let amounts = ensure(container, "resources").entry(part.to_owned()).or_insert(Tree::Null);
            as_object(amounts).insert(name.to_owned(), amount.clone());
            set.push(name.to_owned());
        }
    }
    set.sort();
    set
}

/// Quantities by resource.
type Amounts = BTreeMap<String, Quantity>;

/// What something asks for, and may use.
struct Usage {
    requests: Amounts,
    limits: Amounts,
}

fn read(tree: &Tree) -> Amounts {
    let amounts = tree.as_object().into_iter().flatten();
    amounts.filter_map(|(name, value)| Some((name.to_string(), Quantity::from_tree(value).ok()?))).collect()
}

fn amounts(owner: &Tree, path: &str) -> Usage {
    let part = |part: &str| read(get(owner, &format!("{path}.{part}")));
    Usage { requests: part("requests"), limits: part("limits") }
}

/// A pod's usage: of its containers together, or of the init container that takes more; what one of the containers leaves open
/// is open.
fn of_pod(pod: &Tree) -> Usage {
    let part = |part: &str| {
        let path = format!("resources.{part}");
        let containers: Vec<Amounts> =
            list(pod, "spec.containers").iter().map(|container| read(get(container, &path))).collect();
        let mut total = Amounts::new();
        for name in containers.first().into_iter().flat_map(Amounts::keys) {
            let all = containers.iter().map(|amounts| amounts.get(name)).collect::<Option<Vec<_>>>();
            let sum = all.and_then(|all| all.into_iter().copied().reduce(|sum, one| sum.add(&one)));
            total.extend(sum.map(|sum| (name.clone(), sum)));
        }
        for container in list(pod, "spec.initContainers") {
            for (name, amount) in read(get(container, &path)) {
                let more = total.get(&name).is_none_or(|sum| sum.milli() < amount.milli());
                if more {
                    total.insert(name, amount);
                }
            }
        }
        total
    };
    let mut usage = Usage { requests: part("requests"), limits: part("limits") };
    // the pod's own resources take precedence over its containers'
    let own = amounts(pod, "spec.resources");
    usage.requests.extend(own.requests);
    usage.limits.extend(own.limits);
    usage
}

/// The problems of a usage with one entry of a range.
fn check(limit: &Tree, usage: &Usage, problems: &mut Vec<String>) {
    let kind = text(limit, "type");
    for (name, least) in read(get(limit, "min")) {
        let start = format!("minimum {name} usage per {kind} is {least}");
        match (usage.requests.get(&name), usage.limits.get(&name)) {
            (None, _) => problems.push(format!("{start}.  No request is specified")),
            (Some(request), _) if request.milli() < least.milli() => {
                problems.push(format!("{start}, but request is {request}"));
            }
            (_, Some(own)) if own.milli() < least.milli() => {
                problems.push(format!("{start}, but limit is {own}"))
            }
            _ => {}
        }
    }
    for (name, most) in read(get(limit, "max")) {
        let start = format!("maximum {name} usage per {kind} is {most}");
        match (usage.requests.get(&name), usage.limits.get(&name)) {
            (_, None) => problems.push(format!("{start}.  No limit is specified")),
            (_, Some(own)) if own.milli() > most.milli() => {
                problems.push(format!("{start}, but limit is {own}"))
            }
            (Some(request), _) if request.milli() > most.milli() => {
                problems.push(format!("{start}, but request is {request}"));
            }
            _ => {}
        }
    }
    for (name, most) in read(get(limit, "maxLimitRequestRatio")) {
        let start = format!("{name} max limit to request ratio per {kind} is {most}");
        let given =
            |amounts: &Amounts| amounts.get(&name).map(|amount| amount.milli()).filter(|milli| *milli != 0);
        match (given(&usage.requests), given(&usage.limits)) {
            (None, _) => problems.push(format!("{start}, but no request is specified or request is 0")),
            (_, None) => problems.push(format!("{start}, but no limit is specified or limit is 0")),
            (Some(request), Some(own)) => {
                if own * 1000 > most.milli() * request {
                    let ratio = own as f64 / request as f64;
                    problems.push(format!("{start}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
}

fn check_claim(limit: &Tree, requests: &Amounts, problems: &mut Vec<String>) {
    for (bound, word) in [("min", "minimum"), ("max", "maximum")] {
        for (name, amount) in read(get(limit, bound)) {
            let start = format!("{word} {name} usage per PersistentVolumeClaim is {amount}");
            match requests.get(&name) {
                None => problems.push(format!("{start}.  No request is specified")),
                Some(own) => {
                    let wrong = if bound == "min" {
                        own.milli() < amount.milli()
                    } else {
                        own.milli() > amount.milli()
                    };
                    if wrong {
                        problems.push(format!("{start}, but request is {own}"));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use api::json;

    use super::*;

    #[test]
    fn missing_requests_and_limits_are_filled() {
        let mut pod = json!({"metadata": {"name": "x"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1", "memory": "1Mi"}}}],
            "initContainers": [{"name": "i", "resources": {"limits": {"cpu": "1", "memory": "1Mi"}, "requests": {"cpu": "1"}}}]}});
        let range = json!({"spec": {"limits": [{"type": "Container",
            "default": {"cpu": "300m", "memory": "500Mi"}, "defaultRequest": {"memory": "200Mi", "cpu": "100m"}}]}});
        fill(&mut pod, &range);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"limits": {"cpu": "300m", "memory": "500Mi"}, "requests": {"cpu": "100m", "memory": "200Mi"}})
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu, memory request for container a; cpu, memory limit for container a; \
             memory limit for container b; memory request for init container i"
        );
    }

    #[test]
    fn bounds() {
        let check = |pod: Tree, limit: Tree, expect: &[&str]| {
            let mut problems = Vec::new();
            super::check(&limit, &of_pod(&pod), &mut problems);
            assert_eq!(problems, expect);
        };
        let pod = |resources: Tree| json!({"spec": {"containers": [{"name": "a", "resources": resources}]}});
        let limit = json!({"type": "Pod", "min": {"cpu": "50m", "memory": "100Mi"}, "max": {"cpu": "500m"},
            "maxLimitRequestRatio": {"memory": "1500m"}});
        check(
            pod(json!({})),
            limit.clone(),
            &[
                "minimum cpu usage per Pod is 50m.  No request is specified",
                "minimum memory usage per Pod is 100Mi.  No request is specified",
                "maximum cpu usage per Pod is 500m.  No limit is specified",
                "memory max limit to request ratio per Pod is 1500m, but no request is specified or request is 0",
            ],
        );
        let resources =
            json!({"requests": {"cpu": "10m", "memory": "50Mi"}, "limits": {"cpu": "2", "memory": "100Mi"}});
        check(
            pod(resources),
            limit,
            &[
                "minimum cpu usage per Pod is 50m, but request is 10m",
                "minimum memory usage per Pod is 100Mi, but request is 50Mi",
                "maximum cpu usage per Pod is 500m, but limit is 2",
                "memory max limit to request ratio per Pod is 1500m, but provided ratio is 2.000000",
            ],
        );
    }
}
