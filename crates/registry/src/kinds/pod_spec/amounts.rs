//! What a pod asks for as a whole: its own requests and limits beside its containers', and its overhead.

use std::collections::BTreeMap;

use api::Tree;
use api::json;
use api::status::Cause;
use machinery::Quantity;
use machinery::bounds::is_full;
use machinery::fieldpath::Path;

use crate::kinds::container::Claims;
use crate::kinds::resources;
use crate::tree::{Object, as_object, entries, get, has, list, text};

type Amounts<'t> = BTreeMap<&'t str, Quantity>;

/// A resource that can be asked for a pod as a whole.
fn of_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

fn name(name: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let before = errors.len();
    resources::resource_name(name, path, errors);
    if errors.len() == before && !of_pods(name) {
        errors.push(path.not_supported(name, &["cpu", "hugepages-", "memory"]));
    }
}

fn amounts<'t>(holder: &'t Tree, set: &str) -> Amounts<'t> {
    let amount = |value| Quantity::from_tree(value).unwrap_or(Quantity::ZERO);
    entries(get(holder, "resources"), set).map(|(name, value)| (name, amount(value))).collect()
}

/// What the containers ask for together: those that run side by side, or the most that one of the others needs before them.
fn together<'t>(spec: &'t Tree, set: &str) -> Amounts<'t> {
    let mut sum = Amounts::new();
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    list(spec, "containers").iter().for_each(|container| add(&mut sum, amounts(container, set)));
    for container in list(spec, "initContainers") {
        let own = amounts(container, set);
        if text(container, "restartPolicy") == "Always" {
            add(&mut sum, own.clone());
            add(&mut sidecars, own);
            continue;
        }
        // it runs beside the sidecars before it
        for (name, amount) in own {
            let all = sidecars.get(name).map_or(amount, |beside| beside.add(&amount));
            let most = peak.entry(name).or_insert(all);
            *most = (*most).max(all);
        }
    }
    for (name, amount) in peak {
        let own = sum.entry(name).or_insert(amount);
        *own = (*own).max(amount);
    }
    sum
}

fn add<'t>(sum: &mut Amounts<'t>, more: Amounts<'t>) {
    for (name, amount) in more {
        let own = sum.entry(name).or_insert(Quantity::ZERO);
        *own = own.add(&amount);
    }
}

/// Fills what a pod asks for from what its containers ask for: limits where each has one, requests from its limits, too. A pod that asks
/// for nothing as a whole is left as it is.
pub(super) fn default(spec: &mut Object) {
    if spec.get("resources").is_none_or(|resources| !resources.is_object()) {
        return;
    }
    let whole = Tree::Object(spec.clone());
    let (own_requests, own_limits) = (amounts(&whole, "requests"), amounts(&whole, "limits"));
    if own_requests.is_empty() && own_limits.is_empty() {
        return;
    }
    let containers = || ["containers", "initContainers"].into_iter().flat_map(|field| list(&whole, field));
    let limited = |name: &str| containers().all(|one| get(one, "resources.limits").get(name).is_some());
    let mut limits = Object::new();
    let mut requests = Object::new();
    for (name, amount) in together(&whole, "limits") {
        let fills = name.starts_with("hugepages-") || matches!(name, "cpu" | "memory") && limited(name);
        if fills && !own_limits.contains_key(name) {
            let amount = own_requests.get(name).map_or(amount, |request| amount.max(*request));
            limits.insert(name, amount.to_string().into());
        }
    }
    for (name, amount) in together(&whole, "requests") {
        // huge pages are asked for as they are limited
        if matches!(name, "cpu" | "memory") && !own_requests.contains_key(name) {
            requests.insert(name, amount.to_string().into());
        }
    }
    let own = own_limits.iter().map(|(name, amount)| (*name, amount.to_string().into()));
    let filled = limits.iter().map(|(name, amount)| (name.as_str(), amount.clone()));
    for (name, amount) in own.chain(filled) {
        if of_pods(name) && !own_requests.contains_key(name) && !requests.contains_key(name) {
            requests.insert(name, amount);
        }
    }
    let resources = as_object(spec.entry("resources").or_insert(Tree::Null));
    for (set, more) in [("limits", limits), ("requests", requests)] {
        if !more.is_empty() {
            let set = as_object(resources.entry(set).or_insert(Tree::Null));
            more.into_iter().for_each(|(name, amount)| drop(set.insert(name, amount)));
            set.sort_keys();
        }
    }
}

pub(super) fn check(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let own = get(spec, "resources");
    if !own.is_null() && text(spec, "os.name") != "windows" {
        let at = path.field("resources");
        if !list(own, "claims").is_empty() {
            errors.push(at.field("claims").forbidden("claims may not be set for Resources at pod-level"));
        }
        let claims: Claims<'_> =
            list(spec, "resourceClaims").iter().map(|claim| text(claim, "name")).collect();
        resources::requirements_of(own, name, &at, Some(&claims), errors);
        consistency(spec, &at, errors);
    }
    if has(spec, "overhead") {
        let overhead = json!({"limits": get(spec, "overhead").clone()});
        resources::requirements(&overhead, &path.field("overhead"), None, errors);
    }
}

/// The whole is no less than its parts.
fn consistency(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let (requests, limits) = (amounts(spec, "requests"), amounts(spec, "limits"));
    for (set, own) in [("requests", &requests), ("limits", &limits)] {
        let all = path.field(set);
        for (name, sum) in together(spec, set) {
            // what is not limited as a whole is not limited; of limits only those of huge pages add up
            let counts = of_pods(name) && (set == "requests" || name.starts_with("hugepages-"));
            let Some(amount) = own.get(name).filter(|amount| counts && sum > **amount) else { continue };
            let detail = format!("must be greater than or equal to aggregate container {set} of {sum}");
            errors.push(all.key(name).invalid(&*amount.to_string(), &detail));
        }
    }
    let containers = path.field("containers");
    for (index, container) in list(spec, "containers").iter().enumerate() {
        let at = containers.index(index);
        for (name, limit) in amounts(container, "limits") {
            if is_full(errors) {
                return;
            }
            let Some(most) = limits.get(name).filter(|most| limit > **most) else { continue };
            let detail = format!("must be less than or equal to pod limits of {most}");
            errors.push(at.key(name).field("limits").invalid(&*limit.to_string(), &detail));
        }
    }
}
