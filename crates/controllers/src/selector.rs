//! Label selectors of typed objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::labels::Selector;

use crate::views::Labels;

/// The selector of a workload: none selects nothing.
pub fn compile(selector: Option<&LabelSelector>) -> Result<Selector, String> {
    match selector {
        None => Ok(Selector::nothing()),
        Some(selector) => {
            let tree = api::Tree::of(selector).map_err(|error| error.to_string())?;
            Selector::from_label_selector(&tree)
        }
    }
}

/// In the form of a query; nothing where there is none.
pub fn query(selector: Option<&LabelSelector>) -> Result<String, String> {
    let Some(selector) = selector else { return Ok(String::new()) };
    let tree = api::Tree::of(selector).map_err(|error| error.to_string())?;
    Ok(machinery::labels::format_label_selector(&tree))
}

/// A selector as upstream's events show it.
pub fn printed(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".to_owned() };
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},"));
    let expressions = selector.match_expressions.iter().flatten().map(|one| {
        let values = one.values.as_deref().unwrap_or_default().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", one.key, one.operator)
    });
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.collect::<String>(),
        expressions.collect::<String>()
    )
}

/// Whether every pair of a plain map is among the labels.
pub fn has_all(labels: &Labels, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value.as_str()))
}
