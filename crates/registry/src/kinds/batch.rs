//! Jobs and CronJobs.

mod indexes;
mod policies;
mod schedule;
mod status;

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::{Path, Shown, domain_path};
use machinery::{labels, names};

use crate::internal;
use crate::kinds::{template, warnings};
use crate::profile::{Generation, Profile};
use crate::rules::{self, Literal, Rule, Table, not_negative};
use crate::strategy::Context;
use crate::tree::{
    Object, as_object, ensure, fill_pointer, flag, get, has, int, list, number, put, same, text, unset,
};

const PRESERVED: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";
const UID: &str = "batch.kubernetes.io/controller-uid";
const NAME: &str = "batch.kubernetes.io/job-name";
const OLD_UID: &str = "controller-uid";
const OLD_NAME: &str = "job-name";

pub(super) const RULES: Table = &[
    ("k8s.io.api.batch.v1.Job", &[Rule::DefaultFn(job_defaults)]),
    (
        "k8s.io.api.batch.v1.CronJobSpec",
        &[
            Rule::Default("concurrencyPolicy", Literal::Text("Allow")),
            Rule::Default("suspend", Literal::Bool(false)),
            Rule::Default("successfulJobsHistoryLimit", Literal::Number(3)),
            Rule::Default("failedJobsHistoryLimit", Literal::Number(1)),
            Rule::Own("jobTemplate"),
            Rule::Check(cron_job),
        ],
    ),
    ("k8s.io.api.batch.v1.JobSpec", &[Rule::Own("template"), Rule::Check(job)]),
    (
        "k8s.io.api.batch.v1.PodFailurePolicyOnPodConditionsPattern",
        &[Rule::Default("status", Literal::Text("True"))],
    ),
];

const BATCH: Profile =
    Profile { generation: Generation::Spec, status: true, full: true, ..Profile::new("batch", "") };

pub(super) const PROFILES: &[Profile] = &[
    Profile {
        plural: "jobs",
        completed_on_read: true,
        warn: Some(warnings::job),
        prepare: Some(prepare_job),
        owned: Some(with_labels),
        check: Some(check_job),
        check_status: Some(status::check),
        orphans: true,
        unsaid_policy: Some(PRESERVED),
        ..BATCH
    },
    Profile {
        plural: "cronjobs",
        warn: Some(warnings::cron_job),
        name: cron_name,
        generate_name: Some(names::dns1123_subdomain),
        ..BATCH
    },
];

/// The names of its jobs have eleven characters more.
fn cron_name(name: &str) -> Vec<String> {
    let mut errors = names::dns1123_subdomain(name);
    if name.len() > 52 {
        errors.push("must be no more than 52 characters".to_owned());
    }
    errors
}

fn job_defaults(job: &mut Object) {
    let Some(spec) = job.get_mut("spec").and_then(Tree::as_object_mut) else { return };
    let absent = |spec: &Object, key: &str| spec.get(key).is_none_or(Tree::is_null);
    if absent(spec, "completions") && absent(spec, "parallelism") {
        fill_pointer(spec, "completions", 1);
    }
    fill_pointer(spec, "parallelism", 1);
    let per_index = !absent(spec, "backoffLimitPerIndex");
    fill_pointer(spec, "backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
    fill_pointer(spec, "completionMode", "NonIndexed");
    fill_pointer(spec, "suspend", false);
    fill_pointer(spec, "manualSelector", false);
    let policy = if absent(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    fill_pointer(spec, "podReplacementPolicy", policy);
}

/// A job without labels has its template's, and with them what its pods are known by.
fn labels_of_template(job: &mut Tree) {
    if unset(get(job, "metadata.labels")) && !unset(get(job, "spec.template.metadata.labels")) {
        let labels = get(job, "spec.template.metadata.labels").clone();
        put(ensure(job, "metadata"), "labels", labels);
    }
}

/// Labels of the template are the job's own before its pods get more.
fn with_labels(job: &Tree) -> Option<Tree> {
    let lacks = unset(get(job, "metadata.labels")) && !unset(get(job, "spec.template.metadata.labels"));
    lacks.then(|| {
        let mut job = job.clone();
        labels_of_template(&mut job);
        job
    })
}

/// A job's pods bear its identity, and it selects them by that; unless its author sees to it.
fn prepare_job(_: &Context<'_>, job: &mut Tree, old: Option<&Tree>) {
    if old.is_some() || flag(job, "spec.manualSelector") {
        labels_of_template(job);
        return;
    }
    if text(job, "metadata.uid").is_empty() {
        ensure(job, "metadata").insert("uid", uuid::Uuid::new_v4().to_string().into());
    }
    let (uid, name) = (text(job, "metadata.uid").to_owned(), text(job, "metadata.name").to_owned());
    let labels = ensure(job, "spec.template.metadata.labels");
    for (key, value) in [(UID, &uid), (NAME, &name), (OLD_UID, &uid), (OLD_NAME, &name)] {
        labels.entry(key).or_insert_with(|| value.as_str().into());
    }
    labels_of_template(job);
    ensure(job, "spec.selector.matchLabels").entry(UID).or_insert_with(|| uid.into());
    for path in ["metadata.labels", "spec.template.metadata.labels", "spec.selector.matchLabels"] {
        let labels = ensure(job, path);
        labels.sort_keys();
    }
}

fn job(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const COUNTS: [&str; 6] = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
    ];
    for field in COUNTS {
        not_negative(number(spec, field), &path.field(field), errors);
    }
    let indexed = text(spec, "completionMode") == "Indexed";
    match rules::given(spec, "completionMode").unwrap_or("NonIndexed") {
        "NonIndexed" => {}
        "Indexed" => {
            if !has(spec, "completions") {
                let detail = "when completion mode is Indexed";
                errors.push(path.field("completions").required(detail));
            }
            if number(spec, "parallelism") > 100_000 {
                let detail = "must be less than or equal to 100000 when completion mode is Indexed";
                errors.push(path.field("parallelism").invalid(number(spec, "parallelism"), detail));
            }
        }
        other => errors.push(path.field("completionMode").not_supported(other, &["NonIndexed", "Indexed"])),
    }
    not_negative(number(spec, "maxFailedIndexes"), &path.field("maxFailedIndexes"), errors);
    if has(spec, "maxFailedIndexes") && !has(spec, "backoffLimitPerIndex") {
        errors.push(path.field("backoffLimitPerIndex").required("when maxFailedIndexes is specified"));
    }
    if indexed {
        let most = number(spec, "maxFailedIndexes");
        if has(spec, "completions") && most > number(spec, "completions") {
            let detail = "must be less than or equal to completions";
            errors.push(path.field("maxFailedIndexes").invalid(most, detail));
        }
    }
    let plain = matches!(rules::given(spec, "completionMode"), None | Some("NonIndexed"));
    if !indexed {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"].into_iter().filter(|_| plain) {
            if let Some(value) = int(spec, field) {
                errors.push(path.field(field).invalid(value, "requires indexed completion mode"));
            }
        }
        if has(spec, "successPolicy") {
            let shown = internal::shown(get(spec, "successPolicy"), "batch.v1.SuccessPolicy");
            let detail = "requires indexed completion mode";
            errors.push(path.field("successPolicy").invalid(shown, detail));
        }
    }
    if has(spec, "podFailurePolicy") {
        policies::failure(spec, &path.field("podFailurePolicy.rules"), errors);
    }
    if indexed && has(spec, "successPolicy") {
        policies::success(spec, &path.field("successPolicy.rules"), errors);
    }
    let replacements: &[&str] =
        if has(spec, "podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    rules::one_of(spec, "podReplacementPolicy", replacements, path, errors);
    if let Some(manager) = rules::given(spec, "managedBy") {
        let at = path.field("managedBy");
        domain_path(manager, &at, errors);
        if manager.len() > 63 {
            errors.push(at.too_long(63));
        }
    }
    rules::descend(
        get(spec, "template"),
        "k8s.io.api.core.v1.PodTemplateSpec",
        &path.field("template"),
        errors,
    );
    let at = path.field("template.spec.restartPolicy");
    match text(spec, "template.spec.restartPolicy") {
        "" | "Always" => errors.push(at.required("valid values: \"OnFailure\", \"Never\"")),
        "OnFailure" | "Never" => {}
        other => errors.push(at.not_supported(other, &["OnFailure", "Never"])),
    }
    let policy = text(spec, "template.spec.restartPolicy");
    if has(spec, "podFailurePolicy") && policy == "OnFailure" {
        let detail = "only \"Never\" is supported when podFailurePolicy is specified";
        errors.push(at.invalid(policy, detail));
    }
}

/// A pod's spec with another's placement and resources.
fn placed_as(spec: &Tree, other: &Tree) -> Tree {
    let mut spec = spec.clone();
    for field in ["nodeSelector", "affinity", "tolerations", "schedulingGates"] {
        put(as_object(&mut spec), field, get(other, field).clone());
    }
    for field in ["containers", "initContainers"] {
        let containers = spec.get_mut(field).and_then(Tree::as_array_mut);
        for (container, other) in containers.into_iter().flatten().zip(list(other, field)) {
            put(as_object(container), "resources", get(other, "resources").clone());
        }
    }
    spec
}

static SPEC: Path<'static> = Path::new("spec");

/// What a job selects its pods by is made of its identity, on both sides. Complaints stand behind those about metadata.
fn check_generated(job: &Tree, errors: &mut Vec<Cause>) {
    let (own, made) = (get(job, "metadata.labels"), get(job, "spec.template.metadata.labels"));
    let (uid, name) = (text(job, "metadata.uid"), text(job, "metadata.name"));
    let expected = [(OLD_UID, uid), (OLD_NAME, name), (UID, uid), (NAME, name)];
    if same(own, made) && made.as_object().is_some_and(|labels| labels.len() == expected.len()) {
        // Without labels of its own it has its template's from here on only.
        errors.retain(|cause| cause.field != "metadata.labels");
    }
    let mut found = Vec::new();
    let at = SPEC.field("template.metadata.labels");
    for (key, value) in expected {
        match made.get(key).and_then(Tree::as_str) {
            Some(own) if own == value => {}
            Some(_) => found.push(at.key(key).invalid(made, &format!("must be '{value}'"))),
            None => found.push(at.key(key).required(&format!("must be '{value}'"))),
        }
    }
    let selector = get(job, "spec.selector");
    if let Ok(parsed) = labels::Selector::from_label_selector(selector)
        && !parsed.matches(expected)
    {
        found.push(SPEC.field("selector").invalid(selector, "`selector` not auto-generated"));
    }
    let place = errors.iter().position(|cause| !cause.field.starts_with("metadata."));
    let behind = errors.split_off(place.unwrap_or(errors.len()));
    errors.extend(found.into_iter().chain(behind));
}

fn check_job(_: &Context<'_>, job: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let spec = get(job, "spec");
    if old.is_none() && text(spec, "completionMode") == "Indexed" && number(spec, "completions") > 0 {
        // The last of its pods has the longest name.
        let pod = format!("{}-{}", text(job, "metadata.name"), number(spec, "completions") - 1);
        if !names::is_dns1123_label(&pod) {
            let detail = format!("will not able to create pod with invalid DNS label: {pod}");
            errors.push(
                Path::new("metadata.name").invalid(get(job, "metadata.name").as_str().unwrap_or(""), &detail),
            );
        }
    }
    let selector = get(spec, "selector");
    if old.is_none() && !flag(spec, "manualSelector") {
        check_generated(job, errors);
    }
    let before = errors.len();
    if selector.is_null() {
        errors.push(SPEC.field("selector").required(""));
    } else {
        labels::validate_label_selector(selector, &SPEC.field("selector"), errors);
    }
    let good = selector.is_null() || errors.len() == before;
    if let Ok(selector) = labels::Selector::from_label_selector(selector)
        && good
    {
        template::selected(&selector, get(spec, "template"), &SPEC.field("template"), errors);
    }
    let Some(old) = old else { return };
    let before = get(old, "spec");
    let immutable = |field: &str, errors: &mut Vec<Cause>| {
        if !same(get(spec, field), get(before, field)) {
            errors.push(SPEC.field(field).invalid(get(spec, field), "field is immutable"));
        }
    };
    let together = get(spec, "completions") == get(spec, "parallelism");
    let indexed = text(before, "completionMode") == "Indexed" && has(spec, "completions");
    if !indexed {
        immutable("completions", errors);
    } else if !together && !same(get(spec, "completions"), get(before, "completions")) {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.push(SPEC.field("completions").invalid(get(spec, "completions"), detail));
    }
    immutable("selector", errors);
    let stopped = || {
        list(old, "status.conditions")
            .iter()
            .any(|one| text(one, "type") == "Suspended" && text(one, "status") == "True")
    };
    let suspended = flag(before, "suspend") && (!has(old, "status.startTime") || stopped());
    if suspended {
        // the fields that place its pods may still change
        let (now, before) = (get(spec, "template.spec"), get(before, "template.spec"));
        if !same(&placed_as(now, before), before) {
            let shown = internal::shown(now, "core.v1.PodSpec");
            errors.push(SPEC.field("template.spec").invalid(shown, "field is immutable"));
        }
    } else if !same(get(spec, "template"), get(before, "template")) {
        let shown = internal::shown(get(spec, "template"), "core.v1.PodTemplateSpec");
        errors.push(SPEC.field("template").invalid(shown, "field is immutable"));
    }
    immutable("completionMode", errors);
    for (field, message) in
        [("podFailurePolicy", "batch.v1.PodFailurePolicy"), ("successPolicy", "batch.v1.SuccessPolicy")]
    {
        if !same(get(spec, field), get(before, field)) {
            let value = get(spec, field);
            let shown = if value.is_null() { Shown::Null } else { internal::shown(value, message) };
            errors.push(SPEC.field(field).invalid(shown, "field is immutable"));
        }
        if field == "podFailurePolicy" {
            immutable("backoffLimitPerIndex", errors);
            immutable("managedBy", errors);
        }
    }
}

fn cron_job(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let (line, at) = (text(spec, "schedule"), path.field("schedule"));
    if line.contains("TZ") {
        errors.push(at.invalid(line, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"));
    } else if line.is_empty() {
        errors.push(at.required(""));
    } else if let Err(problem) = schedule::check(line) {
        errors.push(at.invalid(line, &problem));
    }
    let deadline = "startingDeadlineSeconds";
    not_negative(number(spec, deadline), &path.field(deadline), errors);
    if let Some(zone) = get(spec, "timeZone").as_str() {
        time_zone(zone, &path.field("timeZone"), errors);
    }
    let policy = text(spec, "concurrencyPolicy");
    if policy.is_empty() {
        errors.push(path.field("concurrencyPolicy").required(""));
    } else if !matches!(policy, "Allow" | "Forbid" | "Replace") {
        errors.push(path.field("concurrencyPolicy").not_supported(policy, &["Allow", "Forbid", "Replace"]));
    }
    rules::descend(
        get(spec, "jobTemplate"),
        "k8s.io.api.batch.v1.JobTemplateSpec",
        &path.field("jobTemplate"),
        errors,
    );
    let selector = get(spec, "jobTemplate.spec.selector");
    if !selector.is_null() {
        let at = path.field("jobTemplate.spec.selector");
        errors.push(at.invalid(selector, "`selector` will be auto-generated"));
    }
    if flag(spec, "jobTemplate.spec.manualSelector") {
        let at = path.field("jobTemplate.spec.manualSelector");
        errors.push(at.not_supported(true, &["nil", "false"]));
    }
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        not_negative(number(spec, field), &path.field(field), errors);
    }
}

/// A zone goes by its name, to the letter.
fn time_zone(zone: &str, at: &Path<'_>, errors: &mut Vec<Cause>) {
    if zone.is_empty() {
        errors.push(at.invalid(zone, "timeZone must be nil or non-empty string"));
        return;
    }
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    let bad = |part: &str| {
        !(1..=14).contains(&part.len())
            || matches!(part, "." | "..")
            || part.starts_with('-')
            || !part.bytes().all(letter)
    };
    if zone.split('/').any(bad) {
        errors.push(at.invalid(zone, &format!("unknown time zone {zone}")));
        return;
    }
    if zone.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(at.invalid(zone, detail));
    }
    let found = jiff::tz::TimeZone::get(zone);
    let known = zone == "Local" || found.is_ok_and(|found| found.iana_name() == Some(zone));
    let above = |name: &jiff::tz::TimeZoneName<'_>| {
        name.as_str().strip_prefix(zone).is_some_and(|rest| rest.starts_with('/'))
    };
    if known {
    } else if jiff::tz::db().available().any(|name| above(&name)) {
        errors.push(at.invalid(zone, "is a directory"));
    } else {
        errors.push(at.invalid(zone, &format!("unknown time zone {zone}")));
    }
}
