//! Where a storage class's volumes may be made.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;
use machinery::names;

use crate::rules;
use crate::tree::{get, list, same, text, texts};

pub(super) fn check(terms: &[Tree], errors: &mut Vec<Cause>) {
    let all = Path::new("allowedTopologies");
    for (index, term) in terms.iter().enumerate() {
        let at = all.index(index);
        let path = at.field("matchLabelExpressions");
        let expressions = list(term, "matchLabelExpressions");
        for (index, expression) in expressions.iter().enumerate() {
            let at = path.index(index);
            let key = text(expression, "key");
            let values: Vec<&str> = texts(expression, "values").collect();
            let all = at.field("values");
            if values.is_empty() {
                errors.push(all.required(""));
            }
            for (index, value) in values.iter().enumerate() {
                if values[..index].contains(value) {
                    errors.push(all.index(index).duplicate(*value));
                }
            }
            rules::format(key, names::qualified_name(key), &at.field("key"), errors);
            if expressions[..index].iter().any(|other| text(other, "key") == key) {
                errors.push(at.field("key").duplicate(key));
            }
        }
        let twin =
            |other: &&Tree| same(get(other, "matchLabelExpressions"), get(term, "matchLabelExpressions"));
        if expressions.is_empty() || terms[..index].iter().any(|other| twin(&other)) {
            errors.push(path.duplicate(""));
        }
    }
}
