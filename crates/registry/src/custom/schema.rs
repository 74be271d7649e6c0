//! A schema as it is used: read once from a definition's `openAPIV3Schema`, and kept as long as its kind.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use api::Tree;
use api::model::{ListType, Text};
use regex::Regex;

use super::formats::{self, Format};
use crate::tree::{flag, list, text, texts};

/// The types of a value, by OpenAPI's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    /// `x-kubernetes-int-or-string`.
    IntOrString,
}

impl Type {
    fn of(name: &str) -> Option<Type> {
        Some(match name {
            "object" => Type::Object,
            "array" => Type::Array,
            "string" => Type::String,
            "integer" => Type::Integer,
            "number" => Type::Number,
            "boolean" => Type::Boolean,
            _ => return None,
        })
    }

    /// As messages show it.
    pub fn name(self) -> &'static str {
        match self {
            Type::Object => "object",
            Type::Array => "array",
            Type::String => "string",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::Boolean => "boolean",
            Type::IntOrString => "integer,string",
        }
    }
}

/// What `additionalProperties` allows.
#[derive(Debug)]
pub enum Additional {
    Any(bool),
    Schema(Box<Schema>),
}

/// The schema of a value. What few schemas have lies apart.
#[derive(Debug, Default)]
pub struct Schema {
    pub ty: Option<Type>,
    pub nullable: bool,
    /// Unknown fields are kept.
    pub preserves: bool,
    pub embedded: bool,
    /// Apply owns the map as a whole.
    pub atomic: bool,
    pub list: ListType,
    pub properties: BTreeMap<Box<str>, Schema>,
    pub additional: Option<Additional>,
    pub items: Option<Box<Schema>>,
    pub list_keys: Box<[Text]>,
    pub default: Option<Box<Tree>>,
    pub required: Box<[Box<str>]>,
    pub checks: Option<Box<Checks>>,
}

/// What a value must be beside its type.
#[derive(Debug, Default)]
pub struct Checks {
    pub format: Option<Format>,
    pub minimum: Option<f64>,
    pub maximum: Option<f64>,
    pub exclusive_minimum: bool,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    pub min_length: Option<i64>,
    pub max_length: Option<i64>,
    pub pattern: Option<Pattern>,
    pub min_items: Option<i64>,
    pub max_items: Option<i64>,
    pub unique: bool,
    pub min_properties: Option<i64>,
    pub max_properties: Option<i64>,
    pub values: Vec<Tree>,
    pub all: Vec<Schema>,
    pub any: Vec<Schema>,
    pub one: Vec<Schema>,
    pub not: Option<Schema>,
}

/// A regular expression as it was written, and compiled, where it can be, when it is first asked for: a definition can have thousands,
/// each much larger compiled than written.
#[derive(Debug)]
pub struct Pattern {
    pub text: Box<str>,
    compiled: OnceLock<Result<Regex, String>>,
}

impl Schema {
    /// The schema that a definition has as JSON.
    pub fn of(tree: &Tree) -> Schema {
        let int_or_string = flag(tree, "x-kubernetes-int-or-string");
        let ty = if int_or_string { Some(Type::IntOrString) } else { Type::of(text(tree, "type")) };
        let properties = tree.get("properties").and_then(Tree::as_object);
        let named =
            |(name, tree): (&api::tree::CompactString, &Tree)| (name.as_str().into(), Schema::of(tree));
        Schema {
            ty,
            nullable: flag(tree, "nullable"),
            preserves: flag(tree, "x-kubernetes-preserve-unknown-fields"),
            embedded: flag(tree, "x-kubernetes-embedded-resource"),
            atomic: text(tree, "x-kubernetes-map-type") == "atomic",
            list: match text(tree, "x-kubernetes-list-type") {
                "set" => ListType::Set,
                "map" => ListType::Map,
                _ => ListType::Atomic,
            },
            properties: properties.into_iter().flatten().map(named).collect(),
            additional: match tree.get("additionalProperties") {
                None | Some(Tree::Null) => None,
                Some(Tree::Bool(allows)) => Some(Additional::Any(*allows)),
                Some(schema) => Some(Additional::Schema(Box::new(Schema::of(schema)))),
            },
            items: tree
                .get("items")
                .filter(|items| items.is_object())
                .map(|items| Box::new(Schema::of(items))),
            list_keys: texts(tree, "x-kubernetes-list-map-keys")
                .map(|key| Text::from(key.to_owned()))
                .collect(),
            default: tree.get("default").filter(|default| !default.is_null()).cloned().map(Box::new),
            required: texts(tree, "required").map(Into::into).collect(),
            checks: Checks::of(tree, ty),
        }
    }

    /// The schema of a member, where the schema has one.
    pub fn member(&self, name: &str) -> Option<&Schema> {
        match (self.properties.get(name), &self.additional) {
            (Some(schema), _) => Some(schema),
            (None, Some(Additional::Schema(schema))) => Some(schema),
            _ => None,
        }
    }
}

impl Checks {
    fn of(tree: &Tree, ty: Option<Type>) -> Option<Box<Checks>> {
        let number = |name: &str| tree.get(name).and_then(Tree::as_f64);
        let count = |name: &str| tree.get(name).and_then(Tree::as_i64);
        let some = |name: &str| list(tree, name).iter().map(Schema::of).collect::<Vec<_>>();
        let pattern = text(tree, "pattern");
        let checks = Checks {
            format: formats::of(text(tree, "format"), ty),
            minimum: number("minimum"),
            maximum: number("maximum"),
            exclusive_minimum: flag(tree, "exclusiveMinimum"),
            exclusive_maximum: flag(tree, "exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            pattern: (!pattern.is_empty()).then(|| Pattern::new(pattern)),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique: flag(tree, "uniqueItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            values: list(tree, "enum").to_vec(),
            all: some("allOf"),
            any: some("anyOf"),
            one: some("oneOf"),
            not: tree.get("not").filter(|not| not.is_object()).map(Schema::of),
        };
        const KEYS: [&str; 18] = [
            "format",
            "minimum",
            "maximum",
            "multipleOf",
            "minLength",
            "maxLength",
            "pattern",
            "minItems",
            "maxItems",
            "uniqueItems",
            "minProperties",
            "maxProperties",
            "enum",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "exclusiveMinimum",
        ];
        let any = KEYS.iter().any(|key| tree.get(*key).is_some_and(|value| !value.is_null()));
        any.then(|| Box::new(checks))
    }
}

impl Pattern {
    fn new(text: &str) -> Pattern {
        Pattern { text: text.into(), compiled: OnceLock::new() }
    }

    /// As Go reads it: `\d` and the like are ASCII's.
    pub fn compiled(&self) -> &Result<Regex, String> {
        self.compiled.get_or_init(|| cel::library::re2(&self.text))
    }
}
