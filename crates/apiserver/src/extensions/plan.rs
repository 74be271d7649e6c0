//! What the status of a definition is to be, as pure functions of the current state and the time.

use api::Tree;
use api::tree::Object;
use registry::custom::definition::set_condition as set;
use registry::custom::definition::{Approval, Condition, FINALIZER, approval, is_true, violations};
use registry::tree::{ensure, get, list, text, texts};

/// Accepts the names that are free, and says so; `others` are the definitions of the same group. Answers whether anything changed.
pub fn names<'t>(
    definition: &mut Tree,
    others: impl Iterator<Item = &'t Tree>,
    now: jiff::Timestamp,
) -> bool {
    let requested = get(definition, "spec.names").clone();
    let accepted = get(definition, "status.acceptedNames").clone();
    if registry::tree::same(&requested, &accepted) {
        return false;
    }
    let (mut resources, mut kinds) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    for other in others {
        let names = get(other, "status.acceptedNames");
        resources.extend([text(names, "plural"), text(names, "singular")]);
        resources.extend(texts(names, "shortNames"));
        kinds.extend([text(names, "kind"), text(names, "listKind")]);
    }
    let taken = |name: &str| format!("\"{name}\" is already in use");
    let mut conflict: Option<(&str, String)> = None;
    let mut new = accepted.as_object().cloned().unwrap_or_default();
    let mut claim =
        |new: &mut Object, field: &'static str, reason, used: &std::collections::HashSet<&str>| {
            let name = text(&requested, field);
            if name != text(&accepted, field) && used.contains(name) {
                conflict = Some((reason, taken(name)));
            } else {
                new.insert(field, name.into());
            }
        };
    claim(&mut new, "plural", "PluralConflict", &resources);
    claim(&mut new, "singular", "SingularConflict", &resources);
    let own: Vec<&str> = texts(&accepted, "shortNames").collect();
    let refused: Vec<String> = texts(&requested, "shortNames")
        .filter(|name| !own.contains(name) && resources.contains(name))
        .map(taken)
        .collect();
    let mut short = None;
    match refused.as_slice() {
        [] => registry::tree::put(&mut new, "shortNames", get(&requested, "shortNames").clone()),
        [one] => short = Some(("ShortNamesConflict", one.clone())),
        several => short = Some(("ShortNamesConflict", format!("[{}]", several.join(", ")))),
    }
    let mut claim = |new: &mut Object, field: &'static str, reason| {
        let name = text(&requested, field);
        if name != text(&accepted, field) && kinds.contains(name) {
            short = Some((reason, taken(name)));
        } else {
            new.insert(field, name.into());
        }
    };
    claim(&mut new, "kind", "KindConflict");
    claim(&mut new, "listKind", "ListKindConflict");
    registry::tree::put(&mut new, "categories", get(&requested, "categories").clone());
    let conflict = short.or(conflict);
    let before = definition.clone();
    ensure(definition, "status").insert("acceptedNames", Tree::Object(new));
    let (status, reason, message) = match &conflict {
        Some((reason, message)) => ("False", *reason, message.as_str()),
        None => ("True", "NoConflicts", "no conflicts found"),
    };
    set(definition, &Condition { ty: "NamesAccepted", status, reason, message }, now);
    if !is_true(definition, "Established") {
        let accepted = conflict.is_none();
        let known =
            list(definition, "status.conditions").iter().any(|own| text(own, "type") == "Established");
        if accepted || !known {
            let (reason, message) = match accepted {
                true => ("Installing", "the initial names have been accepted"),
                false => ("NotAccepted", "not all names are accepted"),
            };
            set(definition, &Condition { ty: "Established", status: "False", reason, message }, now);
        }
    }
    *definition != before
}

/// Says what is wrong with the schemas and with who approved them. Answers whether anything changed.
pub fn remarks(definition: &mut Tree, now: jiff::Timestamp) -> bool {
    let before = definition.clone();
    match violations(definition) {
        Some((reason, message)) => {
            let status = if reason == "Violations" { "True" } else { "Unknown" };
            let condition = Condition { ty: "NonStructuralSchema", status, reason, message: &message };
            set(definition, &condition, now);
        }
        None => {
            let conditions = ensure(definition, "status").get_mut("conditions").and_then(Tree::as_array_mut);
            if let Some(conditions) = conditions {
                conditions.retain(|own| text(own, "type") != "NonStructuralSchema");
            }
        }
    }
    if let Some((approval, message)) = approval(definition) {
        let (status, reason) = match approval {
            Approval::Invalid => ("False", "InvalidAnnotation"),
            Approval::Missing => ("False", "MissingAnnotation"),
            Approval::Approved => ("True", "ApprovedAnnotation"),
            Approval::Bypassed => ("False", "UnapprovedAnnotation"),
        };
        let ty = "KubernetesAPIApprovalPolicyConformant";
        set(definition, &Condition { ty, status, reason, message: &message }, now);
    }
    *definition != before
}

/// Whether its kinds are served.
pub fn is_served(definition: &Tree) -> bool {
    is_true(definition, "NamesAccepted") || is_true(definition, "Established")
}

/// Says that the kinds are served. Answers whether that is new.
pub fn establish(definition: &mut Tree, now: jiff::Timestamp) -> bool {
    if !is_true(definition, "NamesAccepted") || is_true(definition, "Established") {
        return false;
    }
    let message = "the initial names have been accepted";
    let condition = Condition { ty: "Established", status: "True", reason: "InitialNamesAccepted", message };
    set(definition, &condition, now);
    true
}

/// Whether its objects are to be deleted.
pub fn is_finalizing(definition: &Tree) -> bool {
    registry::tree::has(definition, "metadata.deletionTimestamp")
        && texts(definition, "metadata.finalizers").any(|own| own == FINALIZER)
}

/// Says how the deletion of the objects goes; `done` lets the definition go.
pub fn terminating(definition: &mut Tree, reason: &str, message: &str, done: bool, now: jiff::Timestamp) {
    let status = if done { "False" } else { "True" };
    set(definition, &Condition { ty: "Terminating", status, reason, message }, now);
    if done {
        let finalizers = ensure(definition, "metadata").get_mut("finalizers").and_then(Tree::as_array_mut);
        if let Some(finalizers) = finalizers {
            finalizers.retain(|own| *own != FINALIZER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    fn definition(plural: &str, kind: &str, short: &[&str]) -> Tree {
        json!({"spec": {"group": "g.io", "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind,
            "listKind": format!("{kind}List"), "shortNames": short}}})
    }

    fn condition<'t>(definition: &'t Tree, ty: &str) -> (&'t str, &'t str, &'t str) {
        let own = list(definition, "status.conditions").iter().find(|own| text(own, "type") == ty);
        own.map_or(("", "", ""), |own| (text(own, "status"), text(own, "reason"), text(own, "message")))
    }

    #[test]
    fn names_are_accepted_once() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let mut first = definition("widgets", "Widget", &["w"]);
        assert!(names(&mut first, std::iter::empty(), now));
        assert_eq!(condition(&first, "NamesAccepted"), ("True", "NoConflicts", "no conflicts found"));
        assert_eq!(condition(&first, "Established").1, "Installing");
        assert!(is_served(&first) && establish(&mut first, now) && !establish(&mut first, now));
        let own = first.clone();
        assert!(!names(&mut first, std::iter::once(&own), now));

        let mut second = definition("gadgets", "Widget", &["w", "g"]);
        assert!(names(&mut second, [&own].into_iter(), now));
        let expected = ("False", "ListKindConflict", "\"WidgetList\" is already in use");
        assert_eq!(condition(&second, "NamesAccepted"), expected);
        assert_eq!(condition(&second, "Established").1, "NotAccepted");
        assert_eq!(text(&second, "status.acceptedNames.plural"), "gadgets");
        assert_eq!(text(&second, "status.acceptedNames.kind"), "");
        assert!(!is_served(&second));
        // The names are free again.
        assert!(names(&mut second, std::iter::empty(), now));
        assert_eq!(condition(&second, "NamesAccepted").1, "NoConflicts");
    }
}
