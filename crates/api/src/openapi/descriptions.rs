//! What types and fields are for, out of `k8s-openapi`'s schemas.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::tree::Tree;
use schemars::generate::SchemaSettings;

pub(super) struct Texts {
    pub own: String,
    /// By JSON name.
    pub fields: HashMap<String, String>,
}

static TEXTS: LazyLock<HashMap<String, Texts>> = LazyLock::new(|| {
    let mut generator = SchemaSettings::openapi3().into_generator();
    super::kinds::add_to(&mut generator);
    generator
        .take_definitions(false)
        .into_iter()
        .map(|(name, schema)| (name, texts(&schema.into())))
        .collect()
});

/// By OpenAPI name. Types that `k8s-openapi` lacks have none.
pub(super) fn of(name: &str) -> Option<&'static Texts> {
    TEXTS.get(name)
}

fn texts(schema: &Tree) -> Texts {
    let text = |schema: &Tree| schema.get("description").and_then(Tree::as_str).map(str::to_owned);
    let properties = schema.get("properties").and_then(Tree::as_object);
    Texts {
        own: text(schema).unwrap_or_default(),
        fields: properties
            .into_iter()
            .flatten()
            .filter_map(|(name, property)| Some((name.to_string(), text(property)?)))
            .collect(),
    }
}
