//! StatefulSets.

use machinery::bounds::Seen;

use super::*;

pub(super) fn stateful_strategy(spec: &mut Object) {
    let strategy = as_object(spec.entry("updateStrategy").or_insert(Tree::Null));
    // A strategy with an explicit type and no `rollingUpdate` gets no defaults for it.
    let rolling = match member(strategy, "type") {
        "" => true,
        "RollingUpdate" => strategy.get("rollingUpdate").is_some_and(|rolling| !rolling.is_null()),
        _ => false,
    };
    fill(strategy, "type", "RollingUpdate");
    if rolling {
        let rolling = as_object(strategy.entry("rollingUpdate").or_insert(Tree::Null));
        fill_pointer(rolling, "partition", 0);
        fill_pointer(rolling, "maxUnavailable", 1);
    }
    let retention = as_object(spec.entry("persistentVolumeClaimRetentionPolicy").or_insert(Tree::Null));
    fill(retention, "whenDeleted", "Retain");
    fill(retention, "whenScaled", "Retain");
    for claim in spec.get_mut("volumeClaimTemplates").and_then(Tree::as_array_mut).into_iter().flatten() {
        let claim = as_object(claim);
        fill(claim, "kind", "PersistentVolumeClaim");
        fill(claim, "apiVersion", "v1");
    }
}

pub(super) fn stateful_set(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    match text(spec, "podManagementPolicy") {
        "" => errors.push(path.field("podManagementPolicy").required("")),
        "OrderedReady" | "Parallel" => {}
        other => errors
            .push(path.field("podManagementPolicy").invalid(other, "must be 'OrderedReady' or 'Parallel'")),
    }
    let (strategy, at) = (get(spec, "updateStrategy"), path.field("updateStrategy"));
    let rolling = get(strategy, "rollingUpdate");
    match text(strategy, "type") {
        "" => errors.push(at.required("")),
        "OnDelete" => {
            if !rolling.is_null() {
                let shown = internal::shown(rolling, "apps.v1.RollingUpdateStatefulSetStrategy");
                let detail = "only allowed for updateStrategy 'RollingUpdate'";
                errors.push(at.field("rollingUpdate").invalid(shown, detail));
            }
        }
        "RollingUpdate" => {
            counts(rolling, &["partition"], &at.field("rollingUpdate"), errors);
            let at = at.field("rollingUpdate.maxUnavailable");
            number_or_percent(get(rolling, "maxUnavailable"), &at, errors);
            if has(rolling, "maxUnavailable") && zero(get(rolling, "maxUnavailable")) {
                errors.push(at.invalid(get(rolling, "maxUnavailable"), "cannot be 0"));
            }
            not_above_hundred(get(rolling, "maxUnavailable"), &at, errors);
        }
        _ => errors.push(at.invalid(
            internal::shown(strategy, "apps.v1.StatefulSetUpdateStrategy"),
            "must be 'RollingUpdate' or 'OnDelete'",
        )),
    }
    let retention = path.field("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let value = text(get(spec, "persistentVolumeClaimRetentionPolicy"), field);
        if !matches!(value, "Retain" | "Delete") {
            errors.push(retention.field(field).not_supported(value, &["Retain", "Delete"]));
        }
    }
    counts(spec, &["replicas", "minReadySeconds"], path, errors);
    counts(get(spec, "ordinals"), &["start"], &path.field("ordinals"), errors);
    if let Some(selector) = selector(spec, "statefulset", path, errors)
        && !selector.is_everything()
    {
        template::selected(&selector, get(spec, "template"), &path.field("template"), errors);
    }

    let policy = text(spec, "template.spec.restartPolicy");
    if policy != "Always" {
        errors.push(path.field("template.spec.restartPolicy").not_supported(policy, &["Always"]));
    }
    if has(spec, "template.spec.activeDeadlineSeconds") {
        let at = path.field("template.spec.activeDeadlineSeconds");
        errors.push(at.forbidden("activeDeadlineSeconds in StatefulSet is not Supported"));
    }
}

/// Claims are volumes of the template's pods, and may be mounted.
pub(super) fn with_claims(object: &Tree) -> Tree {
    let mut view = object.clone();
    let claims = list(object, "spec.volumeClaimTemplates");
    let name = |claim: &Tree| text(claim, "metadata.name").to_owned();
    let own = list(object, "spec.template.spec.volumes").iter();
    let claimed: Seen<&str> = claims.iter().map(|claim| text(claim, "metadata.name")).collect();
    let own: Vec<Tree> = own.filter(|volume| !claimed.contains(text(volume, "name"))).cloned().collect();
    let volume =
        |claim: &Tree| api::json!({"name": name(claim), "persistentVolumeClaim": {"claimName": name(claim)}});
    let mut seen = Seen::new();
    let claimed = claims.iter().filter(|claim| !seen.repeats(name(claim))).map(volume);
    let all: Vec<Tree> = claimed.chain(own).collect();
    if !claims.is_empty() {
        ensure(&mut view, "spec.template.spec").insert("volumes", Tree::Array(all));
    }
    view
}

pub(super) fn check_stateful_set(
    _: &Context<'_>,
    object: &Tree,
    old: Option<&Tree>,
    errors: &mut Vec<Cause>,
) {
    let Some(old) = old else {
        let service = text(object, "spec.serviceName");
        if !service.is_empty() {
            rules::format(service, names::dns1123_label(service), &Path::new("spec.serviceName"), errors);
        }
        return;
    };
    // They never change, and were looked at when they came.
    errors.retain(|cause| !cause.field.starts_with("spec.volumeClaimTemplates["));
    let (new, old) = (get(object, "spec"), get(old, "spec"));
    let claims = |claims: &Tree| match claims.as_array() {
        None => Shown::Null,
        Some(claims) => {
            let shown = |claim| internal::shown(claim, "core.v1.PersistentVolumeClaim").to_string();
            Shown::Plain(format!("[{}]", claims.iter().map(shown).collect::<Vec<_>>().join(",")))
        }
    };
    for field in ["selector", "volumeClaimTemplates", "serviceName", "podManagementPolicy"] {
        let value = get(new, field);
        if !same(value, get(old, field)) {
            let shown = if field == "volumeClaimTemplates" { claims(value) } else { Shown::Tree(value) };
            errors.push(Path::new("spec").field(field).invalid(shown, "field is immutable"));
        }
    }
    const MUTABLE: [&str; 11] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
        // These have their own complaint.
        "selector",
        "volumeClaimTemplates",
        "serviceName",
        "podManagementPolicy",
    ];
    let fixed = |spec: &Tree| {
        let mut spec = spec.clone();
        MUTABLE.iter().for_each(|field| drop(as_object(&mut spec).remove(field)));
        spec
    };
    if !same(&fixed(new), &fixed(old)) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.push(Path::new("spec").forbidden(detail));
    }
}
