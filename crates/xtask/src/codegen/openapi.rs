//! What OpenAPI adds to the Go types: list, map and merge semantics, `required` and defaults.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

#[derive(Default)]
pub struct Facts {
    definitions: HashMap<String, Definition>,
}

#[derive(Default)]
pub struct Definition {
    pub atomic: bool,
    required: Vec<String>,
    properties: HashMap<String, Property>,
}

#[derive(Clone, Default)]
pub struct Property {
    pub list_type: String,
    pub list_keys: Vec<String>,
    pub merge_key: String,
    pub strategy: String,
    pub atomic: bool,
    pub granular: bool,
    pub required: bool,
    /// JSON text; empty for none. Empty strings and objects, which are on every required field, are left out.
    pub default: String,
}

impl Facts {
    pub fn load(specs: &Path) -> Result<Self> {
        let mut facts = Self::default();
        let mut files = vec![specs.join("swagger.json")];
        for entry in std::fs::read_dir(specs.join("v3"))? {
            files.push(entry?.path());
        }
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "json"))
        {
            let document: Value = serde_json::from_str(&std::fs::read_to_string(file)?)
                .with_context(|| file.display().to_string())?;
            let schemas = document.get("definitions").or_else(|| document.pointer("/components/schemas"));
            if let Some(Value::Object(schemas)) = schemas {
                for (name, schema) in schemas {
                    facts.take(name, schema);
                }
            }
        }
        Ok(facts)
    }

    pub fn definition(&self, name: &str) -> Option<&Definition> {
        self.definitions.get(name)
    }

    fn take(&mut self, name: &str, schema: &Value) {
        let definition = self.definitions.entry(name.to_owned()).or_default();
        definition.atomic |= text(schema.get("x-kubernetes-map-type")) == "atomic";
        if let Some(Value::Array(required)) = schema.get("required") {
            definition.required = required.iter().map(|name| text(Some(name))).collect();
        }
        let empty = Map::new();
        for (name, property) in schema.get("properties").and_then(Value::as_object).unwrap_or(&empty) {
            let known = definition.properties.entry(name.clone()).or_default();
            known.list_type = text(property.get("x-kubernetes-list-type"));
            if let Some(Value::Array(keys)) = property.get("x-kubernetes-list-map-keys") {
                known.list_keys = keys.iter().map(|key| text(Some(key))).collect();
            }
            known.merge_key = text(property.get("x-kubernetes-patch-merge-key"));
            known.strategy = text(property.get("x-kubernetes-patch-strategy"));
            known.atomic |= text(property.get("x-kubernetes-map-type")) == "atomic";
            known.granular |= text(property.get("x-kubernetes-map-type")) == "granular";
            if let Some(default) = property.get("default") {
                known.default = default.to_string();
            }
        }
    }
}

impl Definition {
    pub fn property(&self, name: &str) -> Property {
        let mut property = self.properties.get(name).cloned().unwrap_or_default();
        property.required = self.required.iter().any(|required| required == name);
        property
    }
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}
