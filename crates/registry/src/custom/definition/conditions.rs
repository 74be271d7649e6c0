//! The conditions of a definition, and what holds it until its objects are gone.

use api::{Tree, json};

use crate::tree::{ensure, list, text};

/// Of a definition whose objects are yet to be deleted.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// A condition without its time.
pub struct Condition<'c> {
    pub ty: &'c str,
    pub status: &'c str,
    pub reason: &'c str,
    pub message: &'c str,
}

/// Sets a condition; the time is kept while the status is the same.
pub fn set_condition(definition: &mut Tree, condition: &Condition<'_>, now: jiff::Timestamp) {
    let Condition { ty, status, reason, message } = *condition;
    let conditions = ensure(definition, "status").entry("conditions").or_insert(Tree::Null);
    if !conditions.is_array() {
        *conditions = Tree::Array(Vec::new());
    }
    let Tree::Array(conditions) = conditions else { return };
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let own = conditions.iter_mut().find(|own| text(own, "type") == ty);
    match own {
        Some(own) => {
            if text(own, "status") != status {
                own["lastTransitionTime"] = now.into();
            }
            own["status"] = status.into();
            own["reason"] = reason.into();
            own["message"] = message.into();
        }
        None => conditions.push(json!({
            "type": ty, "status": status, "lastTransitionTime": now, "reason": reason, "message": message,
        })),
    }
}

/// Whether a condition of a definition is true.
pub fn is_true(definition: &Tree, condition: &str) -> bool {
    list(definition, "status.conditions")
        .iter()
        .any(|own| text(own, "type") == condition && text(own, "status") == "True")
}
