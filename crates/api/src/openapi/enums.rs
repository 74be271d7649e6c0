//! Values that fields of an enumerated type may have. `enums.txt` lists them, a field a line: the definition's name,
//! the field's, the values. It does not describe what each value means.

use std::collections::HashMap;
use std::sync::LazyLock;

type Values = Vec<&'static str>;

/// By definition, then by field.
static ENUMS: LazyLock<HashMap<&'static str, HashMap<&'static str, Values>>> = LazyLock::new(|| {
    let mut enums: HashMap<_, HashMap<_, Values>> = HashMap::new();
    for line in include_str!("enums.txt").lines() {
        let mut words = line.splitn(3, ' ');
        if let (Some(definition), Some(field), Some(values)) = (words.next(), words.next(), words.next()) {
            enums.entry(definition).or_default().insert(field, values.split(',').collect());
        }
    }
    enums
});

/// The values of a definition's field, where they are enumerated.
pub(super) fn of(definition: &str, field: &str) -> Option<&'static Values> {
    ENUMS.get(definition)?.get(field)
}

/// Paragraph of a field's description that lists its values.
pub(super) fn paragraph(values: &[&str]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("\n - `\"{value}\"`")).collect();
    format!("\n\nPossible enum values:{}", values.concat())
}

#[cfg(test)]
mod tests {
    /// Every row is a field of the model.
    #[test]
    fn rows_are_the_model_s() {
        let names = super::super::schema::by_openapi_name();
        for (definition, fields) in super::ENUMS.iter() {
            let message = names.get(definition).unwrap();
            let schema = super::super::schema(*message, super::super::Dialect::V3);
            for field in fields.keys() {
                let property = &schema["properties"][field];
                let values = property.get("enum").or_else(|| property["items"].get("enum"));
                assert!(values.is_some(), "{definition} {field}");
            }
        }
    }
}
