//! Pod templates, and the kinds that are nothing but one.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;
use machinery::labels;

use crate::kinds::pod_annotations;
use crate::meta::validate_annotations;
use crate::profile::{Generation, Profile};
use crate::rules::{Rule, Table};
use crate::tree::{Object, get, has, list, text};

pub(super) const RULES: Table = &[(
    "k8s.io.api.core.v1.PodTemplateSpec",
    &[Rule::DefaultFn(drop_old_annotations), Rule::Check(check), Rule::After(check_last)],
)];

pub(super) const PROFILES: &[Profile] = &[Profile {
    generation: Generation::Spec,
    warn: Some(super::warnings::pod_template),
    full: true,
    answers_deleted: true,
    ..Profile::new("", "podtemplates")
}];

/// Takes away annotations that stood for init containers before there was a field.
pub(super) fn drop_old_annotations(holder: &mut Object) {
    const OLD: [&str; 4] = [
        "pod.beta.kubernetes.io/init-containers",
        "pod.alpha.kubernetes.io/init-containers",
        "pod.beta.kubernetes.io/init-container-statuses",
        "pod.alpha.kubernetes.io/init-container-statuses",
    ];
    let Some(metadata) = holder.get_mut("metadata").and_then(Tree::as_object_mut) else { return };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Tree::as_object_mut) else { return };
    let count = annotations.len();
    OLD.iter().for_each(|key| drop(annotations.remove(key)));
    if count > 0 && annotations.is_empty() {
        metadata.remove("annotations");
    }
}

fn check(template: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    labels::validate_labels(get(template, "metadata.labels"), &path.field("labels"), errors);
    validate_annotations(get(template, "metadata.annotations"), &path.field("annotations"), errors);
    let annotations = get(template, "metadata.annotations");
    pod_annotations::check(annotations, get(template, "spec"), &path.field("annotations"), errors);
}

fn check_last(template: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let annotations = get(template, "metadata.annotations");
    pod_annotations::match_fields(annotations, get(template, "spec"), &path.field("spec"), errors);
    if !list(template, "spec.ephemeralContainers").is_empty() {
        errors.push(
            path.field("spec.ephemeralContainers")
                .forbidden("ephemeral containers not allowed in pod template"),
        );
    }
}

/// What workloads that keep their pods running ask of a template.
pub(super) fn running(template: &Tree, kind: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let policy = text(template, "spec.restartPolicy");
    if !matches!(policy, "" | "Always") {
        errors.push(path.field("spec.restartPolicy").not_supported(policy, &["Always"]));
    }
    if has(template, "spec.activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(path.field("spec.activeDeadlineSeconds").forbidden(&detail));
    }
}

/// The selector must select what the template makes.
pub(super) fn selected(
    selector: &labels::Selector,
    template: &Tree,
    path: &Path<'_>,
    errors: &mut Vec<Cause>,
) {
    let made = get(template, "metadata.labels");
    if !selector.matches_map(made) {
        errors
            .push(path.field("metadata.labels").invalid(made, "`selector` does not match template `labels`"));
    }
}
