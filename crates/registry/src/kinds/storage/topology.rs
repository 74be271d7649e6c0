//! Allowed topologies of a storage class.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::names;

use crate::rules;
use crate::tree::{Alike, get, list, text, texts};

pub(super) fn check(terms: &[Tree], errors: &mut Vec<Cause>) {
    let all = Path::new("allowedTopologies");
    let mut seen_terms = Seen::new();
    for (index, term) in terms.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = all.index(index);
        let path = at.field("matchLabelExpressions");
        let expressions = list(term, "matchLabelExpressions");
        let mut seen_keys = Seen::new();
        for (index, expression) in expressions.iter().enumerate() {
            if is_full(errors) {
                break;
            }
            let at = path.index(index);
            let key = text(expression, "key");
            let all = at.field("values");
            if list(expression, "values").is_empty() {
                errors.push(all.required(""));
            }
            let mut seen = Seen::new();
            for (index, value) in texts(expression, "values").enumerate() {
                if is_full(errors) {
                    break;
                }
                if seen.repeats(value) {
                    errors.push(all.index(index).duplicate(value));
                }
            }
            rules::format(key, names::qualified_name(key), &at.field("key"), errors);
            if seen_keys.repeats(key) {
                errors.push(at.field("key").duplicate(key));
            }
        }
        let repeated = seen_terms.repeats(Alike(get(term, "matchLabelExpressions")));
        if expressions.is_empty() || repeated {
            errors.push(path.duplicate(""));
        }
    }
}
