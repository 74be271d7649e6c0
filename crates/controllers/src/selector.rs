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

/// Whether every pair of a plain map is among the labels.
pub fn has_all(labels: &Labels, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value.as_str()))
}
