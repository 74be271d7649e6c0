//! Priority and fairness: which requests are of one flow, and how many of a level are worked on at once.

use api::status::Cause;
use api::{Tree, json};
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::names;

use crate::internal;
use crate::profile::{ALL_METADATA, Generation, Profile};
use crate::rules::{self, Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{flag, get, has, int, list, number, same, text, texts};

pub(super) const RULES: Table = &[
    (
        "k8s.io.api.flowcontrol.v1.FlowSchemaSpec",
        &[Rule::Default("matchingPrecedence", Literal::Number(1000))],
    ),
    (
        "k8s.io.api.flowcontrol.v1.LimitedPriorityLevelConfiguration",
        &[
            Rule::Default("nominalConcurrencyShares", Literal::Number(30)),
            Rule::Default("lendablePercent", Literal::Number(0)),
        ],
    ),
    (
        "k8s.io.api.flowcontrol.v1.ExemptPriorityLevelConfiguration",
        &[
            Rule::Default("nominalConcurrencyShares", Literal::Number(0)),
            Rule::Default("lendablePercent", Literal::Number(0)),
        ],
    ),
    (
        "k8s.io.api.flowcontrol.v1.QueuingConfiguration",
        &[
            Rule::Default("queues", Literal::Number(64)),
            Rule::Default("handSize", Literal::Number(8)),
            Rule::Default("queueLengthLimit", Literal::Number(50)),
        ],
    ),
];

const KIND: Profile = Profile {
    generation: Generation::Spec,
    status: true,
    status_keeps: ALL_METADATA,
    check_status: Some(status),
    full: true,
    ..Profile::new("flowcontrol.apiserver.k8s.io", "")
};

pub(super) const PROFILES: &[Profile] = &[
    Profile { plural: "flowschemas", check: Some(schema), ..KIND },
    Profile { plural: "prioritylevelconfigurations", check: Some(level), ..KIND },
];

static SPEC: Path<'static> = Path::new("spec");

/// What the schemas that there must be say.
fn mandatory_schema(name: &str) -> Option<Tree> {
    let subjects = |groups: &[&str]| {
        let one = |group: &&str| json!({"kind": "Group", "group": {"name": *group}});
        Tree::Array(groups.iter().map(one).collect())
    };
    let all = |subjects: Tree, resources: Tree| json!([{"subjects": subjects, "resourceRules": resources, "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]);
    let everything = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}]);
    match name {
        "exempt" => Some(json!({
            "priorityLevelConfiguration": {"name": "exempt"},
            "matchingPrecedence": 1,
            "rules": all(subjects(&["system:masters"]), everything),
        })),
        "catch-all" => Some(json!({
            "priorityLevelConfiguration": {"name": "catch-all"},
            "matchingPrecedence": 10000,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": all(subjects(&["system:unauthenticated", "system:authenticated"]), everything),
        })),
        _ => None,
    }
}

fn schema(_: &Context<'_>, schema: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let (name, spec) = (text(schema, "metadata.name"), get(schema, "spec"));
    let (precedence, path) = (number(spec, "matchingPrecedence"), SPEC.field("matchingPrecedence"));
    if precedence <= 0 {
        errors.push(path.invalid(precedence, "must be a positive value"));
    }
    if precedence > 10000 {
        errors.push(path.invalid(precedence, "must not be greater than 10000"));
    }
    if precedence == 1 && name != "exempt" {
        errors.push(path.invalid(precedence, "only the schema named 'exempt' may have matchingPrecedence 1"));
    }
    let method = get(spec, "distinguisherMethod");
    if !method.is_null() && !matches!(text(method, "type"), "ByNamespace" | "ByUser") {
        let shown = internal::shown(method, "flowcontrol.v1.FlowDistinguisherMethod");
        let values = ["ByNamespace", "ByUser"];
        errors.push(SPEC.field("distinguisherMethod.type").not_supported(shown, &values));
    }
    let (level, path) =
        (text(spec, "priorityLevelConfiguration.name"), SPEC.field("priorityLevelConfiguration.name"));
    if level.is_empty() {
        errors.push(path.required("must reference a priority level"));
    } else {
        rules::format(level, names::dns1123_subdomain(level), &path, errors);
    }
    let all = SPEC.field("rules");
    for (index, rule) in list(spec, "rules").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        rule_with_subjects(rule, &all.index(index), errors);
    }
    if mandatory_schema(name).is_some_and(|fixed| !same(&fixed, spec)) {
        let shown = internal::shown(spec, "flowcontrol.v1.FlowSchemaSpec");
        errors.push(SPEC.invalid(shown, &format!("spec of '{name}' must equal the fixed value")));
    }
    conditions(schema, errors);
}

fn rule_with_subjects(rule: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let (subjects, all) = (list(rule, "subjects"), path.field("subjects"));
    for (index, one) in subjects.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        subject(one, &all.index(index), errors);
    }
    if subjects.is_empty() {
        errors.push(all.required("subjects must contain at least one value"));
    }
    let (resources, others) = (list(rule, "resourceRules"), list(rule, "nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        errors.push(path.required("at least one of resourceRules and nonResourceRules has to be non-empty"));
    }
    for (index, one) in resources.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        resource_rule(one, &path.field("resourceRules").index(index), errors);
    }
    for (index, one) in others.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        url_rule(one, &path.field("nonResourceRules").index(index), errors);
    }
}

fn subject(subject: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const KINDS: [(&str, &str); 3] =
        [("serviceAccount", "ServiceAccount"), ("user", "User"), ("group", "Group")];
    let kind = text(subject, "kind");
    let Some((own, _)) = KINDS.iter().find(|(_, known)| *known == kind) else {
        errors.push(path.field("kind").not_supported(kind, &["Group", "ServiceAccount", "User"]));
        return;
    };
    let (value, at) = (get(subject, own), path.field(own));
    if value.is_null() {
        errors.push(at.required(&format!("{own} is required when subject kind is '{kind}'")));
    } else {
        named(value, own, &at, errors);
    }
    for (field, known) in KINDS.iter().filter(|(field, _)| field != own && has(subject, field)) {
        let detail = format!("{field} is forbidden when subject kind is not '{known}'");
        errors.push(path.field(field).forbidden(&detail));
    }
}

fn named(subject: &Tree, kind: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let name = text(subject, "name");
    if name.is_empty() {
        errors.push(path.field("name").required(""));
    }
    if kind != "serviceAccount" {
        return;
    }
    if !name.is_empty() && name != "*" {
        rules::format(name, names::dns1123_subdomain(name), &path.field("name"), errors);
    }
    let (namespace, at) = (text(subject, "namespace"), path.field("namespace"));
    if namespace.is_empty() {
        errors.push(at.required("must specify namespace for service account"));
    } else {
        rules::format(namespace, names::dns1123_label(namespace), &at, errors);
    }
}

const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// Whether the list says all with a `*`, which must stand alone.
fn wildcard(rule: &Tree, field: &str, what: &str, path: &Path<'_>, errors: &mut Vec<Cause>) -> bool {
    let all = texts(rule, field).any(|value| value == "*");
    if all && list(rule, field).len() > 1 {
        let detail = format!("if '*' is present, must not specify other {what}");
        errors.push(path.field(field).invalid(get(rule, field), &detail));
    }
    all
}

fn verbs(rule: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if list(rule, "verbs").is_empty() {
        errors.push(path.field("verbs").required("verbs must contain at least one value"));
    } else if !wildcard(rule, "verbs", "verbs", path, errors)
        && !texts(rule, "verbs").all(|verb| VERBS.contains(&verb))
    {
        errors.push(path.field("verbs").not_supported(get(rule, "verbs"), &VERBS));
    }
}

fn resource_rule(rule: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    verbs(rule, path, errors);
    for (field, one, others) in
        [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")]
    {
        if list(rule, field).is_empty() {
            errors
                .push(path.field(field).required(&format!("resource rules must supply at least one {one}")));
        } else {
            wildcard(rule, field, others, path, errors);
        }
    }
    let at = path.field("namespaces");
    if list(rule, "namespaces").is_empty() && !flag(rule, "clusterScope") {
        let detail = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.push(at.required(detail));
    } else if !wildcard(rule, "namespaces", "namespaces", path, errors) {
        for (index, namespace) in texts(rule, "namespaces").enumerate() {
            if is_full(errors) {
                break;
            }
            for problem in names::dns1123_label(namespace) {
                let detail = format!("each member of this list must be '*' or a DNS-1123 label; {problem}");
                errors.push(at.index(index).invalid(namespace, &detail));
            }
        }
    }
}

fn url_rule(rule: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    verbs(rule, path, errors);
    let at = path.field("nonResourceURLs");
    if list(rule, "nonResourceURLs").is_empty() {
        errors.push(at.required("nonResourceURLs must contain at least one value"));
    } else if !wildcard(rule, "nonResourceURLs", "non-resource URLs", path, errors) {
        for (index, url) in texts(rule, "nonResourceURLs").enumerate() {
            if is_full(errors) {
                break;
            }
            errors.extend(url_problem(url).map(|problem| at.index(index).invalid(url, problem)));
        }
    }
}

fn url_problem(url: &str) -> Option<&'static str> {
    match url {
        "" => Some("must not be empty"),
        "/" => None,
        url if !url.starts_with('/') => Some("must start with slash"),
        url if url.contains(' ') => Some("must not contain white-space"),
        url if url.contains("//") => Some("must not contain double slash"),
        url => {
            let stars = url.matches('*').count();
            let wrong = stars > 1 || (stars == 1 && !url.ends_with("/*"));
            wrong.then_some("wildcard can only do suffix matching")
        }
    }
}

fn status(_: &Context<'_>, object: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    conditions(object, errors);
}

fn conditions(object: &Tree, errors: &mut Vec<Cause>) {
    let all = Path::new("status.conditions");
    let mut seen = Seen::new();
    for (index, condition) in list(object, "status.conditions").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let (kind, at) = (text(condition, "type"), all.index(index));
        if seen.repeats(kind) {
            errors.push(at.field("type").duplicate(kind));
        }
        if kind.is_empty() {
            errors.push(at.field("type").required(""));
        }
    }
}

const KEPT_ZERO: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";

fn level(_: &Context<'_>, object: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    if get(object, "metadata.annotations").get(KEPT_ZERO).is_some() {
        let detail = format!("annotation '{KEPT_ZERO}' is forbidden");
        errors.push(Path::new("metadata.annotations").forbidden(&detail));
    }
    let (name, spec) = (text(object, "metadata.name"), get(object, "spec"));
    let kind = text(spec, "type");
    if (name == "exempt") != (kind == "Exempt") {
        let detail = "must be 'Exempt' if and only if `name` is 'exempt'";
        errors.push(SPEC.field("type").invalid(kind, detail));
    }
    match kind {
        "Exempt" if has(spec, "exempt") => {
            shares(get(spec, "exempt"), &SPEC.field("exempt"), errors);
            lendable(get(spec, "exempt"), &SPEC.field("exempt"), errors);
        }
        "Limited" if has(spec, "limited") => limited(get(spec, "limited"), &SPEC.field("limited"), errors),
        "Exempt" | "Limited" | "" => {}
        _ => errors.push(SPEC.field("type").not_supported(kind, &["Exempt", "Limited"])),
    }
    fixed_level(name, spec, errors);
    conditions(object, errors);
}

/// The levels that there must be are what they are, but for how much an exempt one lends.
fn fixed_level(name: &str, spec: &Tree, errors: &mut Vec<Cause>) {
    let shown = || internal::shown(spec, "flowcontrol.v1.PriorityLevelConfigurationSpec");
    match name {
        "exempt" if text(spec, "type") != "Exempt" || has(spec, "limited") => {
            let detail = "spec of 'exempt' except the 'spec.exempt' field must equal the fixed value";
            errors.push(SPEC.invalid(shown(), detail));
        }
        "catch-all" => {
            let fixed = json!({"type": "Limited", "limited": {
                "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}}});
            if !same(&fixed, spec) {
                errors.push(SPEC.invalid(shown(), "spec of 'catch-all' must equal the fixed value"));
            }
        }
        _ => {}
    }
}

fn shares(level: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let shares = number(level, "nominalConcurrencyShares");
    if shares < 0 {
        errors.push(path.field("nominalConcurrencyShares").invalid(shares, "must be a non-negative integer"));
    }
}

fn lendable(level: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if let Some(percent) = int(level, "lendablePercent").filter(|percent| !(0..=100).contains(percent)) {
        errors.push(path.field("lendablePercent").invalid(percent, "must be between 0 and 100, inclusive"));
    }
}

fn limited(level: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    shares(level, path, errors);
    let (response, at) = (get(level, "limitResponse"), path.field("limitResponse"));
    match text(response, "type") {
        "Queue" if has(response, "queuing") => {
            queuing(get(response, "queuing"), &at.field("queuing"), errors);
        }
        "Queue" | "Reject" | "" => {}
        kind => errors.push(at.field("type").not_supported(kind, &["Queue", "Reject"])),
    }
    lendable(level, path, errors);
    if let Some(percent) = int(level, "borrowingLimitPercent").filter(|percent| *percent < 0) {
        let detail = "if specified, must be a non-negative integer";
        errors.push(path.field("borrowingLimitPercent").invalid(percent, detail));
    }
}

const MOST_QUEUES: i64 = 10_000_000;
/// The bits of a hash that deals out a hand of queues.
const HASH_BITS: u32 = 60;

fn queuing(queuing: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let [length, queues, hand] =
        ["queueLengthLimit", "queues", "handSize"].map(|field| number(queuing, field));
    if length <= 0 {
        errors.push(path.field("queueLengthLimit").invalid(length, "must be positive"));
    }
    if queues <= 0 {
        errors.push(path.field("queues").invalid(queues, "must be positive"));
    } else if queues > MOST_QUEUES {
        let detail = format!("must not be greater than {MOST_QUEUES}");
        errors.push(path.field("queues").invalid(queues, &detail));
    }
    let at = path.field("handSize");
    if hand <= 0 {
        errors.push(at.invalid(hand, "must be positive"));
    } else if hand > queues {
        errors.push(at.invalid(hand, &format!("should not be greater than queues ({queues})")));
    } else if entropy(queues, hand) > HASH_BITS {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        errors.push(at.invalid(hand, &detail));
    }
}

/// Bits that it takes to deal a hand out of a deck, or a few more.
fn entropy(deck: i64, hand: i64) -> u32 {
    ((deck as f64).log2() * hand as f64).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_hands() {
        for (url, expect) in [
            ("/", None),
            ("/a/*", None),
            ("a", Some("must start with slash")),
            ("/a*", Some("wildcard can only do suffix matching")),
            ("/*/*", Some("wildcard can only do suffix matching")),
            ("/a//b", Some("must not contain double slash")),
        ] {
            assert_eq!(url_problem(url), expect, "{url}");
        }
        assert_eq!((entropy(64, 8), entropy(128, 10), entropy(1, 1)), (48, 70, 0));
    }
}
