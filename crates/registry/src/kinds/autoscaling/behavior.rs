//! How fast an autoscaler may scale.

use api::Tree;
use api::status::Cause;
use machinery::bounds::is_full;
use machinery::fieldpath::Path;

use crate::kinds::resources;
use crate::rules;
use crate::tree::{get, int, list, number, text};

pub(super) fn check(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let behavior = path.field("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        let (scaling, at) = (get(spec, "behavior").get(direction), behavior.field(direction));
        let Some(scaling) = scaling.filter(|scaling| !scaling.is_null()) else { continue };
        if let Some(window) = int(scaling, "stabilizationWindowSeconds") {
            let at = at.field("stabilizationWindowSeconds");
            if window < 0 {
                errors.push(at.invalid(window, "must be greater than or equal to zero"));
            } else if window > 3600 {
                errors.push(at.invalid(window, "must be less than or equal to 3600"));
            }
        }
        rules::one_of(scaling, "selectPolicy", &["Disabled", "Max", "Min"], &at, errors);
        let policies = list(scaling, "policies");
        let all = at.field("policies");
        if policies.is_empty() {
            errors.push(all.required("must specify at least one Policy"));
        }
        for (index, policy) in policies.iter().enumerate() {
            if is_full(errors) {
                break;
            }
            let (at, kind) = (all.index(index), text(policy, "type"));
            if !matches!(kind, "Percent" | "Pods") {
                errors.push(at.field("type").not_supported(kind, &["Percent", "Pods"]));
            }
            for field in ["value", "periodSeconds"] {
                let value = number(policy, field);
                if value <= 0 {
                    errors.push(at.field(field).invalid(value, "must be greater than zero"));
                }
            }
            let period = number(policy, "periodSeconds");
            if period > 1800 {
                errors.push(at.field("periodSeconds").invalid(period, "must be less than or equal to 1800"));
            }
        }
        resources::not_negative(get(scaling, "tolerance"), &at.field("tolerance"), errors);
    }
}
