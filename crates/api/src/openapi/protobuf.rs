//! The v2 document as protobuf: gnostic's `openapi.v2.Document`, which kubectl up to 1.26 asks for.
//!
//! Made from the JSON document, so that definitions of custom resources go along. Only what the documents here
//! hold is encoded; vendor extensions travel as YAML text, of which JSON is a part.

use crate::tree::{Object, Tree};

use crate::json;
use crate::wire::{put_bytes, put_nested, put_tag};

/// What a client asks with, and the type of the answer.
pub const ACCEPT: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
pub const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Encodes a v2 document.
pub fn encode(document: &Tree) -> Vec<u8> {
    let mut out = Out(Vec::with_capacity(1 << 20));
    let Some(document) = document.as_object() else { return out.0 };
    out.text(1, document.get("swagger"));
    out.each(2, document.get("info"), |out, info| {
        out.text(1, info.get("title"));
        out.text(2, info.get("version"));
    });
    out.each(8, document.get("paths"), |out, paths| {
        for (name, path) in paths {
            out.named(2, name, path, path_item);
        }
    });
    out.each(9, document.get("definitions"), |out, definitions| {
        for (name, definition) in definitions {
            out.named(1, name, definition, schema);
        }
    });
    for requirement in list(document.get("security")) {
        out.each(12, Some(requirement), |out, requirement| {
            for (name, scopes) in requirement {
                out.message(1, |out| {
                    out.string(1, name);
                    out.message(2, |out| out.texts(1, Some(scopes)));
                });
            }
        });
    }
    out.each(13, document.get("securityDefinitions"), |out, definitions| {
        for (name, definition) in definitions {
            out.named(1, name, definition, |out, definition| {
                out.message(2, |out| {
                    for (tag, field) in [(1, "type"), (2, "name"), (3, "in"), (4, "description")] {
                        out.text(tag, definition.get(field));
                    }
                });
            });
        }
    });
    out.0
}

fn path_item(out: &mut Out, path: &Object) {
    for (tag, method) in
        [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (6, "options"), (7, "head"), (8, "patch")]
    {
        out.each(tag, path.get(method), operation);
    }
    for parameter in list(path.get("parameters")) {
        out.each(9, Some(parameter), parameters_item);
    }
}

fn operation(out: &mut Out, operation: &Object) {
    out.texts(1, operation.get("tags"));
    out.text(3, operation.get("description"));
    out.text(5, operation.get("operationId"));
    out.texts(6, operation.get("produces"));
    out.texts(7, operation.get("consumes"));
    for parameter in list(operation.get("parameters")) {
        out.each(8, Some(parameter), parameters_item);
    }
    out.each(9, operation.get("responses"), |out, responses| {
        for (code, response) in responses {
            out.named(1, code, response, |out, response| {
                out.message(1, |out| {
                    out.text(1, response.get("description"));
                    if let Some(Tree::Object(answer)) = response.get("schema") {
                        out.message(2, |out| out.message(1, |out| schema(out, answer)));
                    }
                });
            });
        }
    });
    out.texts(10, operation.get("schemes"));
    out.extensions(13, operation);
}

fn parameters_item(out: &mut Out, parameter: &Object) {
    let place = parameter.get("in").and_then(Tree::as_str).unwrap_or_default();
    out.message(1, |out| match place {
        "body" => out.message(1, |out| {
            out.text(1, parameter.get("description"));
            out.text(2, parameter.get("name"));
            out.text(3, parameter.get("in"));
            out.flag(4, parameter.get("required"));
            out.each(5, parameter.get("schema"), schema);
        }),
        "path" => out.message(2, |out| {
            out.message(4, |out| {
                out.flag(1, parameter.get("required"));
                for (tag, field) in [(2, "in"), (3, "description"), (4, "name"), (5, "type"), (6, "format")] {
                    out.text(tag, parameter.get(field));
                }
                out.flag(19, parameter.get("uniqueItems"));
            });
        }),
        _ => out.message(2, |out| {
            out.message(3, |out| {
                out.flag(1, parameter.get("required"));
                for (tag, field) in [(2, "in"), (3, "description"), (4, "name"), (6, "type"), (7, "format")] {
                    out.text(tag, parameter.get(field));
                }
                out.flag(20, parameter.get("uniqueItems"));
            });
        }),
    });
}

fn schema(out: &mut Out, object: &Object) {
    for (tag, field) in [(1, "$ref"), (2, "format"), (3, "title"), (4, "description"), (13, "pattern")] {
        out.text(tag, object.get(field));
    }
    if let Some(default) = object.get("default") {
        out.message(5, |out| out.yaml(default));
    }
    out.texts(19, object.get("required"));
    for value in list(object.get("enum")) {
        out.message(20, |out| out.yaml(value));
    }
    match object.get("additionalProperties") {
        Some(Tree::Object(value)) => out.message(21, |out| out.message(1, |out| schema(out, value))),
        Some(Tree::Bool(value)) => out.message(21, |out| out.boolean(2, *value)),
        _ => {}
    }
    if let Some(Tree::String(ty)) = object.get("type") {
        out.message(22, |out| out.string(1, ty));
    }
    if let Some(Tree::Object(items)) = object.get("items") {
        out.message(23, |out| out.message(1, |out| schema(out, items)));
    }
    for part in list(object.get("allOf")) {
        out.each(24, Some(part), schema);
    }
    out.each(25, object.get("properties"), |out, properties| {
        for (name, property) in properties {
            out.named(1, name, property, schema);
        }
    });
    out.extensions(31, object);
}

fn list(value: Option<&Tree>) -> &[Tree] {
    value.and_then(Tree::as_array).map(Vec::as_slice).unwrap_or_default()
}

struct Out(Vec<u8>);

impl Out {
    fn string(&mut self, tag: u32, text: &str) {
        put_tag(tag, 2, &mut self.0);
        put_bytes(text.as_bytes(), &mut self.0);
    }

    fn text(&mut self, tag: u32, value: Option<&Tree>) {
        if let Some(Tree::String(text)) = value
            && !text.is_empty()
        {
            self.string(tag, text);
        }
    }

    fn texts(&mut self, tag: u32, value: Option<&Tree>) {
        for text in list(value).iter().filter_map(Tree::as_str) {
            self.string(tag, text);
        }
    }

    fn boolean(&mut self, tag: u32, value: bool) {
        put_tag(tag, 0, &mut self.0);
        self.0.push(u8::from(value));
    }

    fn flag(&mut self, tag: u32, value: Option<&Tree>) {
        if value == Some(&Tree::Bool(true)) {
            self.boolean(tag, true);
        }
    }

    fn message(&mut self, tag: u32, write: impl FnOnce(&mut Out)) {
        put_tag(tag, 2, &mut self.0);
        let result = put_nested(&mut self.0, |bytes| {
            let mut inner = Out(std::mem::take(bytes));
            write(&mut inner);
            *bytes = inner.0;
            Ok::<(), std::convert::Infallible>(())
        });
        result.unwrap_or_else(|never| match never {});
    }

    /// A message made of an object, where there is one.
    fn each(&mut self, tag: u32, value: Option<&Tree>, write: impl FnOnce(&mut Out, &Object)) {
        if let Some(Tree::Object(object)) = value {
            self.message(tag, |out| write(out, object));
        }
    }

    /// A name with what it stands for.
    fn named(&mut self, tag: u32, name: &str, value: &Tree, write: impl FnOnce(&mut Out, &Object)) {
        self.message(tag, |out| {
            out.string(1, name);
            out.each(2, Some(value), write);
        });
    }

    fn yaml(&mut self, value: &Tree) {
        let mut text = Vec::new();
        json::write(value, &mut text);
        text.push(b'\n');
        put_tag(2, 2, &mut self.0);
        put_bytes(&text, &mut self.0);
    }

    fn extensions(&mut self, tag: u32, object: &Object) {
        for (name, value) in object.iter().filter(|(name, _)| name.starts_with("x-")) {
            self.message(tag, |out| {
                out.string(1, name);
                out.message(2, |out| out.yaml(value));
            });
        }
    }
}
